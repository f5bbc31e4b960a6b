"""YAML with the place of every key, duplicate keys refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from boathouse.errors import FacilityError
from boathouse.facility.faults import Fault, dotted
from boathouse.facility.schema import Location


@dataclass(frozen=True, order=True)
class Place:
    """Line and column of a file, both counted from 1."""

    line: int
    column: int


@dataclass
class Source:
    """A facility file as it was written."""

    path: Path
    data: Any
    """Mappings, lists, text, numbers, truth values and null."""
    places: dict[Location, Place] = field(default_factory=dict)
    """Where each key and each item of a list stands; the empty location is the top of the file."""
    faults: list[Fault] = field(default_factory=list)
    """What YAML allows and a facility file does not."""

    def place(self, location: Location) -> Place:
        """Where something stands; for a key that is missing, where it should stand."""
        while location not in self.places:
            location = location[:-1]
        return self.places[location]

    def where(self, location: Location) -> str:
        """``file:line:column`` of something in the file."""
        place = self.place(location)
        return f"{self.path}:{place.line}:{place.column}"


def read(path: Path) -> Source:
    """Read a facility file as YAML.

    Raises:
        FacilityError: it cannot be read, or is not YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise FacilityError(
            "cannot read the facility file", got=error.strerror, where=str(path), remedy="name a file that exists"
        ) from error
    except UnicodeDecodeError as error:
        raise FacilityError("the facility file is not UTF-8 text", got=str(error), where=str(path)) from error
    loader = yaml.SafeLoader(text)
    try:
        return _Reader(loader, path).read()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise FacilityError(
            "the facility file is not YAML",
            got=" ".join(part for part in (error.problem, error.context) if part),
            where=f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path),
            remedy="indent with spaces; put text with a colon or a brace into quotes",
        ) from error
    except yaml.YAMLError as error:
        raise FacilityError("the facility file is not YAML", got=str(error), where=str(path)) from error
    except RecursionError as error:
        raise FacilityError("the facility file is nested too deeply", where=str(path)) from error
    finally:
        loader.dispose()


class _Reader:
    """Turns YAML nodes into plain data and notes where each stands."""

    def __init__(self, loader: yaml.SafeLoader, path: Path) -> None:
        self._loader = loader
        self._source = Source(path, None, {(): Place(1, 1)})
        self._open: list[yaml.Node] = []

    def read(self) -> Source:
        node = self._loader.get_single_node()
        self._source.data = None if node is None else self._value(node, ())
        return self._source

    def _value(self, node: yaml.Node, location: Location) -> Any:
        if node in self._open:
            self._source.faults.append(Fault(location, "an alias refers to what it stands in", got=dotted(location)))
            return None
        self._open.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, location)
            if isinstance(node, yaml.SequenceNode):
                return [self._entry(item, item, (*location, index)) for index, item in enumerate(node.value)]
            return self._loader.construct_object(node)
        finally:
            self._open.pop()

    def _entry(self, key: yaml.Node, value: yaml.Node, location: Location) -> Any:
        self._source.places[location] = Place(key.start_mark.line + 1, key.start_mark.column + 1)
        return self._value(value, location)

    def _mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, Any]:
        self._refuse_duplicates(node, location)
        # Resolves `<<: *anchor`; what the mapping says itself comes last and wins.
        self._loader.flatten_mapping(node)
        return {
            self._key(key): self._entry(key, value, (*location, self._key(key)))
            for key, value in node.value
            if isinstance(key, yaml.ScalarNode)
        }

    @staticmethod
    def _key(node: yaml.ScalarNode) -> str:
        # As it is written: `on` and `1` are names here, not a truth value and a number.
        return str(node.value)

    def _refuse_duplicates(self, node: yaml.MappingNode, location: Location) -> None:
        seen: dict[str, yaml.Node] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._source.faults.append(Fault(location, "a key is not a name", got="a list or mapping as key"))
                continue
            name = self._key(key)
            if name in seen:
                first = seen[name].start_mark.line + 1
                self._source.faults.append(
                    Fault(
                        (*location, name),
                        f"key '{name}' stands twice in {dotted(location) or 'the file'}",
                        expected="each key once",
                        got=f"line {first} and line {key.start_mark.line + 1}",
                        remedy="remove one, or rename it",
                    )
                )
            seen.setdefault(name, key)
