"""Exchanges of tokens: one at a time, none too early, and none of what was revoked."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from boathouse.apps.transfers import jwt
from boathouse.apps.transfers.failures import CopyError, Side
from boathouse.apps.transfers.renewal import Renewal
from boathouse.apps.transfers.settings import Settings
from boathouse.apps.transfers.work import Token, denied, unsigned
from boathouse.testing.https import Handler, HttpsServer
from boathouse.testing.pki import Authority
from boathouse.testing.scratch import free_port

ADDRESS = "127.0.1.22"
ELEMENT = f"{ADDRESS}:1094"
LIFE_S = 3600
MARGIN_S = 600.0


def signed(issuer: str, jti: str, *, left_s: float, life_s: float = LIFE_S, client: str = "rucio") -> str:
    """A token that nobody looks at the signature of."""
    end = datetime.now(UTC).timestamp() + left_s
    claims = {"iss": issuer, "sub": "alice", "client_id": client, "jti": jti, "aud": ADDRESS, "scope": "storage.read:/"}
    parts = ({"kid": "k"}, {**claims, "iat": end - life_s, "exp": end})
    return ".".join([*(base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts), "signature"])


class Issuer(HttpsServer):
    """Exchanges any token for one that lives as long as it says, with a ``jti`` and a client of its own."""

    def __init__(self, authority: Authority) -> None:
        port = free_port(ADDRESS)
        super().__init__(partial(_Exchanges, issuer=self), ADDRESS, port, authority.certificate("issuer", ADDRESS))
        self.life_s: float = LIFE_S
        self.status = 200
        self.exchanged = 0


class _Exchanges(Handler):
    def __init__(self, *args: Any, issuer: Issuer) -> None:
        self.of = issuer
        super().__init__(*args)

    def respond(self) -> None:
        self.body()
        if self.command == "GET":
            self.answer({"token_endpoint": f"{self.of.url}/token"})
            return
        if self.of.status != 200:
            self.answer({"error": "some"}, self.of.status)
            return
        self.of.exchanged += 1
        jti, life_s = f"successor {self.of.exchanged}", self.of.life_s
        token = signed(self.of.url, jti, left_s=life_s, life_s=life_s, client="transfers")
        self.answer({"access_token": token})


class Rows:
    """Tokens as a database keeps them; counts who looks at once, and can be shut."""

    def __init__(self) -> None:
        self.kept: dict[int, Token] = {}
        self.looks = self.most = 0
        self.looked, self.open = asyncio.Event(), asyncio.Event()
        self.open.set()

    async def current(self, token: Token) -> Token | None:
        self.looks += 1
        self.most = max(self.most, self.looks)
        self.looked.set()
        await self.open.wait()
        self.looks -= 1
        return self.kept.get(token.token_id)

    async def store(self, token: Token, value: str) -> Token:
        fresh = replace(token, value=value, expires_at=jwt.expiry(value))
        self.kept[token.token_id] = fresh
        return fresh


@dataclass
class Revoked:
    """The issuer's list: names of tokens."""

    names: set[str] = field(default_factory=set)
    informed: bool = True

    def denied(self, token: str) -> str | None:
        return "it was revoked" if jwt.payload(token)["jti"] in self.names else None


@pytest.fixture
def issuer(authority: Authority) -> Iterator[Issuer]:
    made = Issuer(authority)
    made.start()
    yield made
    made.stop()


@pytest.fixture
async def rows() -> Rows:
    return Rows()


@pytest.fixture
def revoked() -> Revoked:
    return Revoked()


@pytest.fixture
async def renewal(issuer: Issuer, authority: Authority, rows: Rows, revoked: Revoked) -> AsyncIterator[Renewal]:
    chain, _ = authority.certificate("issuer", ADDRESS)
    settings = Settings.model_validate(
        {
            "listen_address": "127.0.0.2",
            "port": 8446,
            "certificate": "/pki/t.pem",
            "key": "/pki/t.key",
            "database_url": "postgresql+psycopg://transfers:secret@/transfers?host=/run/pg",
            "issuer": issuer.url,
            "ca_file": str(chain.parent / "ca.pem"),
            "audience": "127.0.0.2",
            "vo": "escape",
            "client_id": "transfers",
            "client_secret": "very secret",
            "store_key": base64.urlsafe_b64encode(bytes(32)).decode(),
            "destinations": [ELEMENT],
            "limits": {"renew_s": MARGIN_S},
        }
    )
    made = Renewal(settings, rows.current, rows.store, revoked)
    yield made
    await made.close()


def token(issuer: Issuer, number: int = 1, **times: float) -> Token:
    value = signed(issuer.url, f"submitted {number}", **{"left_s": 60.0, **times})
    return Token(number, "job", ELEMENT, value, jwt.expiry(value), "alice")


async def test_what_a_token_was_exchanged_for_is_denied_with_it(
    renewal: Renewal, issuer: Issuer, revoked: Revoked
) -> None:
    """Its name is of the successors no more, and the list knows that one only; however often it was exchanged."""
    first = token(issuer)
    second = await renewal.usable(first, Side.SOURCE, MARGIN_S)
    assert second
    third = await renewal.usable(replace(second, expires_at=datetime.now(UTC)), Side.SOURCE, MARGIN_S)
    assert third
    revoked.names = {"another"}
    assert [denied(revoked, each) for each in (first, second, third)] == [None] * 3
    revoked.names = {"submitted 1"}
    assert [denied(revoked, each) for each in (first, second, third)] == ["it was revoked"] * 3
    revoked.names = {"successor 1"}
    assert [denied(revoked, each) for each in (first, second, third)] == [None, "it was revoked", None]


