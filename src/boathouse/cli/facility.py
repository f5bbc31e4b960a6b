"""``facility check|explain|schema``: the facility file before anything is started."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from boathouse.cli.common import Json, State, emit, line, out, state_dir
from boathouse.facility import schema
from boathouse.facility.explain import Explanation
from boathouse.facility.explain import explain as explain_key
from boathouse.facility.load import read
from boathouse.run.facility import locate
from boathouse.run.local.secrets import read_source

_FILE_HELP = "Facility file, or the name of an example; by default the one in the state directory."
File = Annotated[str | None, typer.Argument(help=_FILE_HELP, show_default=False)]


def _path(given: str | None, state: Path | None) -> Path:
    # A file that is named needs no installation.
    return locate(given, Path() if given else state_dir(state))


def check(file: File = None, *, state: State = None, as_json: Json = False) -> None:
    """Check a facility file, and the files that it names; all faults are told at once, each with its line."""
    path = _path(file, state)
    facility = read(path, look=read_source).facility
    counts = {
        "sites": len(facility.sites),
        "storage elements": len(facility.storage),
        "caches": len(facility.caches),
        "groups": len(facility.groups),
        "users": len(facility.users),
        "scopes": len(facility.scopes),
    }
    if as_json:
        emit({"file": path, "facility": facility.name, **counts})
    else:
        out.print(f"{path} is good: {facility.name}, {', '.join(f'{name} {count}' for name, count in counts.items())}")


def explain(
    key: Annotated[str, typer.Argument(help="Key, as services.token_lifetime, CNAF-STORM.qos or users.alice.")],
    file: File = None,
    *,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Tell what a setting means, what it is, and where that comes from."""
    explanation = explain_key(read(_path(file, state)), key)
    if as_json:
        emit(asdict(explanation))
    else:
        out.print(_table(explanation))


def _table(explanation: Explanation) -> Table:
    table = Table(box=None, show_header=False)
    for name, value in (
        ("key", explanation.key),
        ("value", explanation.value),
        ("from", explanation.source),
        ("meaning", explanation.doc),
        ("must be", explanation.kind),
        ("default", explanation.default),
        ("below it", ", ".join(explanation.below)),
    ):
        if value:
            table.add_row(line((name, "bold")), value)
    return table


def json_schema() -> None:
    """Print the JSON Schema of the facility file, for editors."""
    emit(schema.json_schema())


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    noun = typer.Typer(help="Check, explain and describe the facility file.", no_args_is_help=True)
    noun.command(
        "check", epilog="Examples:  boathouse facility check my-site.yaml  |  boathouse facility check escape --json"
    )(check)
    noun.command(
        "explain",
        epilog="Examples:  boathouse facility explain CNAF-STORM.qos  |  "
        "boathouse facility explain services.token_lifetime my-site.yaml",
    )(explain)
    noun.command("schema", epilog="Examples:  boathouse facility schema > facility.schema.json")(json_schema)
    app.add_typer(noun, name="facility")
