"""The list of tokens that count no more: who gets into it, who may read it, and how soon those who wait learn of it."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import urllib3
from sqlalchemy.exc import OperationalError

from boathouse.apps.tokens.passwords import Hasher
from boathouse.apps.tokens.persistence import database
from boathouse.apps.tokens.settings import load
from boathouse.apps.tokens.signing.keys import KeyRing
from boathouse.apps.tokens.signing.rotation import denier
from boathouse.run.local.account import child_environment
from boathouse.testing.postgres import Databases
from boathouse.testing.wait import wait_for
from boathouse.wlcg.verify import kid_of

from .conftest import ALICE, BOB, SECRETS, STORAGE, CodeFlow, Issuer, Start

CLIENT = {"grant_type": "client_credentials", "scope": "storage.read:/lake/cms", "audience": STORAGE}


def denials(issuer: Issuer, after: int = 0, wait: int = 0) -> dict[str, Any]:
    headers = urllib3.make_headers(basic_auth=f"rucio:{SECRETS['rucio']}")
    answer = issuer.request("GET", f"/denials?after={after}&wait={wait}", headers=headers)
    assert answer.status == 200, answer.text
    return answer.json


def told(issuer: Issuer, change: Callable[[], object]) -> tuple[list[dict[str, Any]], float]:
    """What those who wait are told of a change, and how many seconds after it was done."""
    version = denials(issuer)["version"]
    with ThreadPoolExecutor(1) as pool:
        waiting: Future[dict[str, Any]] = pool.submit(denials, issuer, version, 60)
        change()
        changed_at = time.monotonic()
        news = waiting.result(90)["denied"]
    return [{"kind": entry["kind"], "key": entry["key"]} for entry in news], time.monotonic() - changed_at


def test_whoever_is_switched_off_is_in_the_list_at_once(start_issuer: Start) -> None:
    issuer = start_issuer()
    token = issuer.device_login("bob", scope="openid offline_access")
    news, delay_s = told(issuer, lambda: issuer.sql("UPDATE users SET active = false WHERE login = 'bob'"))
    assert news == [{"kind": "subject", "key": BOB}]
    assert delay_s < 30, "not only when the time is over for which they wait"
    claims = issuer.verify(token["access_token"], STORAGE)
    (entry,) = denials(issuer)["denied"]
    assert claims.raw["iat"] <= entry["issued_until"] <= time.time() + 1
    assert entry["expires_at"] >= claims.exp
    assert not issuer.post("/introspect", "rucio", token=token["access_token"]).json["active"]
    issuer.sql("UPDATE users SET active = true WHERE login = 'bob'")
    dead = issuer.post("/introspect", "rucio", token=token["access_token"])
    assert not dead.json["active"], "a token from before stays dead"
    wait_for("the second of the denial is over", lambda: time.time() > entry["issued_until"] + 1)
    refreshed = issuer.token("boathouse", grant_type="refresh_token", refresh_token=token["refresh_token"])
    assert issuer.post("/introspect", "rucio", token=refreshed["access_token"]).json["active"]
    assert denials(issuer)["denied"] == [entry], "to switch somebody on again denies nothing"


def test_revoked_clients_tokens_and_consents_are_in_the_list(start_issuer: Start) -> None:
    issuer = start_issuer()
    news, _ = told(issuer, lambda: issuer.sql("UPDATE clients SET active = false WHERE client_id = 'plain'"))
    assert news == [{"kind": "client", "key": "plain"}]
    news, _ = told(issuer, lambda: issuer.sql("DELETE FROM clients WHERE client_id = 'bounded'"))
    assert news == [{"kind": "client", "key": "bounded"}]
    token = issuer.token("transfers", **CLIENT)["access_token"]
    news, _ = told(issuer, lambda: issuer.post("/revoke", "transfers", token=token))
    assert news == [{"kind": "token", "key": issuer.verify(token, STORAGE).jti}]
    issuer.device_login("alice", scope="openid offline_access")
    alice = issuer.browser("alice")
    csrf = re.findall(r'name="csrf" value="([^"]*)"', alice.get("/account").text)[0]
    withdraw = {"csrf": csrf, "do": "withdraw", "client_id": "boathouse"}
    news, _ = told(issuer, lambda: alice.post("/account", **withdraw))
    assert news == [{"kind": "grant", "key": f"{ALICE} boathouse"}]
    news, _ = told(issuer, lambda: issuer.sql("UPDATE clients SET suspended = true WHERE client_id = 'transfers'"))
    assert news == [{"kind": "client", "key": "transfers"}]


def test_a_stolen_refresh_token_takes_the_access_tokens_with_it(start_issuer: Start) -> None:
    issuer = start_issuer(refresh_grace_s=0)
    first = CodeFlow(issuer, "rucio").tokens()
    refresh = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    second = issuer.token("rucio", **refresh)
    assert issuer.post("/introspect", "plain", token=second["access_token"]).json["active"]
    issuer.refused("rucio", 400, "invalid_grant", **refresh)
    assert not issuer.post("/introspect", "plain", token=second["access_token"]).json["active"]


def test_only_confidential_clients_may_read_it_and_they_wait_no_longer_than_they_want(issuer: Issuer) -> None:
    assert issuer.request("GET", "/denials").status == 401
    assert issuer.request("GET", "/denials", headers=urllib3.make_headers(basic_auth="rucio:wrong")).status == 401
    assert issuer.request("GET", "/denials", headers=urllib3.make_headers(basic_auth="boathouse:")).status == 401
    good = urllib3.make_headers(basic_auth=f"rucio:{SECRETS['rucio']}")
    for wrong in ("after=-1", "after=1e3", "wait=x", f"after={'9' * 16}"):
        assert issuer.request("GET", f"/denials?{wrong}", headers=good).status == 400
    version = denials(issuer)["version"]
    began = time.monotonic()
    assert denials(issuer, version, wait=1) == {"version": version, "denied": []}
    assert time.monotonic() - began > 0.9


def test_a_number_of_another_database_gets_the_whole_list(start_issuer: Start) -> None:
    issuer = start_issuer()
    assert denials(issuer, after=1000) == {"version": 0, "denied": []}
    issuer.sql("UPDATE clients SET active = false WHERE client_id = 'plain'")
    assert [entry["key"] for entry in denials(issuer, after=1000)["denied"]] == ["plain"]


def test_those_who_wait_do_not_hold_up_the_end(start_issuer: Start) -> None:
    issuer = start_issuer()
    asking = threading.Event()

    def wait() -> dict[str, Any]:
        denials(issuer)
        asking.set()
        return denials(issuer, wait=60)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait)
        assert asking.wait(60)
        # By the time that these are answered, the other one waits.
        assert all(issuer.token("plain", **CLIENT) for _ in range(20))
        assert not waiting.done()
        began = time.monotonic()
        issuer.stop()
        assert time.monotonic() - began < 45, "they wait for a minute"
        assert waiting.result(60) == {"version": 0, "denied": []}
    assert "Cancel 1" not in issuer.log


def emergency(issuer: Issuer) -> subprocess.Popen[bytes]:
    """The command that withdraws all keys, begun."""
    units = issuer.units
    program = (str(units.context.programs.python), "-m", "boathouse.apps.tokens")
    return subprocess.Popen(
        (*program, "rotate", "--emergency", "--config", str(issuer.config)),
        env=child_environment(units.state.account, units.state.layout.run, {}),
        cwd=units.state.layout.root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **units.state.account.popen_arguments(),
    )


def test_keys_are_denied_although_their_withdrawal_was_interrupted(start_issuer: Start) -> None:
    """Whoever stole a key gains nothing by the death of the command: the issuer ends what it began."""
    issuer = start_issuer()
    stolen = issuer.token("transfers", **CLIENT)["access_token"]
    issuer.stop()
    ring = issuer.keys / "keyring.json"
    with Databases(issuer.units).connect(issuer.name) as connection, connection.transaction():
        # So it cannot come to its end before it is killed.
        connection.execute("LOCK TABLE denials IN EXCLUSIVE MODE")
        command = emergency(issuer)
        wait_for("the keys are withdrawn", lambda: '"withdrawn": true' in ring.read_text())
        command.kill()
        assert command.wait() == -signal.SIGKILL
    issuer.start()
    (entry,) = wait_for("they are denied", lambda: denials(issuer)["denied"])
    assert (entry["kind"], entry["key"]) == ("key", kid_of(stolen))
    assert not issuer.post("/introspect", "plain", token=stolen).json["active"]
    assert issuer.sql("SELECT count(*) FROM audit WHERE event = 'key.withdrawn'") == [(1,)]
    wait_for("the stolen key is forgotten", lambda: str(kid_of(stolen)) not in ring.read_text())


def test_keys_are_withdrawn_by_the_command_and_denied_once(start_issuer: Start) -> None:
    issuer = start_issuer()
    stolen = issuer.token("transfers", **CLIENT)["access_token"]
    assert emergency(issuer).wait(180) == 0
    (entry,) = denials(issuer)["denied"]
    assert (entry["kind"], entry["key"]) == ("key", kid_of(stolen))
    assert kid_of(issuer.token("transfers", **CLIENT)["access_token"]) != kid_of(stolen)
    assert issuer.command("audit-verify").returncode == 0


def test_a_list_that_is_locked_keeps_whoever_denies_for_seconds_only(start_issuer: Start) -> None:
    """All processes wait for the key ring meanwhile."""
    issuer = start_issuer()
    engine = database.connect(load(issuer.config))
    deny = denier(engine, Hasher.load(issuer.keys / "secrets.key"))
    with Databases(issuer.units).connect(issuer.name) as connection, connection.transaction():
        connection.execute("LOCK TABLE denials IN EXCLUSIVE MODE")
        with pytest.raises(OperationalError, match="statement timeout"):
            deny(KeyRing(issuer.keys, "ES256").keys())
    engine.dispose()
    assert denials(issuer)["denied"] == []
