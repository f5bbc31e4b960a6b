"""The reference pages, made from the code: ``python -m boathouse.cli.reference DIRECTORY`` (``make docs``)."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path

import typer
from rich.text import Text
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from boathouse import errors
from boathouse.cli.common import EXIT_CODES
from boathouse.cli.main import build
from boathouse.facility import schema

_MADE = "<!-- Made by `make docs` from {source}: change it there. -->"


def pages() -> dict[str, str]:
    """Text of each reference page by file name."""
    return {"cli.md": cli_page(), "errors.md": errors_page(), "facility.md": schema.reference_page()}


def cli_page() -> str:
    """Every command with its arguments, options and examples."""
    lines = [
        "# The command `boathouse`",
        "",
        _MADE.format(source="src/boathouse/cli"),
        "",
        "Results go to standard output, progress and errors to standard error. `--json` prints one JSON document; an",
        "error is then a JSON object too. `boathouse --install-completion` teaches the shell its words.",
        "",
        EXIT_CODES + " [What they mean](errors.md).",
        "",
    ]
    for context, command in commands(root()):
        lines += _command(context, command)
    return "\n".join(lines)


def root() -> TyperGroup:
    """The command ``boathouse``."""
    group = typer.main.get_command(build())
    assert isinstance(group, TyperGroup)
    return group


def commands(group: TyperGroup) -> Iterator[tuple[typer.Context, TyperCommand]]:
    """Every command that does something, with the context that knows its whole name."""
    yield from _walk(group, typer.Context(group, info_name="boathouse"))


def _walk(group: TyperGroup, context: typer.Context) -> Iterator[tuple[typer.Context, TyperCommand]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        inner = typer.Context(command, info_name=name, parent=context) if command else context
        if isinstance(command, TyperGroup):
            yield from _walk(command, inner)
        elif isinstance(command, TyperCommand) and not command.hidden:
            yield inner, command


def _command(context: typer.Context, command: TyperCommand) -> list[str]:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    lines = [f"## `{context.command_path}`", "", _plain(cleandoc(command.help or "")), "", "```", usage, "```", ""]
    parameters = [one for one in command.params if isinstance(one, TyperArgument | TyperOption) and not one.hidden]
    rows = [_parameter(context, parameter) for parameter in parameters]
    if rows:
        lines += ["| | default | meaning |", "|---|---|---|", *rows, ""]
    examples = _examples(command.epilog or "")
    return [*lines, "```", *examples, "```", ""] if examples else lines


def _examples(epilog: str) -> list[str]:
    """The examples of an epilog, ``Examples: one | two``; a pipe between other programs is one of the shell."""
    text = re.sub(r"^Examples?:", "", _plain(epilog))
    return [example.strip() for example in re.split(r"\s\|\s+(?=boathouse\b)", text) if example.strip()]


def _parameter(context: typer.Context, parameter: TyperArgument | TyperOption) -> str:
    if isinstance(parameter, TyperArgument):
        name = parameter.display_name_raw.strip("[]").upper()
    else:
        kind = "" if parameter.is_flag else f" {parameter.display_type(context)}"
        name = ", ".join([*parameter.opts, *parameter.secondary_opts]) + kind
    meaning = _plain(parameter.help or "")
    if parameter.envvar:
        meaning += f" Or the variable `{parameter.envvar}`."
    cells = (f"`{name}`", _default(parameter), meaning)
    # A pipe ends a cell, in code too.
    row = " | ".join(cell.replace("|", r"\|") for cell in cells)
    return f"| {row} |"


def _default(parameter: TyperArgument | TyperOption) -> str:
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    if parameter.required:
        return "**required**"
    if parameter.default in (None, False, (), "") or callable(parameter.default):
        return ""
    return f"`{parameter.default}`"


def _plain(text: str) -> str:
    return Text.from_markup(text).plain.strip().replace("``", "`")


def errors_page() -> str:
    """The tree of errors with exit codes."""
    lines = [
        "# Errors",
        "",
        _MADE.format(source="src/boathouse/errors.py"),
        "",
        "Every error says what happened, what was expected and what was there instead, where, and what to do. With",
        "`--json` these are the keys `what`, `expected`, `got`, `where`, `remedy` of one object, beside `error` (its",
        "name), `exit_code` and `retryable` (whether the same command may succeed later without a change).",
        "",
        "| error | exit code | retryable | meaning |",
        "|---|---|---|---|",
    ]
    for depth, error in tree(errors.BoathouseError):
        name = f"{'&nbsp;&nbsp;' * depth}`{error.__name__}`"
        meaning = " ".join((error.__doc__ or "").partition("\n\n")[0].replace("``", "`").split())
        lines.append(f"| {name} | {error.exit_code} | {'yes' if error.retryable else 'no'} | {meaning} |")
    return "\n".join([*lines, ""])


def tree(error: type[errors.BoathouseError], depth: int = 0) -> Iterator[tuple[int, type[errors.BoathouseError]]]:
    """An error class and all below it, each after its parent, in the order of the module."""
    yield depth, error
    for inner in error.__subclasses__():
        if inner.__module__ == errors.__name__:
            yield from tree(inner, depth + 1)


def main(directory: Path) -> None:
    """Write all pages."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (directory / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
