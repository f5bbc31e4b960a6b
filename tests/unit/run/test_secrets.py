from __future__ import annotations

import stat
from pathlib import Path

import pytest

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


def test_placeholders_are_filled_plainly_or_for_a_url() -> None:
    values = {"db": "a/b c"}
    assert secrets.fill("x=${secret:db} y=${quoted-secret:db} ${other}", values) == "x=a/b c y=a%2Fb%20c ${other}"


def test_a_name_that_no_driver_planned_is_an_error() -> None:
    with pytest.raises(KeyError, match="ghost"):
        secrets.fill("${secret:ghost}", {})
