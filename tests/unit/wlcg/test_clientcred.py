"""When a client asks again for a token, and when it makes do with the one that it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from boathouse.errors import ServiceError
from boathouse.wlcg.clientcred import ClientCredentials


class Client(ClientCredentials):
    """A client whose issuer counts, and may be down."""

    def __init__(self, life_s: float) -> None:
        super().__init__("https://issuer.example", "me", "secret", None, clock=lambda: self.now)
        self.now, self.life_s, self.asked, self.down = 1000.0, life_s, 0, False

    def _ask(self, form: Mapping[str, str]) -> dict[str, Any]:
        if self.down:
            raise ServiceError("down")
        self.asked += 1
        return {"access_token": f"{form['audience']}-{self.asked}", "expires_in": self.life_s}


@pytest.mark.parametrize(("life_s", "good_for_s"), [(3600, 3540), (90, 60)])
def test_a_token_serves_until_shortly_before_its_end(life_s: float, good_for_s: float) -> None:
    client = Client(life_s)
    assert client.token("a", "s") == "a-1"
    client.now += good_for_s - 1
    assert client.token("a", "s") == "a-1"
    client.now += 1
    assert client.token("a", "s") == "a-2"


def test_each_audience_and_scope_has_its_own() -> None:
    client = Client(3600)
    assert [client.token("a", "s"), client.token("b", "s"), client.token("a", "t")] == ["a-1", "b-2", "a-3"]


def test_the_old_token_bridges_an_outage_to_its_end() -> None:
    client = Client(300)
    client.token("a", "s")
    client.now += 250
    client.down = True
    assert client.token("a", "s") == "a-1"
    client.now += 50
    with pytest.raises(ServiceError):
        client.token("a", "s")
    client.down = False
    assert client.token("a", "s") == "a-2"
