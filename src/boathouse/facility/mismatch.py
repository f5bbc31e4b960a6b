"""What pydantic found against the models, in the words of a facility file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from boathouse.facility.faults import Fault, dotted, nearest
from boathouse.facility.schema import Location, children, find, pattern_in_words, settings
from boathouse.facility.source import Source


@dataclass(frozen=True)
class Mismatch:
    """One thing that pydantic found, and the place in the file that it is about."""

    location: Location
    error: Mapping[str, Any]

    @property
    def is_unknown_key(self) -> bool:
        """Whether the models know no such key."""
        return bool(self.error["type"] == "extra_forbidden")

    @property
    def is_missing_key(self) -> bool:
        """Whether a key is not there."""
        return bool(self.error["type"] == "missing")


def mismatches(errors: Sequence[Mapping[str, Any]], source: Source) -> list[Mismatch]:
    """One mismatch for each place; an alternative's branch that says less is left out.

    Args:
        errors: ``ValidationError.errors()``.
        source: the file that they are about.
    """
    found: dict[Location, Mismatch] = {}
    for error in errors:
        location = _place_in_file(error, source)
        found.setdefault(location, Mismatch(location, error))
    return [
        mismatch
        for mismatch in found.values()
        if mismatch.error["type"] != "literal_error" or not any(_is_below(other, mismatch.location) for other in found)
    ]


def faults(found: Sequence[Mismatch]) -> Iterator[Fault]:
    """Mismatches in the words of the file; a key that is missing because it is misspelt is told once."""
    unknown = [mismatch.location for mismatch in found if mismatch.is_unknown_key]
    misspelt = {(*location[:-1], _meant(location)) for location in unknown}
    for mismatch in found:
        if not (mismatch.is_missing_key and mismatch.location in misspelt):
            yield _fault(mismatch)


def _place_in_file(error: Mapping[str, Any], source: Source) -> Location:
    """Keys that lead to what an error is about, without pydantic's names for branches of an alternative."""
    if error["type"] == "missing":
        return tuple(error["loc"])
    location: Location = ()
    for key in error["loc"]:
        if (*location, key) in source.places:
            location = (*location, key)
    return location


def _is_below(location: Location, above: Location) -> bool:
    return len(location) > len(above) and location[: len(above)] == above


def _meant(location: Location) -> str | None:
    return nearest(str(location[-1]), children(location[:-1]))


def _fault(mismatch: Mismatch) -> Fault:
    location, error = mismatch.location, mismatch.error
    if mismatch.is_unknown_key:
        return _unknown_key(location)
    if mismatch.is_missing_key:
        return _missing_key(location)
    if error["loc"][-1] == "[key]":
        return Fault(
            location,
            f"'{location[-1]}' cannot be a name in {dotted(location[:-1])}",
            expected=_expected(error),
            got=str(location[-1]),
            remedy="rename it",
        )
    setting = find(location)
    remedy = f"correct it ({setting.doc.rstrip('.')})" if setting and setting.doc else "correct it"
    return Fault(
        location,
        f"wrong value for {dotted(location) or 'the facility'}",
        expected=_expected(error, setting.kind if setting else None),
        got=_shown(error["input"]),
        remedy=f"{location[-1]}: {{}}" if _wants_mapping(error) and error["input"] is None else remedy,
    )


def _wants_mapping(error: Mapping[str, Any]) -> bool:
    return error["type"] in ("dict_type", "model_type")


def _unknown_key(location: Location) -> Fault:
    key, above = str(location[-1]), location[:-1]
    known = children(above)
    meant = _meant(location)
    elsewhere = [setting.key for setting in settings() if setting.path[-1] == key]
    if meant:
        remedy = f"did you mean '{meant}'?"
    elif elsewhere:
        remedy = (
            f"'{key}' belongs to {' or '.join(one.rpartition('.')[0] or 'the top of the file' for one in elsewhere)}"
        )
    else:
        remedy = "remove it"
    return Fault(
        location,
        f"unknown key '{key}' in {dotted(above) or 'the facility file'}",
        expected=f"one of {', '.join(known)}",
        got=key,
        remedy=remedy,
    )


def _missing_key(location: Location) -> Fault:
    setting = find(location)
    return Fault(
        location,
        f"key '{location[-1]}' is missing in {dotted(location[:-1]) or 'the facility file'}",
        expected=f"{setting.doc} ({setting.kind})" if setting else None,
        remedy=f"add {location[-1]}: …",
    )


_TOLD_BY_KIND = ("bool_parsing", "bool_type", "enum", "int_parsing", "literal_error", "string_type", "tuple_type")


def _expected(error: Mapping[str, Any], kind: str | None = None) -> str:
    context = error.get("ctx", {})
    if "pattern" in context:
        return pattern_in_words(context["pattern"])
    if error["type"] == "value_error":
        _, _, expected = str(context["error"]).partition("expected ")
        return expected or kind or str(context["error"])
    if _wants_mapping(error):
        return "a mapping, as {key: value}"
    if kind and error["type"] in _TOLD_BY_KIND:
        return kind
    return str(error["msg"]).removeprefix("Input should be ")


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