def test_what_is_kept_of_a_submitted_token_opens_nothing(issuer: Issuer) -> None:
    value = token(issuer).value
    assert "signature" not in unsigned(value)
    assert (jwt.payload(unsigned(value)), jwt.key_name(unsigned(value))) == (jwt.payload(value), "k")
    assert unsigned("opaque") == ""


async def test_a_successor_of_a_revoked_token_is_not_exchanged_however_short_the_list_remembers(
    renewal: Renewal, issuer: Issuer, rows: Rows, revoked: Revoked
) -> None:
    await renewal.ahead([token(issuer)])
    ended = replace(rows.kept[1], expires_at=datetime.now(UTC))
    for names in ({"submitted 1"}, set[str]()):
        revoked.names = names
        with pytest.raises(CopyError, match="it counts no more: it was revoked") as refused:
            await renewal.usable(ended, Side.SOURCE, MARGIN_S)
        assert not refused.value.failure.again
        assert denied(revoked, rows.kept[1]) == "it was revoked"
    assert issuer.exchanged == 1


async def test_who_only_asks_after_a_successor_has_its_end_remembered_too(
    renewal: Renewal, issuer: Issuer, rows: Rows, revoked: Revoked
) -> None:
    await renewal.ahead([token(issuer)])
    assert await renewal.denied(rows.kept[1]) is None
    revoked.names = {"submitted 1"}
    assert await renewal.denied(rows.kept[1]) == "it was revoked"
    revoked.names = set()
    assert await renewal.denied(rows.kept[1]) == "it was revoked"
    assert await renewal.denied(token(issuer)) is None


async def test_waits_for_the_list_in_a_thread(renewal: Renewal, issuer: Issuer, revoked: Revoked) -> None:
    revoked.informed, revoked.names = False, {"submitted 1"}
    assert await renewal.ahead([token(issuer)]) == 0
    assert (renewal.refused, issuer.exchanged) == ((1,), 0)


async def test_a_token_that_is_never_exchanged_is_left_alone_until_it_ends(
    renewal: Renewal, issuer: Issuer, revoked: Revoked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others would wait behind thousands of such ones; what is the issuer's own fault is over some time."""
    monkeypatch.setattr("boathouse.apps.transfers.renewal._ASK_AGAIN", timedelta(0))
    revoked.names = {"submitted 3"}
    assert await renewal.ahead([replace(token(issuer, 2), owner="bob"), token(issuer, 3), token(issuer)]) == 1
    assert renewal.refused == (2, 3)
    for number, issuer.status in ((4, 400), (5, 401), (6, 503)):
        assert await renewal.ahead([token(issuer, number)]) == 0
    assert renewal.refused == (2, 3, 4)
    issuer.status = 200
    assert await renewal.ahead([token(issuer, number) for number in range(2, 7)]) == 2


@pytest.mark.parametrize("issued_at", [None, "1", float("nan"), 10**400, -(10**400), True])
async def test_a_token_may_say_anything_of_when_it_was_issued(
    renewal: Renewal, issuer: Issuer, issued_at: object
) -> None:
    head, body, tail = token(issuer).value.split(".")
    claims = {**json.loads(base64.urlsafe_b64decode(body)), "iat": issued_at}
    value = ".".join((head, base64.urlsafe_b64encode(json.dumps(claims).encode()).decode(), tail))
    assert await renewal.ahead([replace(token(issuer), value=value)]) == 1


async def test_a_round_ends_where_the_issuer_cannot_be_reached(
    renewal: Renewal, issuer: Issuer, rows: Rows, caplog: pytest.LogCaptureFixture
) -> None:
    """Each of the others would wait for it as long; and all are asked for again in the next round."""
    issuer.stop()
    tokens = [token(issuer, number) for number in range(3)]
    assert await renewal.ahead(tokens) == 0
    assert [record.message.split()[0] for record in caplog.records] == ["token=0"]
    assert renewal.refused == ()
    issuer.start()
    assert await renewal.ahead(tokens) == 3


@pytest.mark.parametrize(("left_s", "exchanged"), [(200.0, 0), (100.0, 1)])
async def test_a_short_token_is_exchanged_in_the_second_half_of_its_life(
    renewal: Renewal, issuer: Issuer, left_s: float, exchanged: int
) -> None:
    """Where all live for less than what is to be left, each successor would be exchanged in the next round."""
    assert await renewal.ahead([token(issuer, left_s=left_s, life_s=300.0)]) == exchanged


async def test_a_successor_that_lives_for_a_shorter_time_than_is_wanted_is_used(
    renewal: Renewal, issuer: Issuer
) -> None:
    issuer.life_s = 50.0
    used = await renewal.usable(token(issuer, left_s=10.0), Side.SOURCE, 60.0)
    assert await renewal.usable(used, Side.SOURCE, 60.0) is used
    assert issuer.exchanged == 1


async def test_a_token_is_exchanged_by_one_at_a_time_whoever_waits(
    renewal: Renewal, issuer: Issuer, rows: Rows
) -> None:
    """Somebody who comes when the first one has ended, and before the second one goes on, waits for that one."""
    ended = token(issuer, left_s=1.0)
    rows.kept[1] = token(issuer, left_s=LIFE_S)
    rows.open.clear()

    async def twice() -> None:
        await renewal.usable(ended, Side.SOURCE, MARGIN_S)
        rows.open.clear()
        await renewal.usable(ended, Side.SOURCE, MARGIN_S)

    first = asyncio.create_task(twice())
    second = asyncio.create_task(renewal.usable(ended, Side.SOURCE, MARGIN_S))
    for _ in range(2):
        await rows.looked.wait()
        rows.looked.clear()
        rows.open.set()
    await asyncio.gather(first, second)
    assert rows.most == 1
