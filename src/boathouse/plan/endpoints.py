"""The address file of a running facility: written atomically, read by every client."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from boathouse.errors import StateError
from boathouse.plan.model import CacheEndpoint, Endpoints, LoginEndpoint, StorageEndpoint

FILE_NAME = "endpoints.json"

T = TypeVar("T", StorageEndpoint, CacheEndpoint, LoginEndpoint, Endpoints)


def dumps(endpoints: Endpoints) -> str:
    """The address file's text."""
    return json.dumps(asdict(endpoints), indent=2) + "\n"


def load(state: Path) -> Endpoints:
    """Endpoints of the facility in a state directory.

    Keys that this version does not know are ignored, so that a newer facility can be read.

    Raises:
        StateError: there is no address file, or it cannot be understood.
    """
    path = state / FILE_NAME
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return _make(
            Endpoints,
            document
            | {
                "storage": tuple(_make(StorageEndpoint, item) for item in document["storage"]),
                "caches": tuple(
                    _make(CacheEndpoint, {key: _frozen(value) for key, value in item.items()})
                    for item in document["caches"]
                ),
                "logins": tuple(_make(LoginEndpoint, item) for item in document.get("logins", ())),
            },
        )
    except FileNotFoundError as error:
        raise StateError(
            "no facility is up here", expected=f"a file {FILE_NAME}", where=str(state), remedy="boathouse up"
        ) from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StateError("the address file cannot be read", got=str(error), where=str(path)) from error


def _frozen(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _make(kind: type[T], document: dict[str, Any]) -> T:
    known = {field.name for field in fields(kind)}
    return kind(**{key: value for key, value in document.items() if key in known})
