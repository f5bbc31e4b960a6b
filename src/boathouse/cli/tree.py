"""All commands of ``boathouse`` as one tree of typer, and what Ctrl-C does in it."""

from __future__ import annotations

import importlib
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from boathouse import __version__
from boathouse.cli import common

# Each module has a function register(app) that adds its commands; the order is that of --help.
_NOUNS = (
    "run",
    "demo",
    "session",
    "lake",
    "rules",
    "transfers",
    "cache",
    "audit",
    "iam",
    "analysis",
    "facility",
    "doctor",
)


class Interrupted(BaseException):
    """Ctrl-C in a command; the text, if there is one, says what that means for what the command was doing.

    typer makes a return value of ``KeyboardInterrupt`` where one command runs another, which would then go on; and of
    Ctrl-C at a prompt the exit status 1. It knows nothing of this exception and lets it pass.
    """


class Unread(BaseException):
    """Whoever read the output of a command has gone, as ``head`` does. typer would make exit status 1 of it."""


class Commands(TyperGroup):
    """The group of all commands."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command.

        Raises:
            Interrupted: Ctrl-C.
            Unread: nobody reads the output any more.
        """
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Interrupted(*error.args) from error
        except BrokenPipeError as error:
            raise Unread from error
        except typer.Abort as error:
            if isinstance(error.__context__, KeyboardInterrupt):
                raise Interrupted from error
            raise


app = typer.Typer(
    name="boathouse",
    cls=Commands,
    help="A data lake and the analysis facility on its shore, in one command.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=common.EXIT_CODES,
)


@app.callback(invoke_without_command=True)
def _root(
    ctx: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def build() -> typer.Typer:
    """The command with all its nouns, as the shell and the documentation see it."""
    if not app.registered_commands:
        for noun in _NOUNS:
            importlib.import_module(f"boathouse.cli.{noun}").register(app)
    return app
