"""Keys, seed, audit, restarts: the life of an issuer."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from boathouse.apps.tokens.persistence.database import HEAD
from boathouse.apps.tokens.persistence.schema import metadata
from boathouse.apps.tokens.settings import load
from boathouse.errors import AuthError
from boathouse.testing.scratch import free_port
from boathouse.testing.wait import wait_for
from boathouse.wlcg.keys import KeyCache
from boathouse.wlcg.verify import Verifier

from .conftest import BOB, STORAGE, Issuer, Start

CLIENT = {"grant_type": "client_credentials", "scope": "storage.read:/lake", "audience": STORAGE}


def kids(issuer: Issuer) -> list[str]:
    return [key["kid"] for key in issuer.request("GET", "/jwk").json["keys"]]


def header(token: str) -> dict[str, Any]:
    part = token.partition(".")[0]
    return dict(json.loads(base64.urlsafe_b64decode(part + "==")))


def test_a_key_is_published_before_it_signs_and_kept_after(start_issuer: Start) -> None:
    issuer = start_issuer(key_activation_s=8)
    verifier = Verifier(issuer.url, STORAGE, issuer.ca, keys=KeyCache(issuer.url, issuer.ca, retry_s=0))
    before = issuer.token("rucio", **CLIENT)["access_token"]
    verifier.verify(before)
    assert issuer.command("rotate").returncode == 0
    old, new = wait_for("the new key", lambda: found if len(found := kids(issuer)) == 2 else None)
    assert header(before)["kid"] == old
    assert [key["kid"] for key in json.loads((issuer.keys / "jwks.json").read_text())["keys"]] == [old, new]
    tokens = []

    def signs() -> bool:
        tokens.append(issuer.token("rucio", **CLIENT)["access_token"])
        return bool(header(tokens[-1])["kid"] == new)

    wait_for("the new key signs", signs)
    assert len(tokens) > 1, "it did not sign at once"
    for token in (before, *tokens):
        assert verifier.verify(token).sub == "rucio"
        assert issuer.post("/introspect", "rucio", token=token).json["active"]


def test_private_keys_are_private_and_survive_a_restart(start_issuer: Start) -> None:
    issuer = start_issuer()
    for name in ("keyring.json", "secrets.key"):
        assert (issuer.keys / name).stat().st_mode & 0o777 == 0o600
    assert issuer.keys.stat().st_mode & 0o777 == 0o700
    token = issuer.token("rucio", **CLIENT)["access_token"]
    restart(issuer)
    assert issuer.verify(token, STORAGE).sub == "rucio"
    assert issuer.token("rucio", **CLIENT)["access_token"]


def restart(issuer: Issuer) -> float:
    """Stop and start the process; seconds of processor time to the first answer, which other programs do not change."""
    issuer.stop()
    issuer.start()
    # User and system time are fields 14 and 15 of proc_pid_stat(5); the name before them may hold spaces.
    fields = Path(f"/proc/{issuer.process.pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_verification_goes_on_while_the_issuer_is_down(start_issuer: Start) -> None:
    issuer = start_issuer()
    verifier = Verifier(issuer.url, STORAGE, issuer.ca)
    token = issuer.token("rucio", **CLIENT)["access_token"]
    verifier.verify(token)
    issuer.stop()
    assert verifier.verify(token).covers("storage.read:/lake/cms/file")
    issuer.start()


def test_keys_made_anew_under_the_same_issuer_are_found(start_issuer: Start) -> None:
    issuer = start_issuer()
    verifier = Verifier(issuer.url, STORAGE, issuer.ca, keys=KeyCache(issuer.url, issuer.ca, retry_s=0))
    old = issuer.token("rucio", **CLIENT)["access_token"]
    verifier.verify(old)
    (issuer.keys / "keyring.json").unlink()
    restart(issuer)
    assert verifier.verify(issuer.token("rucio", **CLIENT)["access_token"]).sub == "rucio"
    with pytest.raises(AuthError):
        verifier.verify(old)


def test_rs256(start_issuer: Start) -> None:
    issuer = start_issuer(signing_algorithm="RS256")
    token = issuer.token("rucio", **CLIENT)["access_token"]
    assert header(token)["alg"] == "RS256"
    assert issuer.verify(token, STORAGE).sub == "rucio"


def test_the_seed_changes_nothing_the_second_time(start_issuer: Start) -> None:
    issuer = start_issuer()
    seeded = "SELECT count(*) FROM audit WHERE event = 'seed.applied'"
    wait_for("the first seed", lambda: issuer.sql(seeded) == [(1,)])
    rows = issuer.sql("SELECT xmin, login FROM users ORDER BY login")
    issuer.sql("INSERT INTO policies (effect, scope, account) VALUES ('PERMIT', 'storage.read:/other', 'bob')")
    issuer.reload(lambda _: None)
    assert issuer.sql(seeded) == [(1,)]
    assert issuer.sql("SELECT xmin, login FROM users ORDER BY login") == rows
    reply = issuer.device_login("bob", scope="storage.read:/")
    assert "storage.read:/other" in reply["scope"].split(), "what an administrator made stays"

    def change(document: dict[str, Any]) -> None:
        document["users"][1]["password"] = "another password"
        document["clients"] = [client for client in document["clients"] if client["client_id"] != "plain"]

    issuer.reload(change)
    wait_for("the change", lambda: issuer.sql(seeded) == [(2,)])
    assert issuer.browser().sign_in("bob", "another password").status == 303
    assert issuer.browser().sign_in("bob").status == 401
    assert issuer.post("/token", "plain", grant_type="client_credentials").status == 401


def test_who_leaves_the_facility_file_leaves_nothing_to_the_next_one(start_issuer: Start) -> None:
    """Neither the next person with that login gets anything, nor the next group of that name."""
    issuer = start_issuer()
    bob = issuer.browser("bob")
    held = issuer.device_login("bob", scope="openid offline_access storage.read:/")
    issuer.sql(
        "INSERT INTO policies (effect, scope, account) VALUES ('PERMIT', 'storage.read:/other', 'bob'),"
        " ('PERMIT', 'storage.read:/other', 'alice')"
    )
    issuer.sql("INSERT INTO policies (effect, scope, grp) VALUES ('PERMIT', 'storage.read:/rare', '/escape/rare')")
    for table, columns, values in (
        ("groups", "name, optional", "'/escape/rare', false"),
        ("members", "sub, grp, position", f"'{BOB}', '/escape/magic', 9"),
        ("managers", "sub, grp", f"'{BOB}', '/escape/magic'"),
        ("consents", "sub, client_id, scope, given_at", f"'{BOB}', 'browser', 'openid', 1"),
        ("identities", "iss, subject, sub, linked_at", f"'https://other.example', 'x', '{BOB}', 1"),
    ):
        issuer.sql(f"INSERT INTO {table} ({columns}) VALUES ({values})")
    issuer.sql("UPDATE groups SET owner = 'seed' WHERE name = '/escape/rare'")
    assert "storage.read:/other" in issuer.device_login("bob", scope="storage.read:/")["scope"].split()
    document = json.loads(issuer.seed.read_text())

    def drop(seed: dict[str, Any]) -> None:
        seed["users"] = [user for user in seed["users"] if user["login"] != "bob"]
        seed["policies"] = [policy for policy in seed["policies"] if policy.get("account") != "bob"]

    issuer.reload(drop)
    assert issuer.sql("SELECT login, active FROM users WHERE sub = %s", BOB) == [(BOB, False)]
    assert issuer.sql("SELECT 1 FROM identities WHERE sub = %s", BOB), "no way back by a provider's door"
    # The facility gives a login its subject again: nothing but that may be the same.
    issuer.reload(lambda seed: seed.update(document))
    assert bob.get("/account").status == 303
    issuer.refused("boathouse", 400, "invalid_grant", grant_type="refresh_token", refresh_token=held["refresh_token"])
    fresh = issuer.browser()
    assert fresh.sign_in("bob").status == 303
    assert issuer.sql("SELECT grp FROM members WHERE sub = %s ORDER BY grp", BOB) == [("/escape",), ("/escape/cms",)]
    assert issuer.sql("SELECT count(*) FROM managers") == [(0,)]
    assert issuer.sql("SELECT account FROM policies WHERE scope = 'storage.read:/other'") == [("alice",)]
    assert issuer.sql("SELECT count(*) FROM groups WHERE name = '/escape/rare'") == [(0,)]
    assert issuer.sql("SELECT count(*) FROM policies WHERE grp = '/escape/rare'") == [(0,)]
    events = {row[0] for row in issuer.sql("SELECT event FROM audit WHERE detail ->> 'who' = 'facility file'")}
    assert {"member.removed", "manager.removed", "policy.removed", "group.removed"} <= events
    assert issuer.command("audit-verify").returncode == 0


def test_a_wrong_seed_changes_nothing_and_the_issuer_goes_on(start_issuer: Start) -> None:
    issuer = start_issuer()
    document = json.loads(issuer.seed.read_text())
    document["users"][0]["groups"] = ["/escape/nowhere"]
    document["users"][0]["password"] = "the-secret-itself"
    document["clients"] = []
    issuer.seed.write_text(json.dumps(document))
    issuer.process.send_signal(signal.SIGHUP)
    wait_for("the complaint", lambda: "nothing was reloaded" in issuer.log)
    assert "no group /escape/nowhere" in issuer.log
    assert "the-secret-itself" not in issuer.log
    assert issuer.token("rucio", **CLIENT)


def test_every_token_is_in_the_audit_log_and_the_chain_shows_tampering(start_issuer: Start) -> None:
    issuer = start_issuer()
    reply = issuer.token("rucio", **CLIENT)
    claims = issuer.verify(reply["access_token"], STORAGE)
    issuer.refused("rucio", 400, "invalid_scope", grant_type="client_credentials", scope="storage.read")
    (detail,) = issuer.sql("SELECT detail FROM audit WHERE event = 'token.issued'")[0]
    assert re.fullmatch("[0-9a-f]{16}", detail.pop("request"))
    assert detail == {
        "grant": "client_credentials",
        "client": "rucio",
        "sub": "rucio",
        "jti": claims.jti,
        "exp": claims.exp,
        "audience": STORAGE,
        "scope": "storage.read:/lake",
        "requested": "storage.read:/lake",
        "address": "127.0.0.1",
    }
    refused = "SELECT detail->>'reason' FROM audit WHERE event = 'token.refused'"
    assert wait_for("the refusal", lambda: issuer.sql(refused))[0][0].startswith("invalid_scope: a storage scope")
    assert issuer.command("audit-verify").returncode == 0
    with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
        issuer.sql("UPDATE audit SET event = 'nothing'")
    with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
        issuer.sql("DELETE FROM audit")
    issuer.sql("ALTER TABLE audit DISABLE TRIGGER ALL; DELETE FROM audit WHERE event = 'token.issued'")
    verdict = issuer.command("audit-verify")
    assert verdict.returncode == 6
    assert "tampered" in verdict.stderr


def test_two_processes_serve_one_database(start_issuer: Start) -> None:
    issuer = start_issuer()
    port = free_port()
    other = Issuer(issuer.units, f"{issuer.name}-twin", f"https://localhost:{port}")
    issuer.units.variant(issuer.name, other.name, port=port)
    other.start()
    try:
        for asked in (issuer, other) * 5:
            token = asked.token("rucio", **CLIENT)["access_token"]
            assert issuer.verify(token, STORAGE).iss == issuer.url
        assert issuer.command("audit-verify").returncode == 0
    finally:
        other.stop()


def test_a_database_that_drops_connections_costs_no_request(start_issuer: Start) -> None:
    issuer = start_issuer()
    issuer.token("rucio", **CLIENT)
    issuer.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
        issuer.name,
    )
    assert issuer.post("/token", "rucio", **CLIENT).status == 200


def test_a_renewed_certificate_is_served_after_a_hangup(start_issuer: Start) -> None:
    issuer = start_issuer()

    def served() -> str:
        port = urlsplit(issuer.url).port
        assert port
        return ssl.get_server_certificate(("127.0.0.1", port), ca_certs=str(issuer.ca))

    before = served()
    for path in issuer.units.tls("tokens"):
        path.unlink()
    issuer.units.certify()
    assert served() == before
    issuer.reload(lambda _: None)
    assert served() != before
    assert issuer.token("rucio", **CLIENT)


def test_the_migrations_make_the_tables_that_the_code_wants(issuer: Issuer) -> None:
    settings = load(issuer.config)
    engine = create_engine(settings.database_url.get_secret_value())
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == HEAD
    engine.dispose()


def test_a_database_of_a_newer_version_is_left_alone(start_issuer: Start) -> None:
    issuer = start_issuer()
    issuer.stop()
    issuer.sql("UPDATE alembic_version SET version_num = '9999'")
    result = issuer.command("serve")
    assert result.returncode == 5
    assert "unknown version" in result.stderr
    assert "Traceback" not in result.stderr


def test_it_starts_fast(start_issuer: Start) -> None:
    issuer = start_issuer()
    assert min(restart(issuer) for _ in range(2)) < 3.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"issuer": "https://localhost:1/path"}, "without path"),
        ({"issuer": "http://localhost"}, "https://host"),
        ({"token_lifetime_s": 100000}, "token_lifetime_s"),
        ({"suprise": 1}, "suprise"),
        ({"database_url": 3}, "database_url"),
    ],
)
def test_wrong_settings_are_named(issuer: Issuer, change: dict[str, Any], words: str) -> None:
    config = issuer.config.with_name("wrong.json")
    config.write_text(json.dumps(json.loads(issuer.config.read_text()) | change))
    result = issuer.command("serve", config)
    assert result.returncode == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr
