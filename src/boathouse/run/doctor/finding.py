"""What a check looks at and what it finds."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from boathouse.errors import HostError

_TIMEOUT_S = 30.0
_NOBODY = 65534


class Verdict(StrEnum):
    """How bad a finding is."""

    ok = "ok"
    """As it should be."""
    warn = "warn"
    """It works, and something may go wrong later."""
    fail = "fail"
    """Something does not work."""


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    verdict: Verdict
    detail: str
    remedy: str = ""
    """The command that mends it, or what to do."""
    name: str = ""
    """Name of the check."""


@dataclass(frozen=True)
class Patient:
    """What is examined."""

    home: Path
    """Directory of the installation."""
    state: Path
    """State directory, which need not exist."""


Check = Callable[[Patient], Iterator[Finding]]
"""Looks, changes nothing, and yields one finding or several; an error of ours that it raises is a finding too."""


def ok(detail: str) -> Finding:
    """All is well."""
    return Finding(Verdict.ok, detail)


def warn(detail: str, remedy: str) -> Finding:
    """It works for now."""
    return Finding(Verdict.warn, detail, remedy)


def fail(detail: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding(Verdict.fail, detail, remedy)


def _without_rights() -> dict[str, Any]:
    # The services' user may not exist yet, and a check makes none.
    return {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def ask_version(command: Sequence[str | Path]) -> str:
    """What a program says of its version when run without root's rights, as the services run it.

    Raises:
        HostError: it does not run.
    """
    words = [str(word) for word in command]
    remedy = "make distclean install"
    try:
        done = subprocess.run(
            words,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
            **_without_rights(),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError("it does not run", got=str(error), remedy=remedy) from error
    said = (done.stdout.strip() or done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
    if done.returncode:
        raise HostError("it does not run", got=said, where=words[0], remedy=remedy)
    return said
