from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from boathouse.cli.common import given_state, hint
from boathouse.cli.doctor import addressed
from boathouse.cli.main import _report
from boathouse.errors import CatalogueError, FacilityError, PartialError
from boathouse.run.doctor.finding import warn


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


def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: CatalogueError, *words: str):
    """An error as scripts and as people are told it."""
    monkeypatch.setattr(sys, "argv", ["boathouse", "ls", "--json", *words])
    _report(error)
    captured = capsys.readouterr()
    return json.loads(captured.out), captured.err


def test_scripts_are_told_the_remedy_that_people_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    error = CatalogueError("no answer", got="boathouse ls", remedy="boathouse status")
    other = tmp_path / "other"
    document, text = told(monkeypatch, capsys, error, "--state", str(other))
    assert document["remedy"] == f"boathouse status --state {other}"
    assert f"remedy: {document['remedy']}" in text
    assert document["got"] == "boathouse ls"
    document, _ = told(monkeypatch, capsys, error)
    assert document["remedy"] == "boathouse status"


def test_remedies_of_the_parts_of_an_error_are_told_in_the_same_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    parts = (CatalogueError("one", remedy="boathouse ls"), CatalogueError("two"))
    state = str(tmp_path / "other")
    for error, key in (
        (PartialError("some", failures=parts), "failures"),
        (FacilityError("x", problems=parts), "problems"),
    ):
        document, _ = told(monkeypatch, capsys, error, f"--state={state}")
        assert [part["remedy"] for part in document[key]] == [f"boathouse ls --state {state}", None]


def test_the_doctor_names_the_facility_that_it_looked_at(tmp_path: Path) -> None:
    finding = addressed(warn("it is down", "boathouse up"), tmp_path / "other")
    assert finding.remedy == f"boathouse up --state {tmp_path / 'other'}"
