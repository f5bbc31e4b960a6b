"""The command ``boathouse``: turns errors and Ctrl-C into messages and exit codes.

What it needs is imported inside :func:`main`, where Ctrl-C is caught already: imports take most of a second.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from boathouse.errors import BoathouseError

if TYPE_CHECKING:
    import typer

INTERRUPTED = 130
UNREAD = 141
"""As shells tell of a program whose output nobody reads any more: 128 + SIGPIPE."""
_GO_ON = "what was done so far stays, and the same command goes on from there"


def build() -> typer.Typer:
    """The command with all its nouns, as the shell and the documentation see it."""
    from boathouse.cli.tree import build as build_tree  # noqa: PLC0415

    return build_tree()


class CtrlC(KeyboardInterrupt):
    """Ctrl-C. Of the class itself, Python notes that it passed through ``exec`` and ends by a signal in the end."""


def main() -> None:
    """Run the command line; an error of ours becomes a message on standard error and its exit code."""
    try:
        # Where a shell has a background job ignore it, it stays ignored.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _ctrl_c)
            # Runs last of all: Python would set the default next, and end by the signal with everything done.
            atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
        _run()
    except KeyboardInterrupt:
        # Before or after the command itself: nothing was being done.
        _interrupted("")
    except BrokenPipeError:
        # While an error was told.
        _unread()


def _run() -> None:
    from boathouse.cli.common import refused  # noqa: PLC0415
    from boathouse.cli.tree import Interrupted, Unread  # noqa: PLC0415
    from boathouse.cli.tree import build as build_tree  # noqa: PLC0415

    try:
        # Usage errors are typer's.
        build_tree()(prog_name="boathouse")
    except Interrupted as error:
        _interrupted(str(error) or _GO_ON)
    except Unread:
        _unread()
    except BoathouseError as error:
        _report(error)
        sys.exit(error.exit_code)
    except PermissionError as error:
        told = refused(error, sys.argv[1:])
        if told is None:
            raise
        _report(told)
        sys.exit(told.exit_code)


def _ctrl_c(*_: object) -> None:
    raise CtrlC


def _report(error: BoathouseError) -> None:
    import json  # noqa: PLC0415

    from boathouse.cli.common import err, given_state, hint, hinted, literal  # noqa: PLC0415

    state = given_state(sys.argv[1:])
    if "--json" in sys.argv:
        sys.stdout.write(json.dumps(hinted(error.as_dict(), state)) + "\n")
        sys.stdout.flush()
    err.print(*hint(f"error: {literal(error)}", state).split("\n"), sep="\n", style="red")


def _unread() -> NoReturn:
    # Python flushes both once more in the end.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.dup2(nowhere, sys.stderr.fileno())
    sys.exit(UNREAD)


def _interrupted(what_now: str) -> None:
    # All that had to be cleaned up has been: whoever presses again wants to leave at once.
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    # The terminal has just shown ^C.
    line = "\n" if sys.stderr.isatty() else ""
    sys.stderr.write(f"{line}interrupted{': ' if what_now else ''}{what_now}\n")
    sys.exit(INTERRUPTED)
