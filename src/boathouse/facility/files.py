"""Files that a facility file names: secrets and CAs, which are read when the facility comes up."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from boathouse.errors import InputError
from boathouse.facility.faults import Fault
from boathouse.facility.model import Facility
from boathouse.facility.schema import Location

Look = Callable[[Path], object]
"""Reads a file; raises InputError if it cannot be used."""


def faults(facility: Facility, look: Look, told: Collection[Location]) -> Iterator[Fault]:
    """The named files that cannot be used.

    Args:
        facility: what names them.
        look: reads each of them.
        told: places with faults of their own, whose values mean nothing.
    """
    for location, path in _named((), facility.model_dump()):
        if any(location[:length] in told for length in range(1, len(location) + 1)):
            continue
        try:
            look(path)
        except InputError as error:
            got = ": ".join(part for part in (str(path), error.got) if part)
            yield Fault(location, error.what, expected=error.expected, got=got, remedy=error.remedy)


def _named(location: Location, document: Mapping[str, Any]) -> Iterator[tuple[Location, Path]]:
    for key, value in document.items():
        place = (*location, key)
        if isinstance(value, dict):
            yield from _named(place, value)
        elif key.endswith("_file") and value is not None:
            yield place, Path(value)
