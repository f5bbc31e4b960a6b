"""What every command shares: where the facility is, how results are printed."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from boathouse.errors import HostError
from boathouse.run import programs

EXIT_CODES = (
    "Exit codes: 0 done; 2 bad input; 3 facility file; 4 machine; 5 service; 6 state directory; 7 login or token; "
    "8 catalogue; 9 storage; 10 checksum; 11 transfer; 12 analysis; 20 partly done; 130 interrupted."
)

State = Annotated[
    Path | None,
    typer.Option(
        "--state",
        envvar="BOATHOUSE_STATE",
        help="State directory of the facility.",
        show_default="the facility of this checkout",
        dir_okay=True,
        file_okay=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, for scripts.")]

_COMMAND = re.compile(r"\bboathouse ((?:rule |facility |transfer |cache |iam (?:[a-z]+ )?)?[a-z]+)\b(?!\.)")
_STATELESS = frozenset({"sample", "facility"})

_PIPE_WIDTH = 250
"""Columns where no terminal says how many: nothing is cut that a script or a log may want."""

out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
err = Console(stderr=True, highlight=False, soft_wrap=True, width=None if sys.stderr.isatty() else _PIPE_WIDTH)


def emit(document: Any) -> None:
    """Print one JSON document on standard output."""
    typer.echo(json.dumps(document, indent=2, default=str))


def count(number: int, noun: str) -> str:
    """A number with its noun: ``1 file``, ``2,000 events``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def hint(text: str, state: Path | None = None) -> str:
    """A text with its commands as this user must type them.

    Args:
        text: commands stand in it as ``boathouse NOUN …``.
        state: the state directory that they shall work on, if it is not the one that they work on by themselves.
    """
    # The launcher in a checkout is not on the PATH: it tells by which name it was called.
    program = shlex.quote(os.environ.get("BOATHOUSE_PROGRAM", "boathouse"))
    option = "" if state is None or is_default(state) else f" --state {shlex.quote(str(state))}"

    def command(match: re.Match[str]) -> str:
        words = match[1]
        return f"{program} {words}{'' if words.split()[0] in _STATELESS else option}"

    return _COMMAND.sub(command, text)


def hinted(document: Any, state: Path | None = None) -> Any:
    """A JSON document with :func:`hint` applied to every ``remedy`` in it, at any depth."""
    if isinstance(document, dict):
        return {
            key: hint(value, state) if key == "remedy" and isinstance(value, str) else hinted(value, state)
            for key, value in document.items()
        }
    if isinstance(document, list | tuple):
        return [hinted(value, state) for value in document]
    return document


def is_default(state: Path) -> bool:
    """Whether commands work on this state directory when none is named."""
    try:
        return state.resolve() == (programs.home() / "state").resolve()
    except HostError:
        return False


def given_state(arguments: Sequence[str]) -> Path | None:
    """The state directory that a command line names, for hints in errors; by option or environment."""
    for place, word in enumerate(arguments):
        if word == "--state" and place + 1 < len(arguments):
            return Path(arguments[place + 1])
        if word.startswith("--state="):
            return Path(word.removeprefix("--state="))
    named = os.environ.get("BOATHOUSE_STATE")
    return Path(named) if named else None


def state_dir(option: Path | None) -> Path:
    """The state directory that a command works on: the option's, or that of this installation.

    Raises:
        HostError: no option was given, and this Boathouse was not put here by its installer.
    """
    return option if option is not None else programs.home() / "state"


def client_programs() -> list[Path]:
    """Where the commands of this Boathouse and the stock clients are; no interpreter lies there."""
    try:
        home = programs.home()
        return [home / "bin", programs.load(home).xrootd_bin]
    except HostError:
        # The client alone, without an installer.
        return [Path(sys.executable).parent]
