"""Confine this process, and what it becomes, to the files that it needs: Landlock, ``landlock(7)``, since Linux 5.13.

All services are one user, so file modes keep none of them from the files of the others. Landlock takes no rights to
use: what no rule names can no longer be opened, made or removed, by whatever path, and other processes can no longer be
looked into. It does not hide that a file is there, nor its size, and leaves modes and times to their owner.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
# The same numbers on all machines that Linux runs on but Alpha.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38


class Access(IntFlag):
    """``LANDLOCK_ACCESS_FS_*`` of ``linux/landlock.h``."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


MOVES_SINCE = 2
"""Before this version, who is confined can neither move nor link files from one directory into another."""
_SINCE = {Access.REFER: MOVES_SINCE, Access.TRUNCATE: 3, Access.IOCTL_DEV: 5}
"""The version that brought a right; those not here are of version 1."""
_OF_FILES = Access.EXECUTE | Access.READ_FILE | Access.WRITE_FILE | Access.TRUNCATE | Access.IOCTL_DEV
"""All others make sense for directories only, and the kernel refuses them for a file."""

READ = Access.READ_FILE | Access.READ_DIR
RUN = READ | Access.EXECUTE
WRITE = (
    READ
    | Access.WRITE_FILE
    | Access.REMOVE_DIR
    | Access.REMOVE_FILE
    | Access.MAKE_DIR
    | Access.MAKE_REG
    | Access.MAKE_SOCK
    | Access.MAKE_FIFO
    | Access.MAKE_SYM
    | Access.REFER
    | Access.TRUNCATE
)
"""What a process can write it cannot execute."""

_RESOLVER = Path("/etc/resolv.conf")
# Certificates may be links to elsewhere, and so may /bin and /lib or not, depending on the distribution.
_SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc", "/etc/ssl/certs", "/proc", "/sys", "/dev/urandom", "/dev/random")
_SYSTEM_WRITE = ("/dev/null", "/dev/zero")


@dataclass(frozen=True)
class Rules:
    """What a process may do below which paths, beside using the system; each of them must exist."""

    run: tuple[Path, ...] = ()
    """Read and execute."""
    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
    """Read as well."""


def version() -> int:
    """The version of Landlock that this kernel has.

    Raises:
        OSError: it has none, or whoever runs this process keeps it from asking, as containers of old do.
    """
    return _call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_CREATE_RULESET_VERSION))


def known(abi: int) -> Access:
    """The rights that a version of Landlock can take."""
    return Access(sum(right for right in Access if _SINCE.get(right, 1) <= abi))


def confine(rules: Rules) -> None:
    """Leave this thread, and what it becomes, nothing but what the rules and the system's own files allow; for ever.

    Raises:
        OSError: there is no Landlock (:func:`version`), or a path is not there; its ``filename`` says which.
    """
    handled = known(version())
    attributes = struct.pack("=Q", handled)
    ruleset = _call(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    try:
        # Where a service writes the resolver's file, it replaces it: a rule for the file would soon be one for nothing.
        _allow(ruleset, (path for path in (*map(Path, _SYSTEM), _RESOLVER.resolve().parent) if path.exists()), RUN)
        _allow(ruleset, (path for path in map(Path, _SYSTEM_WRITE) if path.exists()), WRITE & handled)
        _allow(ruleset, rules.run, RUN)
        _allow(ruleset, rules.read, READ)
        _allow(ruleset, rules.write, WRITE & handled)
        _no_new_rights()
        _call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, paths: Iterable[Path], access: Access) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            # struct landlock_path_beneath_attr, which is packed.
            rule = struct.pack("=Qi", access if is_directory else access & _OF_FILES, descriptor)
            _call(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_RULE_PATH_BENEATH), rule, ctypes.c_uint32(0))
        finally:
            os.close(descriptor)


def _no_new_rights() -> None:
    """Without it only root may confine itself: a program of another user's rights could be led astray."""
    zero = ctypes.c_ulong(0)
    if _LIBC.prctl(ctypes.c_int(_PR_SET_NO_NEW_PRIVS), ctypes.c_ulong(1), zero, zero, zero) != 0:
        raise _last_error()


def _call(number: int, *arguments: object) -> int:
    result: int = _LIBC.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise _last_error()
    return result


def _last_error() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))
