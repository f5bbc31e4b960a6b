"""What was installed: stamps that make a second run quick, and the record that the product reads."""

from __future__ import annotations

import json
from pathlib import Path


def write_json(path: Path, document: object) -> None:
    """Write a JSON file so that a reader sees the old one or the new one, never half of it."""
    passing = path.with_suffix(".new")
    passing.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
    passing.replace(path)


class Stamps:
    """Digests of what each part was made from, written after the part is complete.

    Args:
        path: the JSON file that keeps them; a broken one counts as empty, and everything is made again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            loaded = json.loads(path.read_text())
        except (OSError, ValueError):
            loaded = {}
        self._known: dict[str, str] = loaded if isinstance(loaded, dict) else {}

    def holds(self, part: str, digest: str) -> bool:
        """Whether a part was made from just this."""
        return self._known.get(part) == digest

    def put(self, part: str, digest: str) -> None:
        """Note that a part is complete."""
        self._known[part] = digest
        write_json(self._path, self._known)

    def drop(self, part: str) -> None:
        """Note that a part is being changed: after a crash it is made again."""
        if self._known.pop(part, None) is not None:
            write_json(self._path, self._known)
