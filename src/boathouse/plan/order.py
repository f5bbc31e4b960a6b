"""The order of start: every unit comes after all that it needs."""

from __future__ import annotations

from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter

from boathouse.plan.model import Unit


def start_order(units: Iterable[Unit]) -> tuple[Unit, ...]:
    """Units sorted so that needs come first; otherwise in the order given.

    Raises:
        ValueError: two units share a name, a unit needs one that is not there, or needs go round in a circle.
            These are faults of drivers, which no facility file can cause.
    """
    given = tuple(units)
    by_name = {unit.name: unit for unit in given}
    if len(by_name) != len(given):
        doubled = sorted({unit.name for unit in given if sum(other.name == unit.name for other in given) > 1})
        msg = f"two units of one name: {', '.join(doubled)}"
        raise ValueError(msg)
    for unit in given:
        missing = [need for need in unit.needs if need not in by_name]
        if missing:
            msg = f"unit {unit.name} needs {', '.join(missing)}, which no driver plans"
            raise ValueError(msg)
    place = {unit.name: n for n, unit in enumerate(given)}
    sorter = TopologicalSorter({unit.name: unit.needs for unit in given})
    try:
        sorter.prepare()
    except CycleError as error:
        msg = f"units need each other in a circle: {' -> '.join(error.args[1])}"
        raise ValueError(msg) from error
    ordered: list[Unit] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=place.__getitem__)
        ordered += [by_name[name] for name in ready]
        sorter.done(*ready)
    return tuple(ordered)
