"""A facility on this machine: from a facility file and a state directory to a plan and its runner."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from boathouse.errors import FacilityError, HostError, InputError, StateError
from boathouse.facility.faults import nearest
from boathouse.facility.load import load
from boathouse.facility.model import Facility
from boathouse.plan.build import build, port_requests
from boathouse.plan.model import Plan
from boathouse.run import programs as installed
from boathouse.run.base import Progress
from boathouse.run.local import ports
from boathouse.run.local.account import service_account
from boathouse.run.local.runner import LocalRunner
from boathouse.run.local.state import State, create_or_open, open_existing, write_public
from boathouse.run.local.supervise import marked_processes
from boathouse.services.registry import drivers
from boathouse.units import format_bytes

_FIRST_START_BYTES = 1_000_000_000
"""What an empty facility and its logs take, on top of the reserve."""


@dataclass(frozen=True)
class LocalFacility:
    """A facility with its plan, its state directory and its runner."""

    facility: Facility
    state: State
    plan: Plan
    runner: LocalRunner

    def up(self, progress: Progress | None = None) -> None:
        """Make it run; see :meth:`boathouse.run.base.Runner.apply`."""
        self.runner.apply(self.plan, progress)

    def down(self, progress: Progress | None = None) -> int:
        """Stop it; see :meth:`boathouse.run.base.Runner.stop`."""
        return self.runner.stop(self.plan, progress)


def example(name: str) -> Path:
    """A facility file that is shipped with Boathouse.

    Raises:
        InputError: there is none of that name.
    """
    folder = Path(str(resources.files("boathouse"))) / "examples"
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = sorted(found.stem for found in folder.glob("*.yaml"))
        raise InputError(
            "no such facility file",
            expected=f"a path, or one of {', '.join(known)}",
            got=name,
            remedy=f"boathouse up {nearest(name, known) or known[-1]}",
        )
    return path


def locate(given: str | None, state_path: Path) -> Path:
    """The facility file that a user means: a path, the name of an example, or the one that is kept in the state."""
    if given is not None:
        return Path(given) if Path(given).exists() or given.endswith((".yaml", ".yml")) else example(given)
    kept = state_path / "facility.yaml"
    return kept if kept.exists() else example("laptop")


def prepare(facility_file: Path, state_path: Path) -> LocalFacility:
    """Everything that ``up`` does before it starts anything: read, check, choose ports, plan.

    Raises:
        FacilityError: the facility file is wrong; all its problems at once.
        HostError: this machine lacks something for it; all of that at once.
        StateError: the state directory cannot be used.
    """
    facility = load(facility_file)
    programs = installed.load(installed.home())
    account = service_account()
    state = create_or_open(state_path, facility.name, account)
    requests = port_requests(facility, drivers())
    ports_file = state.path / "ports.json"
    chosen = ports.choose(requests, ports.load(ports_file), seed=_seed(state.path))
    if not marked_processes(state.facility_id):
        problems = (*ports.check_free(requests, chosen), *_check_disk(facility, state.path))
        if problems:
            raise HostError(
                "this machine cannot run the facility as it is", problems=problems, where=str(facility_file)
            )
    ports.save(ports_file, chosen)
    text = facility_file.read_text(encoding="utf-8")
    write_public(state.facility_file, text)
    return _assemble(facility, state, chosen, LocalRunner(state, programs))


def open_facility(state_path: Path) -> LocalFacility:
    """The facility of a state directory, as it was last brought up.

    Raises:
        StateError: there is none, or its files cannot be read.
    """
    state = open_existing(state_path, service_account())
    try:
        facility = load(state.facility_file)
    except (OSError, FacilityError) as error:
        raise StateError(
            "the facility file kept in the state directory cannot be read",
            got=str(error),
            where=str(state.facility_file),
            remedy="boathouse up FILE",
        ) from error
    # A newer Boathouse may want ports that the last `up` did not choose yet: `down` and `status` work all the same.
    kept = ports.load(state.path / "ports.json")
    chosen = ports.choose(port_requests(facility, drivers()), kept, seed=_seed(state.path))
    return _assemble(facility, state, chosen, LocalRunner(state, installed.load(installed.home())))


def _assemble(facility: Facility, state: State, chosen: Mapping[str, int], runner: LocalRunner) -> LocalFacility:
    plan = build(
        facility, drivers(), layout=state.layout, programs=installed.load(installed.home()), ports=dict(chosen)
    )
    return LocalFacility(facility, state, plan, runner)


def _seed(path: Path) -> int:
    return int.from_bytes(hashlib.sha256(os.fsencode(path)).digest()[:4])


def _check_disk(facility: Facility, path: Path) -> tuple[HostError, ...]:
    free = shutil.disk_usage(path).free
    needed = facility.services.disk_reserve + _FIRST_START_BYTES
    if free >= needed:
        return ()
    return (
        HostError(
            "too little disk",
            expected=f"{format_bytes(needed)} free, of which services.disk_reserve keeps "
            f"{format_bytes(facility.services.disk_reserve)}",
            got=f"{format_bytes(free)} free",
            where=str(path),
            remedy="make room, or choose another disk with --state",
        ),
    )
