"""The installer's record: where the programs are."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from boathouse.errors import HostError
from boathouse.plan.service import Programs

FILE_NAME = "install.json"
_REMEDY = "make install"


def home() -> Path:
    """Directory of the installation: ``BOATHOUSE_HOME``, or the one that this interpreter belongs to.

    Raises:
        HostError: this Boathouse was not put here by its installer.
    """
    named = os.environ.get("BOATHOUSE_HOME")
    if named:
        return Path(named)
    # The installer keeps environments as <home>/envs/<name>.
    candidate = Path(sys.prefix).parent.parent
    if (candidate / FILE_NAME).is_file():
        return candidate
    raise HostError(
        "no installation found",
        expected="BOATHOUSE_HOME, or an interpreter below it",
        got=sys.prefix,
        remedy=_REMEDY,
    )


def load(directory: Path) -> Programs:
    """Programs as the installer recorded them.

    Raises:
        HostError: the record is missing or broken, or a program has vanished.
    """
    path = directory / FILE_NAME
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        programs = Programs(
            python=Path(record["python"]),
            rucio_python=Path(record["rucio_python"]),
            rucio_client_bin=Path(record["rucio_client_bin"]),
            postgres_bin=Path(record["postgres_bin"]),
            xrootd_bin=Path(record["xrootd_bin"]),
            xrootd_version=str(record["xrootd_version"]),
            python_build=str(record.get("python_build", "")),
            rucio_build=str(record.get("rucio_build", "")),
        )
    except (OSError, ValueError, KeyError) as error:
        raise HostError("the installation is incomplete", got=repr(error), where=str(path), remedy=_REMEDY) from error
    needed = (
        programs.python,
        programs.rucio_python,
        programs.postgres_bin / "postgres",
        programs.xrootd_bin / "xrootd",
    )
    missing = tuple(
        HostError("a program is missing", expected=str(program), remedy=_REMEDY)
        for program in needed
        if not program.exists()
    )
    if missing:
        raise HostError("the installation is incomplete", problems=missing, where=str(path))
    return programs
