"""The state directory: its version, its lock, and a root without spaces for services that cannot take them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from boathouse import __version__, atomic
from boathouse.errors import HostError, StateError
from boathouse.plan.model import Layout
from boathouse.run.local.account import Account, check_reachable

VERSION = 1
"""Version of the directory's layout, the first. Who raises it writes the step from the one before."""

_RECORD = "state.json"
_LOCK = "lock"
_SHARED_LINKS = Path("/run/boathouse")
"""Short links of facilities that root has brought up."""
LONGEST_ROOT = 60
"""Unix sockets end at 107 characters; the longest name below the root has 40."""


@dataclass(frozen=True)
class State:
    """An opened state directory."""

    path: Path
    facility_id: str
    """Marks every process of this facility in its environment, so that ``down`` ends those and no others."""
    facility: str
    account: Account
    layout: Layout

    @property
    def facility_file(self) -> Path:
        """The facility file as it was when last applied."""
        return self.path / "facility.yaml"

    @property
    def endpoints_file(self) -> Path:
        """The address file for clients."""
        return self.path / "endpoints.json"


def create_or_open(path: Path, facility: str, account: Account) -> State:
    """Open a state directory, making it if it is not there.

    Raises:
        HostError: the directory cannot be made, or the services' user cannot reach it.
        StateError: it belongs to another facility or to a newer Boathouse, or it is something else.
    """
    path = path.absolute()
    record = path / _RECORD
    if record.exists():
        state = open_existing(path, account)
        if state.facility != facility:
            raise StateError(
                f"this state directory belongs to another facility, {state.facility}",
                expected=f"one of its own for {facility}",
                where=str(path),
                remedy="name another directory with --state, where both can run side by side; or remove "
                f"{state.facility} and its data first: boathouse down --purge",
            )
        return state
    if path.exists() and any(path.iterdir()):
        raise StateError(
            "this directory is not empty and not a state directory",
            where=str(path),
            remedy="choose another directory with --state",
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o755)
    except OSError as error:
        raise HostError("cannot make the state directory", got=error.strerror, where=str(path)) from error
    check_reachable(path, account)
    document = {"version": VERSION, "id": str(uuid.uuid4()), "facility": facility, "boathouse": __version__}
    write_public(record, json.dumps(document, indent=2))
    return open_existing(path, account)


def open_existing(path: Path, account: Account) -> State:
    """Open a state directory that must be there.

    Raises:
        StateError: there is none, it cannot be read, or a newer Boathouse made it.
    """
    path = path.absolute()
    record = path / _RECORD
    try:
        document = json.loads(record.read_text(encoding="utf-8"))
        version, facility_id, facility = int(document["version"]), str(document["id"]), str(document["facility"])
    except FileNotFoundError:
        raise StateError("no facility here", where=str(path), remedy="boathouse up") from None
    except (OSError, ValueError, KeyError) as error:
        raise StateError("the state directory cannot be read", got=str(error), where=str(record)) from error
    if version != VERSION:
        raise StateError(
            "this state directory was made by another version of Boathouse",
            expected=f"layout version {VERSION}",
            got=f"layout version {version}, made by Boathouse {document.get('boathouse', 'unknown')}",
            where=str(path),
            remedy="use that version of Boathouse, or choose another directory with --state",
        )
    check_reachable(path, account)
    if account.switch and path.stat().st_uid == account.uid:
        # Whoever owns it can replace what lies in it; the services own the directories below it.
        os.chown(path, 0, 0, follow_symlinks=False)
        (path / _LOCK).unlink(missing_ok=True)
    return State(path, facility_id, facility, account, Layout(_root(path, account)))


def _root(path: Path, account: Account) -> Path:
    """The state directory itself, or a short link to it if its name is long or has characters services trip over."""
    text = str(path)
    if len(text) <= LONGEST_ROOT and all(c.isalnum() or c in "/._-" for c in text):
        return path
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
    shared = _SHARED_LINKS / name
    if not account.switch and shared.is_symlink() and shared.lstat().st_uid == 0 and shared.readlink() == path:
        return shared
    base = _SHARED_LINKS if account.switch else _user_run_directory(account)
    _own_directory(base, mode=0o755 if account.switch else 0o700)
    link = base / name
    if not link.is_symlink() or link.readlink() != path:
        link.unlink(missing_ok=True)
        link.symlink_to(path)
    return link


def _user_run_directory(account: Account) -> Path:
    runtime = Path(f"/run/user/{account.uid}")
    return runtime / "boathouse" if runtime.is_dir() else Path(f"/tmp/boathouse-{account.uid}")  # noqa: S108 - owner checked


def _own_directory(path: Path, *, mode: int) -> None:
    """Make a directory of the caller's; where it is there already, nobody else may have made or be able to change it.

    Raises:
        StateError: it is a link, of another user, or others may write in it.
    """
    try:
        path.mkdir(mode=mode)
    except FileExistsError:
        pass
    except OSError as error:
        raise StateError("cannot make the run directory", got=error.strerror, where=str(path)) from error
    status = path.lstat()
    is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    if not is_ours or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StateError(
            "the run directory is not safe to use",
            expected=f"a directory of uid {os.geteuid()}, in which nobody else may write",
            got=f"{stat.filemode(status.st_mode)}, uid {status.st_uid}",
            where=str(path),
            remedy="remove it, or choose with --state a short path without spaces, which needs none",
        )


def forget_link(state: State) -> None:
    """Remove the short link of a state directory that is about to go."""
    if state.layout.root != state.path:
        state.layout.root.unlink(missing_ok=True)


def open_lock(path: Path) -> BinaryIO:
    """Open a file to lock; its mode keeps others from locking it, which takes no more than reading.

    Raises:
        StateError: it is a link or another user's.
    """
    try:
        handle = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "rb+")
    except OSError as error:
        raise StateError(
            "cannot open the lock", expected="a file, not a link", got=error.strerror, where=str(path)
        ) from error
    owner = os.fstat(handle.fileno()).st_uid
    if owner != os.geteuid():
        handle.close()
        raise StateError(
            "the lock is another user's",
            expected=f"a file of uid {os.geteuid()}",
            got=f"uid {owner}",
            where=str(path),
            remedy="run the command as that user, or remove the file",
        )
    os.fchmod(handle.fileno(), 0o600)
    return handle


@contextmanager
def locked(state: State) -> Iterator[None]:
    """Hold the facility: only one process at a time may change it.

    Raises:
        StateError: another process holds it, or the lock is not a file of the caller's.
    """
    with open_lock(state.path / _LOCK) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateError(
                "another command is changing this facility",
                where=str(state.path),
                remedy="wait until it has ended, then try again",
            ) from None
        yield


def write_atomically(path: Path, text: str, account: Account, *, mode: int) -> None:
    """Write a file of the services' user so that readers see the old text or the new one, never half of it."""
    with account.acting():
        atomic.write(path, text.encode(), mode=mode)


def write_public(path: Path, text: str) -> None:
    """Write a file of the caller's at the top of the state directory, for everybody to read."""
    atomic.write(path, text.encode(), mode=0o644)
