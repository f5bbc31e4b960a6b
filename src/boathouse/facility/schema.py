"""Every setting of the facility file, its JSON Schema and its reference page: all made from the models."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from boathouse.facility.kinds import (
    AbsolutePath,
    Address,
    Bandwidth,
    Duration,
    FederationPath,
    FederationUrl,
    GroupPath,
    IssuerUrl,
    Label,
    Name,
    Port,
    RseName,
    ScopeName,
    SiteName,
    Size,
    StoreUrl,
)
from boathouse.facility.model import Facility

Location = tuple[str | int, ...]
"""Keys and list indices from the top of the file to a value."""


@dataclass(frozen=True)
class Setting:
    """One key of the facility file."""

    path: tuple[str, ...]
    """Keys from the top; a name that the operator chooses stands in angle brackets: ``<rse>``."""
    kind: str
    """What its value is, in words."""
    default: str | None
    """The default in words, or None if the key is required."""
    doc: str
    """Its description in the model."""

    @property
    def key(self) -> str:
        """The path as people write it: ``sites.<site>.storage.<rse>.qos``."""
        return ".".join(self.path)

    @property
    def is_free(self) -> bool:
        """Whether the key is a name that the operator chooses."""
        return self.path[-1].startswith("<")


def settings() -> tuple[Setting, ...]:
    """All settings, each before those below it, in the order of the models."""
    return tuple(_walk(Facility, ()))


def children(location: Location) -> dict[str, Setting]:
    """Settings that may stand directly below a place in a file, by key; empty where any key may."""
    return {
        setting.path[-1]: setting
        for setting in settings()
        if len(setting.path) == len(location) + 1 and not setting.is_free and fits(setting.path[:-1], location)
    }


def find(location: Location) -> Setting | None:
    """The setting that describes a place in a file."""
    return next((setting for setting in settings() if fits(setting.path, location)), None)


def fits(path: tuple[str, ...], location: Location) -> bool:
    """Whether a place in a file is one that a setting's path describes."""
    return len(path) == len(location) and all(
        word.startswith("<") or word == key for word, key in zip(path, location, strict=True)
    )


_PLACEHOLDERS = {
    "sites": "<site>",
    "storage": "<rse>",
    "caches": "<cache>",
    "groups": "<group>",
    "users": "<login>",
    "scopes": "<scope>",
    "attributes": "<attribute>",
    "identities": "<issuer>",
    "issuers": "<issuer>",
    "accounts": "<group>",
    "identity_providers": "<provider>",
    "admit": "<rule>",
    "stores": "<store>",
    "federations": "<federation>",
    "rights": "<group>",
    "links": "<link>",
}


def _walk(model: type[BaseModel], above: tuple[str, ...]) -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        yield Setting((*above, name), _kind(field.annotation, field.metadata), _default(field), _doc(field.description))
    for name, field in model.model_fields.items():
        path = (*above, name)
        if typing.get_origin(field.annotation) is dict:
            yield from _walk_free((*path, _PLACEHOLDERS[name]), field.annotation)
        elif (below := _model_of(field.annotation)) is not None:
            yield from _walk(below, path)


def _walk_free(path: tuple[str, ...], annotation: Any) -> Iterator[Setting]:
    key, value = typing.get_args(annotation)
    doc = f"{_doc(value.__doc__)} " if _is_model(value) else ""
    yield Setting(path, _kind(value, ()), None, f"{doc}Its name: {_kind(key, ())}.")
    if _is_model(value):
        yield from _walk(value, path)


def _model_of(annotation: object) -> type[BaseModel] | None:
    """The model that a value is, if there is one: ``Model`` or ``Model | None``."""
    for one in (annotation, *typing.get_args(annotation)):
        if _is_model(one):
            return typing.cast("type[BaseModel]", one)
    return None


