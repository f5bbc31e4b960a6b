"""Files and directories that are whole or not there, whoever reads them meanwhile and whatever crashes."""

from __future__ import annotations

import ctypes
import errno
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

Own = Callable[[Path], None]
"""Gives a file to the user that is to have it."""

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_NO_EXCHANGE = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EXDEV})
"""What kernels and file systems answer that cannot exchange two names."""


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
    _keep_name(path)


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


def replace_directory(new: Path, path: Path) -> None:
    """Put a directory in place of the one that is there, if any, which then has the name of the new one.

    A reader sees the old one or the new one. On file systems that cannot exchange two names (NFS) there is a moment
    without either, and the old one may be left as ``NAME.old`` beside the new one's first name.

    Args:
        new: the directory, whole, with files only, on the same file system.
        path: where it is to be.

    Raises:
        OSError: it cannot be put there; the old one is where it was, or ``NAME.old`` if it cannot be put back either.
    """
    # The directory after its files: it is put in place with all their names on the disk.
    for each in (*new.iterdir(), new):
        _sync(each)
    try:
        # Into a free place, or over an empty directory.
        new.rename(path)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
        _exchange(new, path)
    _keep_name(path)


def _exchange(new: Path, path: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(path), _RENAME_EXCHANGE) == 0:
        return
    code = ctypes.get_errno()
    if code not in _NO_EXCHANGE:
        raise OSError(code, os.strerror(code), str(path))
    _exchange_by_turns(new, path)


def _exchange_by_turns(new: Path, path: Path) -> None:
    aside = new.with_name(f"{new.name}.old")
    path.rename(aside)
    try:
        new.rename(path)
    except OSError:
        aside.rename(path)
        raise
    # The new one is in place: what the old one is called is no reason to say that it is not.
    with suppress(OSError):
        aside.rename(new)


def _keep_name(path: Path) -> None:
    """Have what was renamed under its new name even after the machine crashes, where the file system can promise it.

    An error would say that nothing was written, while everybody sees the new name already.
    """
    with suppress(OSError):
        _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
