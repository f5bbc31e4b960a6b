"""Tests that end badly leave nothing running."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from boathouse.plan.model import Unit
from boathouse.run.local import files
from boathouse.run.local.account import service_account
from boathouse.run.local.state import State, create_or_open
from boathouse.run.local.supervise import marked_processes
from boathouse.testing import faults, processes
from boathouse.testing.processes import Processes
from boathouse.testing.scratch import scratch


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    # Enough for those that want to end, on a busy machine too.
    monkeypatch.setattr(processes, "_STOP_S", 5.0)


@pytest.fixture
def state() -> Iterator[State]:
    with scratch() as base:
        made = create_or_open(base / "state", "small", service_account())
        files.prepare_state(made)
        yield made


def started(state: State, *units: Unit) -> Processes:
    made = Processes(state, {unit.name: unit for unit in units}, {})
    made.start(*made.units)
    return made


def reports(state: State) -> Path:
    return state.layout.run / "faults"


def test_each_unit_that_does_not_end_is_named_and_killed(state: State) -> None:
    place = reports(state)
    units = started(state, faults.stubborn("a", place), faults.good("b", place), faults.stubborn("c", place))
    with pytest.raises(AssertionError, match=r"(?s)a did not end.*c did not end") as caught, units:
        units.stop("a", "b", "c")
    assert "b did not end" not in str(caught.value)
    assert marked_processes(state.facility_id) == {}


def test_children_that_a_unit_leaves_are_named_and_killed(state: State) -> None:
    unit = faults.good("a", reports(state))
    command = ("sh", "-c", 'tail -f /dev/null & exec "$@"', "sh", *unit.command)
    with pytest.raises(AssertionError, match=r"left, and killed: tail"), started(state, replace(unit, command=command)):
        pass
    assert marked_processes(state.facility_id) == {}