def _is_model(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _doc(text: str | None) -> str:
    return " ".join((text or "").split()).replace("``", "`")


_WORDS: Mapping[object, str] = {str: "text", int: "whole number", float: "number", bool: "true or false"}
_ALIAS_WORDS = (
    (Size, "size"),
    (Duration, "duration"),
    (Bandwidth, "bandwidth"),
    (Address, "IP address"),
    (AbsolutePath, "absolute path"),
    (RseName, "capital letters, digits, `_` and `-`"),
    (Label, "capital letters, digits and `-`"),
    (Name, "small letters, digits, `_` and `-`, a letter first, up to 25 of them"),
    (ScopeName, "letters, digits, `_`, `.` and `-`, up to 25 of them"),
    (SiteName, "letters, digits and `-`, a capital letter first"),
    (Port, "port from 1024 to 65535"),
    (IssuerUrl, "URL that begins with `https://`"),
    (StoreUrl, "URL that begins with `s3s://`, `davs://` or `https://`"),
    (FederationUrl, "`roots://HOST:PORT`, or `root://HOST:PORT` for X.509"),
    (FederationPath, "path as `/store/mc`"),
    (GroupPath, "name of a group, `/vo/group`"),
)


def in_words(metadata: Iterable[object]) -> str | None:
    """What a value must be, if one of the model's aliases (``Size``, ``RseName`` …) says so."""
    found = {_mark(item) for item in metadata}
    return next((words for alias, words in _ALIAS_WORDS if _mark(typing.get_args(alias)[1]) in found), None)


def pattern_in_words(pattern: str) -> str:
    """What a pattern of the models asks for, in words.

    Raises:
        KeyError: no alias of the models has that pattern.
    """
    return {_mark(typing.get_args(alias)[1]): words for alias, words in _ALIAS_WORDS}[pattern]


def _mark(item: object) -> object:
    """What tells an alias from the others: its validating function, pattern or bounds.

    pydantic takes an annotation apart and keeps the pieces as metadata of the field.
    """
    pieces = getattr(item, "metadata", None) or [item]
    bounds = [getattr(piece, "ge", None) for piece in pieces]
    return next(
        (mark for piece in pieces if (mark := getattr(piece, "func", None) or getattr(piece, "pattern", None))),
        ("ge", bounds[0]) if bounds[0] else None,
    )


def _kind(annotation: Any, metadata: Iterable[object]) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _kind(arguments[0], arguments[1:])
    if words := in_words(metadata):
        return words
    if origin is typing.Literal:
        return " or ".join(f"`{word}`" for word in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_kind(one, ()) for one in arguments if one is not type(None))
    if origin is tuple:
        return f"list: {_kind(arguments[0], ())}"
    return _plain_kind(annotation)


def _plain_kind(annotation: Any) -> str:
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return ", ".join(f"`{word}`" for word in annotation)
    return _WORDS.get(annotation, "mapping")


def _default(field: FieldInfo) -> str | None:
    return None if field.is_required() else as_written(field.default, in_words(field.metadata))


_SIZES = (("GB", 10**9), ("MB", 10**6), ("GiB", 2**30), ("MiB", 2**20), ("kiB", 2**10), ("kB", 10**3), ("B", 1))
_DURATIONS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
_BANDWIDTHS = (("Gbit/s", 10**9), ("Mbit/s", 10**6), ("kbit/s", 10**3), ("bit/s", 1))
_UNITS = {"size": _SIZES, "duration": _DURATIONS, "bandwidth": _BANDWIDTHS}


def as_written(value: object, kind: str | None = None) -> str:
    """A value as one would write it in the file, exactly: ``20 GB``, ``512 kiB``, ``[https, davs]``."""
    if value is None or value == "":
        return "none" if value is None else "empty"
    if isinstance(value, BaseModel):
        return as_written({name: getattr(value, name) for name in value.model_fields_set})
    if isinstance(value, tuple):
        return f"[{', '.join(as_written(one) for one in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {as_written(one)}' for key, one in value.items())}}}"
    return _number_as_written(value, kind)


def _number_as_written(value: object, kind: str | None) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float) and kind in _UNITS:
        for unit, factor in _UNITS[kind]:
            if value >= factor and value % factor == 0:
                return f"{value / factor:.0f} {unit}"
        if kind == "duration" and 0 < value < 1:
            return f"{value * 1000:g} ms"
    return str(value)


def json_schema() -> dict[str, Any]:
    """The facility file as a JSON Schema (2020-12), for editors and other programs."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Facility.model_json_schema()}


_REFERENCE_HEAD = """\
# The facility file

<!-- Made by `make docs` from src/boathouse/facility/model.py: change it there. -->

YAML, read once. An unknown key is an error, and so is a name that nothing answers to; all errors of a file are told
at once, each with its line. `boathouse facility check FILE` tells them without starting anything, `boathouse facility
explain KEY` where a value comes from, `boathouse facility schema` prints the JSON Schema.

Names in angle brackets are yours to choose. Sizes take `B`, `kB` … `PB` (decimal) and `kiB` … `PiB` (binary),
durations `ms`, `s`, `min`, `h`, `d`, `w`, bandwidths `kbit/s` … `Tbit/s` or `kB/s` … `TB/s`; a bare number means
bytes, seconds or bits per second.
"""


def reference_page() -> str:
    """The reference page of the facility file, in Markdown."""
    lines = [_REFERENCE_HEAD]
    sections: dict[tuple[str, ...], list[Setting]] = {}
    for setting in settings():
        sections.setdefault(setting.path[:-1], []).append(setting)
    for path, members in sections.items():
        keys = [member for member in members if not member.is_free]
        if not keys:
            continue
        lines += [f"## `{'.'.join(path)}`" if path else "## Top of the file", ""]
        lines += [f"{setting.doc}\n" for setting in settings() if setting.path == path and setting.is_free]
        lines += ["| key | value | default | meaning |", "|---|---|---|---|"]
        for setting in keys:
            default = "**required**" if setting.default is None else f"`{setting.default}`"
            lines.append(f"| `{setting.path[-1]}` | {setting.kind} | {default} | {setting.doc} |")
        lines.append("")
    return "\n".join(lines)
