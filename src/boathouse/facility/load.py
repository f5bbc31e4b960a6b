"""A facility file, read once into a frozen model that knows where each value came from.

Everything that is wrong with a file is told at once. So that the rules between settings can be checked although some
settings are unusable, those are set right on a copy first; a file with faults never becomes a facility.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from boathouse.errors import FacilityError, InputError
from boathouse.facility import distance, files, mismatch, rules, source, trust
from boathouse.facility.faults import Fault, hidden
from boathouse.facility.model import Facility
from boathouse.facility.schema import Location, find

_ROUNDS = 8
"""Repairs may uncover further faults: a key that stands below one that was refused."""


@dataclass(frozen=True)
class Document:
    """A facility and the file that it was read from."""

    facility: Facility
    source: source.Source


def load(path: Path) -> Facility:
    """The facility that a file describes.

    Raises:
        FacilityError: the file cannot be read or is wrong; ``problems`` holds all its faults in file order.
    """
    return read(path).facility


def read(path: Path, *, look: files.Look | None = None) -> Document:
    """The facility that a file describes, with the place of every value.

    With ``look``, which reads a file, those that it names are looked at as well.

    Raises:
        FacilityError: the file cannot be read or is wrong; ``problems`` holds all its faults in file order.
    """
    written = source.read(path)
    if not isinstance(written.data, dict):
        raise FacilityError(
            "the facility file holds no settings",
            expected="a mapping with the keys name, vo and sites",
            got="nothing" if written.data is None else str(written.data)[:80],
            where=str(path),
            remedy="begin with a copy of examples/laptop.yaml",
        )
    facility, faults = _check(written)
    faults = [*written.faults, *faults]
    if facility is not None and look is not None:
        faults += files.faults(facility, look, {fault.location for fault in faults})
    if facility is None or faults:
        raise _error(faults, written)
    return Document(facility, written)


def _check(written: source.Source) -> tuple[Facility | None, list[Fault]]:
    """The facility, if the file is at all like one, and what is wrong with it."""
    data = copy.deepcopy(written.data)
    found: dict[Location, Fault] = {}
    refused: set[str] = set()
    for _ in range(_ROUNDS):
        try:
            facility = Facility.model_validate(data)
        except ValidationError as error:
            mismatches = mismatch.mismatches(error.errors(include_url=False), written)
            for fault in mismatch.faults(mismatches):
                found.setdefault(fault.location, fault)
            # The last item of a list first, so that the others keep their numbers.
            for one in reversed(mismatches):
                refused |= _repair(data, one.location)
        else:
            # A name that was refused is not an unknown name as well, nor is a list empty that lost its wrong items.
            lists = {location[:-1] for location in found if location and isinstance(location[-1], int)}
            broken = [
                fault
                for fault in rules.check(facility)
                if fault.got not in refused and fault.location not in lists and not _of_stand_in(fault)
            ]
            return facility, [*found.values(), *broken]
    return None, list(found.values())


def _of_stand_in(fault: Fault) -> bool:
    """Whether a rule speaks of a URL that only stands for one that was refused."""
    return any(_UNSET_URL in text for text in (fault.expected, fault.got) if text)


def _repair(data: dict[str, Any], location: Location) -> set[str]:
    """Make one value acceptable so that the rest can be checked; the names that had to go."""
    setting = find(location)
    parent = _parent(data, location)
    if parent is None or not location:
        return set()
    key = location[-1]
    if isinstance(parent, list):
        parent.pop(int(key))
        return set()
    is_name = setting is not None and setting.is_free
    if is_name and parent.get(key) is None:
        parent[key] = {}
    elif setting is not None and not is_name and setting.default is None:
        parent[key] = _STAND_INS.get(setting.key) or _STAND_INS[setting.path[-1]]
    else:
        gone = parent.pop(key, None)
        if gone is not None and is_name:
            return {str(key)}
        if setting is None and isinstance(gone, dict):
            # A misspelt section: what refers to the names in it is not wrong as well.
            return {str(name) for name in gone}
    return set()


_UNSET_URL = "https://unset.invalid"
_STAND_INS: Mapping[str, Any] = {
    "name": "x",
    "vo": "x",
    "qos": "X",
    "group": rules.UNSET,
    "sites": {"X": {}},
    "url": _UNSET_URL,
    "federations.<federation>.url": "roots://unset.invalid",
    "issuer": _UNSET_URL,
    "audience": "x",
    "client_id": "x",
    "claim": "x",
    "value": "x",
    "paths": (trust.UNSET_PATH,),
    "between": (distance.UNSET_SITE,),
    "id": "x",
    "secret_file": "/x",
    **{service: {"id": "x", "secret_file": "/x"} for service in ("rucio", "transfers", "cache", "operator")},
}


def _parent(data: Any, location: Location) -> Any:
    for key in location[:-1]:
        try:
            data = data[key]
        except (LookupError, TypeError):
            # It went with an earlier repair.
            return None
    return data if isinstance(data, dict | list) else None


def _error(faults: Sequence[Fault], written: source.Source) -> FacilityError:
    ordered = sorted(faults, key=lambda fault: written.place(fault.location))
    problems = tuple(
        InputError(
            fault.what,
            expected=fault.expected,
            got=hidden(fault.got),
            where=written.where(fault.location),
            remedy=fault.remedy,
        )
        for fault in ordered
    )
    count = "one fault" if len(problems) == 1 else f"{len(problems)} faults"
    return FacilityError(f"the facility file has {count}", problems=problems, where=str(written.path))
