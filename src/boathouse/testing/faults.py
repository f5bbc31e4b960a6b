"""Services that misbehave on purpose: real processes, each wrong in one way, to try runners with."""

from __future__ import annotations

import sys
from pathlib import Path

from boathouse.plan.model import Probe, ProbeKind, Unit


def _unit(
    name: str,
    directory: Path,
    *,
    delay_s: float = 0.0,
    life_s: float = 1e6,
    is_ok: bool = True,
    is_stubborn: bool = False,
    timeout_s: float = 20.0,
    needs: tuple[str, ...] = (),
) -> Unit:
    report = directory / f"{name}.json"
    flags = ("yes" if is_ok else "no", "yes" if is_stubborn else "no")
    return Unit(
        name=name,
        title=f"a service for tests: {name}",
        command=(sys.executable, "-m", "boathouse.testing.reporter", str(report), str(delay_s), str(life_s), *flags),
        probe=Probe(ProbeKind.report, target=str(report), timeout_s=timeout_s),
        needs=needs,
        directories=(directory,),
        stop_timeout_s=1.0,
    )


def good(name: str, directory: Path, *, needs: tuple[str, ...] = ()) -> Unit:
    """Ready at once, ends when asked."""
    return _unit(name, directory, needs=needs)


def slow(name: str, directory: Path, *, delay_s: float) -> Unit:
    """Ready only after a while."""
    return _unit(name, directory, delay_s=delay_s)


def never_ready(name: str, directory: Path, *, timeout_s: float) -> Unit:
    """Runs, and never becomes ready."""
    return _unit(name, directory, is_ok=False, timeout_s=timeout_s)


def dies_at_start(name: str, directory: Path) -> Unit:
    """Ends before it is ready."""
    unit = _unit(name, directory)
    code = "import sys; print('cannot find my configuration', flush=True); sys.exit(7)"
    return Unit(
        name=unit.name,
        title=unit.title,
        command=(sys.executable, "-c", code),
        probe=unit.probe,
        directories=unit.directories,
    )


def dies_when_ready(name: str, directory: Path, *, life_s: float) -> Unit:
    """Becomes ready and ends by itself a little later."""
    return _unit(name, directory, life_s=life_s)


def stubborn(name: str, directory: Path) -> Unit:
    """Ready at once, and deaf to the request to end."""
    return _unit(name, directory, is_stubborn=True)
