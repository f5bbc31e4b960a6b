"""Small private files that are whole or not there, also when several processes start at once."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from boathouse import atomic


def write_atomically(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Put a file in place of the one that is there, if any; a reader sees the old one or the new one."""
    atomic.write(path, content, mode=mode, own=_own_as_directory)


def create_once(path: Path, content: bytes) -> bytes:
    """The content of a file, which is made with ``content`` if it is not there; every caller gets the same."""
    if not path.exists():
        made = atomic.write_beside(path, content, own=_own_as_directory)
        # Of several processes the first one's file stays.
        with suppress(FileExistsError):
            os.link(made, path)
        made.unlink()
    return path.read_bytes()


def _own_as_directory(path: Path) -> None:
    owner = path.parent.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        # The administrator rotates keys as root; the issuer must still be able to read them.
        os.chown(path, owner.st_uid, owner.st_gid)
