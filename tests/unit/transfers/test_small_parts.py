from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from boathouse.apps.serving import load
from boathouse.apps.transfers import diagnosis, jwt, tables, views
from boathouse.apps.transfers.auth import Gate
from boathouse.apps.transfers.intake import Who
from boathouse.apps.transfers.seal import Seal
from boathouse.apps.transfers.settings import Settings
from boathouse.errors import AuthError, InputError
from boathouse.testing.pki import Authority

NESTED = f"e30.{base64.urlsafe_b64encode(b'[' * 6000).decode().rstrip('=')}.x"
KEY = base64.urlsafe_b64encode(bytes(32)).decode()
SETTINGS = {
    "listen_address": "127.0.0.2",
    "port": 8446,
    "certificate": "/pki/t.pem",
    "key": "/pki/t.key",
    "database_url": "postgresql+psycopg://transfers:secret@/transfers?host=/run/pg",
    "issuer": "https://localhost:1",
    "ca_file": "/pki/bundle.pem",
    "audience": "127.0.0.2",
    "vo": "escape",
    "client_id": "transfers",
    "client_secret": "very secret",
    "store_key": KEY,
}


def test_a_sealed_token_opens_for_its_job_and_host_only() -> None:
    seal = Seal(KEY)
    closed = seal.close("token", "job", "host")
    assert b"token" not in closed
    assert seal.close("token", "job", "host") != closed
    assert seal.open(closed, "job", "host") == "token"
    other = Seal(base64.urlsafe_b64encode(bytes([1] * 32)).decode().rstrip("="))
    for opener, job, host in ((seal, "job2", "host"), (seal, "job", "evil"), (other, "job", "host")):
        with pytest.raises(AuthError):
            opener.open(closed, job, host)
    with pytest.raises(AuthError):
        seal.open(closed[:-1], "job", "host")


def test_settings_are_read_once_and_keep_their_secrets(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps({**SETTINGS, "store_key": KEY.rstrip("=")}))
    settings = load(Settings, path)
    assert settings.limits.per_link >= 1
    shown = repr(settings)
    for secret in ("very secret", "transfers:secret", KEY.rstrip("=")):
        assert secret not in shown


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"prot": 1}, "prot"),
        ({"limits": {"per_lnik": 1}}, "limits.per_lnik"),
        ({"limits": {"active": 0}}, "limits.active"),
        (
            {"limits": {"digest_from_bytes": 2, "digest_to_bytes": 1}},
            "digest_from_bytes must be at most digest_to_bytes",
        ),
        ({"store_key": "c2hvcnQ"}, "store_key: Value error, must encode 32 bytes"),
        ({"database_url": "sqlite:///very-secret"}, "database_url"),
    ],
)
def test_unfit_settings_are_named(tmp_path: Path, change: dict[str, object], named: str) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps({**SETTINGS, **change}))
    with pytest.raises(InputError) as caught:
        load(Settings, path)
    assert named in str(caught.value)
    assert "very-secret" not in str(caught.value)


def test_settings_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        load(Settings, tmp_path / "none.json")


def token(**claims: object) -> str:
    return f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.x"


def test_the_end_of_a_token() -> None:
    assert jwt.expiry(token(exp=1795199517)) == datetime(2026, 11, 20, 18, 31, 57, tzinfo=UTC)
    odds = ("opaque", "a.b.c", token(), token(exp="soon"), token(exp=True), token(exp=1e30), "e30.W10.x", NESTED)
    for odd in odds:
        assert jwt.expiry(odd) is None


def test_a_caller_with_a_deeply_nested_token_is_refused_as_any_other(tmp_path: Path) -> None:
    Authority(tmp_path)
    gate = Gate(Settings.model_validate({**SETTINGS, "ca_file": str(tmp_path / "ca.pem")}))
    with pytest.raises(AuthError, match="the token was refused"):
        gate.caller(f"Bearer {NESTED}")


def test_times_have_no_fraction_and_no_zone() -> None:
    assert views.timestamp(None) is None
    moment = datetime(2026, 11, 20, 12, 0, 0, 999999, tzinfo=UTC)
    assert views.timestamp(moment) == "2026-11-20T12:00:00"


def test_a_file_is_shown_from_no_more_columns_than_its_fields_need() -> None:
    row = {**dict.fromkeys(tables.files.c.keys()), "vo_name": "escape", "file_state": "SUBMITTED", "spent": 1}
    row |= {"source_surl": "davs://a:1094/lake/f", "dest_surl": "davs://b:1094/lake/f", "filesize": 7}
    whole = views.file(row)
    assert set(whole) == set(views.FILE_FIELDS)
    assert (whole["source_se"], whole["dest_se"], whole["retry"]) == ("davs://a:1094", "davs://b:1094", 1)
    assert views.file({**row, "file_state": "FINISHED"})["retry"] == 0
    for field in views.FILE_FIELDS:
        columns = views.file_columns([field])
        assert views.file({name: row[name] for name in columns}, fields=[field]) == {field: whole[field]}
    assert views.file(row, held=True) == {**whole, "file_state": views.ON_HOLD}
    assert views.file(row, held=True, fields=["filesize"]) == {"filesize": 7}


def test_what_a_file_awaits() -> None:
    now = datetime.now(UTC)
    row = {
        "file_state": "SUBMITTED",
        "busy": False,
        "source_host": "a",
        "dest_host": "b",
        "not_before": now,
        "clean_at": None,
        "transferred": 7,
        "vo_name": "escape",
    }
    assert diagnosis.awaits(row, {}, now) == "a free slot from a to b"
    assert "next attempt" in str(diagnosis.awaits({**row, "not_before": now + timedelta(minutes=1)}, {}, now))
    assert "7 bytes" in str(diagnosis.awaits({**row, "file_state": "ACTIVE", "busy": True}, {}, now))
    assert "removal" in str(diagnosis.awaits({**row, "file_state": "CANCELED", "busy": True}, {}, now))
    assert diagnosis.awaits({**row, "file_state": "FINISHED"}, {}, now) is None
    trouble = {"b": {"paused_until": now, "reason": "refused"}}
    assert str(diagnosis.awaits(row, trouble, now)).endswith("refused")


def test_whoever_comes_finds_some_of_a_room_left() -> None:
    room, taken = 5000, 0
    shares = []
    for number in range(8):
        # The worst that can come: each takes all that it may, a service among them.
        who = Who(f"person {number}", "client", "escape", service=number == 3)
        shares.append(who.share(room, others=taken))
        taken += shares[-1]
    assert shares == [2500, 1250, 625, 500, 62, 31, 16, 8]
    assert Who("rucio", "rucio", "escape", service=True).share(room, others=0) == 4000
    assert Who("alice", "cli", "escape", service=False).share(room, others=room + 1) == 0
