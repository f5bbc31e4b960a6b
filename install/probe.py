"""Tell whether the interpreter that runs this may carry Boathouse; print its own path, or why not.

Run by ``install/python`` with every interpreter that it finds, old ones too: nothing newer than Python 3.7 here.
"""

from __future__ import annotations

import os
import sys


def closed(path: str) -> str | None:
    """The first directory on the way up from ``path`` that other users may not enter, or None."""
    while path != "/":
        path = os.path.dirname(path)  # noqa: PTH120 - one style with the rest; pathlib costs a third of the run
        if not os.stat(path).st_mode & 0o001:  # noqa: PTH116
            return path
    return None


def program() -> str:
    """The real path of the interpreter, out of any virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def unfit() -> str | None:
    """Why this interpreter won't do, or None."""
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        return f"is {sys.version_info[0]}.{sys.version_info[1]}, not 3.11 to 3.13"
    if sys.maxsize < 2**32:
        return "is not a 64-bit build"
    # Debian packs these apart from the interpreter.
    for module in ("venv", "ensurepip"):
        if not os.path.isdir(os.path.join(os.path.dirname(os.__file__), module)):  # noqa: PTH112, PTH118, PTH120
            return f"has no {module} (Debian: the package python3-venv)"
    if os.geteuid() == 0:
        # The services run as another user, with this interpreter.
        for path in (program(), os.path.realpath(os.__file__)):
            if closed(path):
                return f"lies in {closed(path)}, which the services' user may not enter"
    return None


reason = unfit()
sys.stdout.write(f"{reason or program()}\n")
sys.exit(1 if reason else 0)
