"""What every command shares: where the facility is, how results are printed."""

from __future__ import annotations

import errno
import json
import os
import pwd
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from boathouse.errors import AuthError, BoathouseError, HostError, InputError, NotFoundError
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


def shown(text: str) -> str:
    r"""A text as one line that does nothing to a terminal: what is no visible character stands as its escape.

    So ``\n`` stands for a line break and ``\x1b`` for what begins a control sequence; marks that turn the direction
    of writing, and bytes of file names that are no UTF-8, are escaped as well.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def literal(value: Any) -> Any:
    """A document, a dataclass or an error of ours with :func:`shown` applied to every text in it, at any depth."""
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, dict):
        return {literal(key): literal(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(literal, value))
    if isinstance(value, BoathouseError):
        told = type(value).__new__(type(value))
        vars(told).update(literal(vars(value)))
        return told
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: literal(getattr(value, field.name)) for field in fields(value)})
    return value


def line(*parts: str | tuple[str, str]) -> Text:
    """A line of text of which some parts have a style: ``line(("alice", "bold"), " is here")``."""
    return Text.assemble(*((shown(part), "") if isinstance(part, str) else (shown(part[0]), part[1]) for part in parts))


class Plain(Console):
    r"""All that people read goes through here. A text is one line and means itself, whoever wrote it.

    No markup, no emoji, no control characters: each argument of :meth:`print` and each cell of a table is
    :func:`shown`. Several lines are several arguments, with ``sep="\n"``; styles are given apart, see :func:`line`.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(
            stderr=stderr,
            markup=False,
            emoji=False,
            highlight=False,
            soft_wrap=True,
            width=None if (sys.stderr if stderr else sys.stdout).isatty() else _PIPE_WIDTH,
        )

    def render_str(self, text: str, **options: Any) -> Text:
        """The text as it is printed."""
        return super().render_str(shown(text), **options)

    def on_broken_pipe(self) -> None:
        """Leave it to whoever runs the command."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


out = Plain()
err = Plain(stderr=True)


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


def require_own(state: Path) -> None:
    """Check that a state directory is this user's, where it is there; root may work on anybody's.

    Raises:
        AuthError: it is somebody else's.
    """
    if (state / "state.json").exists() and _is_anothers(state):
        raise _not_yours(state)


def refused(error: PermissionError, arguments: Sequence[str]) -> BoathouseError | None:
    """What a user is told of a file that the system does not let them use; None if no file is named.

    Args:
        error: the system's.
        arguments: the command line.
    """
    if error.filename is None:
        return None
    file = Path(os.path.realpath(os.fsdecode(error.filename)))
    try:
        state = state_dir(given_state(arguments)).absolute()
        if file.is_relative_to(os.path.realpath(state)) and _is_anothers(state):
            return _not_yours(state)
    except (HostError, OSError):
        # No installation, or a directory that cannot even be looked at: the file is all there is to tell of.
        pass
    return InputError("this file may not be used", got=error.strerror, where=str(file))


def _is_anothers(state: Path) -> bool:
    return os.geteuid() not in (0, state.stat().st_uid)


def _not_yours(state: Path) -> AuthError:
    owner = _name(state.stat().st_uid)
    return AuthError(
        f"the state directory belongs to {owner}",
        expected="the user who runs the facility",
        got=_name(os.geteuid()),
        where=str(state),
        remedy=f"run it as {owner}, or name a directory of your own with --state",
    )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


@contextmanager
def named_by_user() -> Iterator[None]:
    """What a user names and is not there is bad input, where it is a part of the facility and no entry of a catalogue.

    Raises:
        InputError: in place of NotFoundError.
    """
    try:
        yield
    except NotFoundError as error:
        raise InputError(
            error.what, expected=error.expected, got=error.got, where=error.where, remedy=error.remedy
        ) from error


def client_programs() -> list[Path]:
    """Where the commands of this Boathouse and the stock clients are; no interpreter lies there."""
    try:
        home = programs.home()
        return [home / "bin", programs.load(home).xrootd_bin]
    except HostError:
        # The client alone, without an installer.
        return [Path(sys.executable).parent]
