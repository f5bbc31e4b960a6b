"""The operating-system user that the services run as.

Called by an ordinary user, everything runs as that user. Called by root, everything drops to a system user of its
own: a service needs no rights over the machine, and XRootD refuses to run as root.
"""

from __future__ import annotations

import ctypes
import os
import platform
import pwd
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boathouse.errors import HostError, StateError

SYSTEM_USER = "boathouse"

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.setfsuid.argtypes = _LIBC.setfsgid.argtypes = (ctypes.c_uint32,)
_SYS_SETGROUPS = {"x86_64": 116, "aarch64": 159}
"""Number of the system call ``setgroups``, by machine (the kernel's syscall tables)."""
_NOBODY = 0xFFFFFFFF
"""No user has this number: asking for it changes nothing and answers who one is (``setfsuid(2)``)."""


@dataclass(frozen=True)
class Account:
    """A user, and how to become it."""

    name: str
    uid: int
    gid: int
    switch: bool
    """Whether the caller is root and must switch to it."""

    def popen_arguments(self) -> dict[str, Any]:
        """Arguments of :class:`subprocess.Popen` that make the child run as this user."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.switch else {}

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Let the kernel check this thread's access to files as this user's; may be nested.

        Root must open nothing by its own rights in directories of another user, who can put links there.

        Raises:
            StateError: a file may not be used by this user.
            HostError: this process may not act as another user.
        """
        if not self.switch or _LIBC.setfsuid(_NOBODY) == self.uid:
            yield
            return
        try:
            with _file_rights(self.uid, self.gid):
                yield
        except PermissionError as error:
            raise StateError(
                f"the services' user {self.name} may not use this file",
                expected="below the state directory, only files of that user and no links out of it",
                got=error.strerror,
                where=str(error.filename),
                remedy="look at who made it, then remove it",
            ) from error

    def own(self, path: Path) -> None:
        """Give a file or directory to this user."""
        if self.switch:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


@contextmanager
def _file_rights(uid: int, gid: int) -> Iterator[None]:
    """Give this thread, and no other, the file rights of a user; the C library's ``setgroups`` is for all threads."""
    groups = os.getgroups()
    before = _LIBC.setfsuid(_NOBODY), _LIBC.setfsgid(_NOBODY)
    try:
        _set_groups([])
        _LIBC.setfsgid(gid)
        _LIBC.setfsuid(uid)
        if (_LIBC.setfsuid(_NOBODY), _LIBC.setfsgid(_NOBODY)) != (uid, gid):
            raise HostError("root cannot act as another user here", expected=f"file rights of uid {uid}, gid {gid}")
        yield
    finally:
        _LIBC.setfsuid(before[0])
        _LIBC.setfsgid(before[1])
        _set_groups(groups)


def _set_groups(groups: list[int]) -> None:
    number = ctypes.c_long(_SYS_SETGROUPS[platform.machine()])
    if _LIBC.syscall(number, ctypes.c_size_t(len(groups)), (ctypes.c_uint32 * len(groups))(*groups)) != 0:
        raise HostError("root cannot lay down its groups here", got=os.strerror(ctypes.get_errno()))


def service_account() -> Account:
    """The caller's own account or, for root, the system user, which is made if it is missing.

    Raises:
        HostError: the system user cannot be made.
    """
    if os.geteuid() != 0:
        me = pwd.getpwuid(os.geteuid())
        return Account(me.pw_name, me.pw_uid, me.pw_gid, switch=False)
    try:
        entry = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        entry = _make_system_user()
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, switch=True)


def _make_system_user() -> pwd.struct_passwd:
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
    program = shutil.which(command[0], path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        raise HostError("no system user for the services", expected="the program useradd", remedy=" ".join(command))
    result = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        raise HostError(
            "cannot make the system user for the services", got=result.stderr.strip(), remedy=" ".join(command)
        ) from None


def check_reachable(path: Path, account: Account) -> None:
    """Make sure that the services' user can get to a directory that root has chosen.

    Raises:
        HostError: a directory on the way is closed to it.
    """
    if not account.switch:
        return
    for directory in reversed(path.resolve().parents):
        status = directory.stat()
        is_open = (
            status.st_mode & stat.S_IXOTH
            or (status.st_uid == account.uid and status.st_mode & stat.S_IXUSR)
            or (status.st_gid == account.gid and status.st_mode & stat.S_IXGRP)
        )
        if not is_open:
            raise HostError(
                f"the services run as the system user {account.name}, which cannot reach the state directory",
                expected="directories that every user may pass through",
                got=f"{directory} has mode {stat.S_IMODE(status.st_mode):04o}",
                where=str(path),
                remedy="choose another place with --state, for example below /var/lib/boathouse",
            )


def child_environment(account: Account, home: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a service or task: nothing of the caller's leaks in."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        # Rucio compares times written by the database with its own: one zone for all.
        "TZ": "UTC",
        "HOME": str(home),
        "USER": account.name,
        "LOGNAME": account.name,
        **extra,
    }
