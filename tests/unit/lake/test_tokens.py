"""A service's own token while its issuer goes and comes back."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import urllib3

from boathouse.errors import ServiceError
from boathouse.lake import tokens
from boathouse.lake.http import PATIENT, Http
from boathouse.lake.tokens import Issuer

URL = "https://issuer.example"


class World(Http):
    """Connections to an issuer that may be down, which need none."""

    def __init__(self) -> None:
        self.down = False
        self.given = 0
        self.asked: list[Any] = []

    def request(self, method: str, url: str, **how: Any) -> urllib3.BaseHTTPResponse:
        self.asked.append(how["retry"])
        if self.down:
            raise ServiceError("the server does not answer", got="Connection refused", remedy="boathouse status")
        if method == "GET":
            body = f'{{"issuer": "{URL}", "token_endpoint": "{URL}/token"}}'
        else:
            self.given += 1
            body = f'{{"access_token": "token-{self.given}", "expires_in": 90}}'
        return urllib3.HTTPResponse(body.encode(), status=200)


def test_a_service_token_bridges_an_outage_and_then_the_issuer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_800_000_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    (tmp_path / "secret").write_text("s")
    world = World()
    token = Issuer(URL, world).client("me", tmp_path / "secret", audiences=("a",))
    assert token() == "token-1"
    world.down = True
    world.asked.clear()
    for _ in range(89):
        now += 1
        assert token() == "token-1"
    assert 2 <= len(world.asked) <= 6, "ever more rarely"
    assert set(world.asked) == {tokens.ONCE}, "nobody waits while there is a token"
    now += 1
    with pytest.raises(ServiceError, match="token issuer cannot be reached") as told:
        token()
    assert (told.value.where, told.value.remedy) == (URL, "boathouse status")
    assert "does not answer: Connection refused" in str(told.value.got)
    world.down = False
    assert token() == "token-2"
    assert PATIENT not in world.asked
