"""A running facility for benchmarks, and what they do with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from boathouse.plan.model import StorageEndpoint
from boathouse.testing.box import Box, box

EXAMPLES = Path(__file__).parents[1] / "examples"
USER, SCOPE = "alice", "testing"


@contextmanager
def laptop() -> Iterator[Box]:
    """The laptop facility with a user logged in."""
    with box(EXAMPLES / "laptop.yaml") as running:
        running.ensure_login(USER)
        yield running


def random_files(folder: Path, *, count: int, size_bytes: int) -> list[Path]:
    """Files of random bytes, which nothing can compress or share."""
    folder.mkdir(parents=True)
    paths = [folder / f"{folder.name}-{number:04d}.dat" for number in range(count)]
    for path in paths:
        path.write_bytes(os.urandom(size_bytes))
    return paths


def endpoint(running: Box, rse: str) -> StorageEndpoint:
    """A storage element by name."""
    return next(found for found in running.endpoints.storage if found.rse == rse)
