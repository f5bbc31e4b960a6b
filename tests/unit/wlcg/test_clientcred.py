"""When a client asks again for a token, and when it makes do with the one that it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from boathouse.errors import ServiceError
from boathouse.wlcg import http
from boathouse.wlcg.clientcred import ClientCredentials


class Client(ClientCredentials):
    """A client whose issuer counts, and may be down."""

    def __init__(self, life_s: float, left: float = 0.0) -> None:
        super().__init__("https://issuer.example", "me", "secret", None, left=left, clock=lambda: self.now)
        self.now, self.asked, self.down = 1000.0, 0, False
        self.told: dict[str, Any] = {"expires_in": life_s}
        self.tried: list[float] = []

    def _ask(self, form: Mapping[str, str]) -> dict[str, Any]:
        self.tried.append(self.now)
        if self.down:
            raise ServiceError("down")
        self.asked += 1
        return {"access_token": f"{form['audience']}-{self.asked}", **self.told}


@pytest.mark.parametrize(
    ("life_s", "left", "good_for_s"), [(3600, 0, 3540), (90, 0, 60), (3600, 0.5, 1800), (90, 0.1, 60)]
)
def test_a_token_serves_until_shortly_before_its_end(life_s: float, left: float, good_for_s: float) -> None:
    """Or until too little of its life is left for who shows it for long."""
    client = Client(life_s, left)
    assert client.token("a", "s") == "a-1"
    client.now += good_for_s - 1
    assert client.token("a", "s") == "a-1"
    client.now += 1
    assert client.token("a", "s") == "a-2"


@pytest.mark.parametrize("told", [{}, {"expires_in": None}, {"expires_in": 0}, {"expires_in": "soon"}])
def test_a_token_whose_life_is_not_told_serves_for_some_minutes(told: dict[str, Any]) -> None:
    client = Client(0)
    client.told = told
    assert client.token("a", "s") == "a-1"
    client.now += 200
    assert client.token("a", "s") == "a-1"
    client.now += 100
    assert client.token("a", "s") == "a-2"


def test_an_issuer_without_a_token_endpoint_is_a_fault_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "discover", lambda *_: {"issuer": "https://issuer.example", "token_endpoint": None})
    client = ClientCredentials("https://issuer.example", "me", "secret", None)
    with pytest.raises(ServiceError, match="gives no tokens"):
        client.token("a", "s")


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
    client.now += 2
    assert client.token("a", "s") == "a-2"


def test_an_issuer_that_is_away_is_asked_ever_more_rarely_though_callers_ask_every_second() -> None:
    client = Client(3600)
    client.down = True
    for _ in range(75):
        with pytest.raises(ServiceError, match="down"):
            client.token("a", "s")
        client.now += 1
    began = client.tried[0]
    assert [at - began for at in client.tried] == [0, 1, 3, 7, 15, 31, 51, 71]
    client.down = False
    client.now = client.tried[-1] + 20
    assert client.token("a", "s") == "a-1"
    client.down = True
    client.now += 3600
    with pytest.raises(ServiceError):
        client.token("a", "s")
    client.now += 1
    client.down = False
    assert client.token("a", "s") == "a-2", "the next outage begins with short waits again"
