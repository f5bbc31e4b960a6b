from __future__ import annotations

import stat
from pathlib import Path

import pytest

from boathouse.errors import InputError
from boathouse.plan.model import Secret, SecretKind
from boathouse.run.local import secrets
from boathouse.run.local.account import Account

ME = Account("me", 0, 0, switch=False)
WANTED = [Secret("db"), Secret("password-alice", SecretKind.phrase), Secret("sub-alice", SecretKind.uuid)]


def test_secrets_are_made_once_and_readable_by_their_owner_only(tmp_path: Path) -> None:
    first = secrets.ensure(WANTED, tmp_path, ME)
    assert secrets.ensure(WANTED, tmp_path, ME) == first
    assert len(set(first.values())) == 3
    assert all(stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600 for name in first)


def test_a_secret_of_the_operator_is_copied_at_each_start(tmp_path: Path) -> None:
    source, kept = tmp_path / "theirs", tmp_path / "kept"
    kept.mkdir()
    wanted = [Secret("provider", source=source)]
    source.write_text("first\n")
    assert secrets.ensure(wanted, kept, ME) == {"provider": "first"}
    source.write_text("second\n")
    assert secrets.ensure(wanted, kept, ME) == {"provider": "second"}
    assert (kept / "provider").read_text() == "second"
    assert stat.S_IMODE((kept / "provider").stat().st_mode) == 0o600
    source.write_text(" \n")
    with pytest.raises(InputError, match="is empty"):
        secrets.ensure(wanted, kept, ME)
    source.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        secrets.ensure(wanted, kept, ME)


def test_placeholders_are_filled_plainly_or_for_a_url() -> None:
    values = {"db": "a/b c"}
    assert secrets.fill("x=${secret:db} y=${quoted-secret:db} ${other}", values) == "x=a/b c y=a%2Fb%20c ${other}"


def test_a_name_that_no_driver_planned_is_an_error() -> None:
    with pytest.raises(KeyError, match="ghost"):
        secrets.fill("${secret:ghost}", {})
