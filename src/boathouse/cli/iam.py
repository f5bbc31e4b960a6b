"""``iam …``: the facility's token issuer, for who runs it."""

from __future__ import annotations

import typer

from boathouse.cli import iam_audit, iam_groups, iam_keys, iam_people, iam_rights


def register(app: typer.Typer) -> None:
    """Add the commands."""
    iam = typer.Typer(no_args_is_help=True, help="The token issuer: who is known, and what its tokens are signed with.")
    for commands in (iam_people, iam_groups, iam_rights, iam_audit, iam_keys):
        commands.register(iam)
    app.add_typer(iam, name="iam")
