from __future__ import annotations

import json
import os
import pwd
from pathlib import Path

import pytest

from boathouse.errors import StateError
from boathouse.run.local import state as states
from boathouse.run.local.account import Account

_ME = pwd.getpwuid(os.geteuid())
ME = Account(_ME.pw_name, _ME.pw_uid, _ME.pw_gid, switch=False)


def test_a_new_directory_gets_an_identity_that_it_keeps(tmp_path: Path) -> None:
    first = states.create_or_open(tmp_path / "state", "laptop", ME)
    assert states.create_or_open(tmp_path / "state", "laptop", ME).facility_id == first.facility_id
    assert states.create_or_open(tmp_path / "other", "laptop", ME).facility_id != first.facility_id


def test_a_path_that_services_trip_over_gets_a_short_link(tmp_path: Path) -> None:
    made = states.create_or_open(tmp_path / "my lake's state", "laptop", ME)
    assert " " not in str(made.layout.root)
    assert made.layout.root.readlink() == made.path
    states.forget_link(made)
    assert not made.layout.root.is_symlink()


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda path: (path / "thesis.tex").write_text("x"), "not empty and not a state directory"),
        (lambda path: (path / "state.json").write_text("{"), "cannot be read"),
        (
            lambda path: (path / "state.json").write_text(json.dumps({"version": 99, "id": "x", "facility": "laptop"})),
            "another version of Boathouse",
        ),
        (
            lambda path: (path / "state.json").write_text(json.dumps({"version": 1, "id": "x", "facility": "escape"})),
            "belongs to another facility, escape",
        ),
    ],
)
def test_a_directory_that_is_not_ours_is_refused_with_the_reason(tmp_path: Path, prepare, message: str) -> None:  # type: ignore[no-untyped-def]
    prepare(tmp_path)
    with pytest.raises(StateError, match=message) as caught:
        states.create_or_open(tmp_path, "laptop", ME)
    assert caught.value.where


def test_opening_what_is_not_there_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="no facility here") as caught:
        states.open_existing(tmp_path, ME)
    assert caught.value.remedy == "boathouse up"
