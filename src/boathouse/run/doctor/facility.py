"""A facility in its state directory: version, secrets, certificates, ports, units."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from datetime import UTC, datetime

from boathouse.plan.build import port_requests
from boathouse.run import pki
from boathouse.run.base import UnitState
from boathouse.run.doctor.finding import Finding, Patient, fail, ok, warn
from boathouse.run.facility import LocalFacility, open_facility
from boathouse.run.local import ports
from boathouse.run.local.account import service_account
from boathouse.run.local.state import open_existing
from boathouse.services.registry import drivers
from boathouse.units import format_seconds


def state(patient: Patient) -> Iterator[Finding]:
    """The state directory is of this version and can be reached."""
    opened = open_existing(patient.state, service_account())
    yield ok(f"{opened.facility} in {opened.path}")


def secrets(patient: Patient) -> Iterator[Finding]:
    """Nobody else may read passwords and keys."""
    layout = open_existing(patient.state, service_account()).layout
    private = [*layout.secrets.glob("*"), *layout.pki.glob("*.key")]
    open_ones = [path for path in private if stat.S_IMODE(path.stat().st_mode) & 0o077]
    for path in open_ones:
        yield fail(f"{path} has mode {stat.S_IMODE(path.stat().st_mode):04o}", f"chmod 600 '{path}'")
    if not open_ones:
        yield ok(f"{len(private)} files, for their owner only")


def certificates(patient: Patient) -> Iterator[Finding]:
    """Certificates have life left; a running facility renews its own."""
    layout = open_existing(patient.state, service_account()).layout
    ends = {path.stem: pki.expiry(path) for path in layout.pki.glob("*.pem") if path.stem != "bundle"}
    if not ends:
        yield ok("none yet")
        return
    now = datetime.now(UTC)
    ended = [name for name, end in ends.items() if end <= now]
    if ended:
        yield fail(f"ended: {', '.join(sorted(ended))}", "boathouse down && boathouse up")
        return
    first = min(ends, key=lambda name: ends[name])
    yield ok(f"{len(ends)}; the first to end is {first}, in {format_seconds((ends[first] - now).total_seconds())}")


def units(patient: Patient) -> Iterator[Finding]:
    """A facility that is up is ready; one that is down finds its ports free."""
    local = open_facility(patient.state)
    healths = local.runner.status(local.plan)
    if all(health.state is UnitState.stopped for health in healths):
        yield from _ports(local)
        return
    bad = [health for health in healths if health.state is not UnitState.ready]
    for health in bad:
        grave = health.state in (UnitState.dead, UnitState.failing, UnitState.stopped)
        remedy = f"boathouse logs {health.unit}"
        detail = f"{health.unit} is {health.state}: {health.detail}"
        yield fail(detail, remedy) if grave else warn(detail, remedy)
    if not bad:
        yield ok(f"all {len(healths)} are ready")


def _ports(local: LocalFacility) -> Iterator[Finding]:
    requests = port_requests(local.facility, drivers())
    taken = ports.check_free(requests, ports.load(local.state.path / "ports.json"))
    for error in taken:
        yield fail(f"{error.what} ({error.where})", error.remedy or "")
    if not taken:
        yield ok("down; its ports are free")


CHECKS = (state, secrets, certificates, units)
