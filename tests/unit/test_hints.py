from __future__ import annotations

from pathlib import Path

import pytest

from boathouse.cli.common import given_state, hint


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("BOATHOUSE_HOME", str(tmp_path))
    monkeypatch.delenv("BOATHOUSE_PROGRAM", raising=False)
    monkeypatch.delenv("BOATHOUSE_STATE", raising=False)
    return tmp_path


def test_the_default_facility_needs_no_option(installed: Path) -> None:
    assert hint("boathouse up", installed / "state") == "boathouse up"
    assert hint("boathouse logs rucio; boathouse doctor") == "boathouse logs rucio; boathouse doctor"


def test_another_facility_is_named_in_every_command(tmp_path: Path) -> None:
    state = tmp_path / "my lake"
    assert hint("boathouse logs rucio; boathouse doctor", state) == (
        f"boathouse logs --state '{state}' rucio; boathouse doctor --state '{state}'"
    )
    assert hint("boathouse rule show ID", state) == f"boathouse rule show --state '{state}' ID"
    assert hint('eval "$(boathouse env)"', state) == f"eval \"$(boathouse env --state '{state}')\""


def test_commands_without_a_facility_and_other_words_stay(tmp_path: Path) -> None:
    for text in ("boathouse sample", "boathouse facility check FILE", "below /var/lib/boathouse", "boathouse.invalid"):
        assert hint(text, tmp_path / "other") == text


def test_the_launcher_of_a_checkout_is_called_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOATHOUSE_PROGRAM", "./boathouse")
    assert hint("boathouse up") == "./boathouse up"


@pytest.mark.parametrize(
    ("arguments", "state"),
    [
        (["status", "--state", "/a b"], Path("/a b")),
        (["status", "--state=/a"], Path("/a")),
        (["status"], None),
        (["status", "--state"], None),
    ],
)
def test_the_state_of_a_command_line(arguments: list[str], state: Path | None) -> None:
    assert given_state(arguments) == state
