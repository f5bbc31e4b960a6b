"""Files that are whole or not there, whoever reads them meanwhile and whatever crashes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

Own = Callable[[Path], None]
"""Gives a file to the user that is to have it."""


def write(path: Path, content: bytes, *, mode: int = 0o600, own: Own | None = None) -> None:
    """Put a file in place of the one that is there, if any; a reader sees the old one or the new one.

    Args:
        path: the file; its directory must exist.
        content: all of it.
        mode: its permissions, whatever the umask says.
        own: called with the new file before anybody can see it under its name.

    Raises:
        OSError: it cannot be written; the old file is as it was.
    """
    made = write_beside(path, content, mode=mode, own=own)
    try:
        made.replace(path)
    except OSError:
        made.unlink()
        raise


def write_beside(path: Path, content: bytes, *, mode: int = 0o600, own: Own | None = None) -> Path:
    """Write a file that may take the place of ``path``: in its directory, under a name of its own, on the disk.

    Returns:
        The new file.

    Raises:
        OSError: it cannot be written; nothing is left of it.
    """
    # Names are unique, since threads and processes may write the same file at once.
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    made = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        made.chmod(mode)
        if own:
            own(made)
    except OSError:
        made.unlink()
        raise
    return made
