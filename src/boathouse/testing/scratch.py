"""Where a test's services lie, and where they listen."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from boathouse.run.local.ports import is_free

_PORTS = range(12_000, 20_000)
"""Below those that facilities choose for themselves: what a test holds for later, none of them takes meanwhile."""

# Processes begin far from each other, those of following numbers too: two hardly ever look at one port at once.
_candidates = itertools.islice(itertools.cycle(_PORTS), os.getpid() * 4999 % len(_PORTS), None)


def free_port(address: str = "127.0.0.1") -> int:
    """A port on which nobody listens, and that this process has not been given before.

    Raises:
        AssertionError: there is none.
    """
    for port in itertools.islice(_candidates, len(_PORTS)):
        if is_free(address, port):
            return port
    msg = f"no free port on {address}"
    raise AssertionError(msg)


@contextmanager
def scratch(base: Path | None = None) -> Iterator[Path]:
    """A directory that the services' user can reach, as pytest's own it cannot; removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="boathouse-", dir=base or "/var/tmp"))  # noqa: S108 - made with mode 0700
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)
