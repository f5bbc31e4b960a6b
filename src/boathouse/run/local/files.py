"""Writing what a plan wants on disk: directories, configuration with secrets filled in, certificates."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from boathouse.errors import StateError
from boathouse.plan.model import Plan, Unit
from boathouse.plan.service import Programs
from boathouse.run import pki
from boathouse.run.local import secrets
from boathouse.run.local.account import Account
from boathouse.run.local.state import State, write_atomically


def make_directory(path: Path, account: Account, mode: int = 0o700) -> None:
    """Make a directory of the services' user with those above it; one that exists stays as it is."""
    with account.acting():
        missing = [path]
        while not missing[-1].parent.exists():
            missing.append(missing[-1].parent)
        for directory in reversed(missing):
            directory.mkdir(exist_ok=True, mode=mode)


def prepare_state(state: State) -> None:
    """The directories that every facility has."""
    layout = state.layout
    for path in (layout.data, layout.config, layout.run, layout.logs, layout.secrets, layout.root / "markers"):
        _top_directory(path, state.account, 0o700)
    _top_directory(layout.pki, state.account, 0o755)


def _top_directory(path: Path, account: Account, mode: int) -> None:
    """A directory of the services' user right below the state directory, where only the caller can make any."""
    path.mkdir(exist_ok=True, mode=mode)
    if not stat.S_ISDIR(path.lstat().st_mode):
        raise StateError("not a directory", expected="a directory of the facility's own, not a link", where=str(path))
    account.own(path)
    with account.acting():
        path.chmod(mode)


def certificates(plan: Plan, state: State) -> frozenset[str]:
    """Make the authority and every certificate that is missing or old.

    Returns:
        Names of the certificates that are new.
    """
    own = state.account.own
    # As the caller, who may read what the services' user may not.
    more = b"\n".join(secrets.read_source(path).encode() for path in plan.authorities)
    with state.account.acting():
        pki.ensure_authority(plan.layout.pki, plan.facility, own, more=more)
        return frozenset(
            wanted.name
            for wanted in plan.certificates
            if pki.ensure_certificate(plan.layout.pki, wanted, plan.certificate_lifetime_s, own)
        )


def write_unit(unit: Unit, state: State, values: Mapping[str, str]) -> None:
    """Directories and configuration files of a unit, with secrets in place of their names."""
    for directory in unit.directories:
        make_directory(directory, state.account)
    for file in unit.files:
        make_directory(file.path.parent, state.account)
        text = secrets.fill(file.text, dict(values))
        with state.account.acting():
            if not file.path.exists() or file.path.read_text(encoding="utf-8") != text:
                write_atomically(file.path, text, state.account, mode=file.mode)


def open_log(path: Path, account: Account) -> BinaryIO:
    """Open a log of the services' user for writing, empty and for that user's eyes only.

    Raises:
        StateError: a link or another user's file has taken its place.
    """
    try:
        with account.acting():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            os.fchmod(descriptor, 0o600)
    except OSError as error:
        raise StateError(
            "cannot write a log",
            expected="a file of the services' user, not a link",
            got=error.strerror,
            where=str(path),
            remedy="look at who made it, then remove it",
        ) from error
    return os.fdopen(descriptor, "wb")


def fingerprint(unit: Unit, programs: Programs) -> str:
    """A digest of all that a running process depends on: when it changes, the unit must restart."""
    relevant = {
        "command": unit.command,
        "builds": [programs.build_of(word) for word in unit.command],
        "env": dict(unit.env),
        "files": [(str(file.path), file.text) for file in unit.files],
        "stop": (unit.stop_signal, unit.stop_timeout_s),
    }
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()


def content_digest(paths: tuple[Path, ...]) -> str:
    """A digest of files' contents, for tasks that run again when their inputs change."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes() if path.exists() else b"")
        digest.update(b"\0")
    return digest.hexdigest()


def plan_document(plan: Plan) -> str:
    """A plan as JSON for people and tests; it holds names of secrets, never values."""
    return json.dumps(asdict(plan), indent=2, default=str)
