"""``iam keys list|rotate``: the keys that the facility's tokens are signed with."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from boathouse.cli.common import Json, State, emit, err, state_dir
from boathouse.cli.iam_desk import when
from boathouse.cli.lakes import columns
from boathouse.errors import InputError
from boathouse.run import programs
from boathouse.run.local import issuer
from boathouse.units import parse_seconds


def list_(state: State = None, *, as_json: Json = False) -> None:
    """The keys that are published, oldest first: which one signs, and until when the others stay."""
    _show(_ask(state, "keys"), as_json=as_json)


def rotate(
    after: Annotated[
        str | None,
        typer.Option("--after", help="How long the new key is published before it signs; 2 d if not given."),
    ] = None,
    state: State = None,
    *,
    emergency: Annotated[
        bool,
        typer.Option("--emergency", help="A key is in wrong hands: withdraw all keys; every token of theirs is void."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Publish a new key that signs after a while; the old ones stay until their last token has ended.

    The issuer does this by itself every six months. Nobody notices: Rucio, storage, caches and transfers know the new
    key before it signs. An emergency is noticed: within seconds no service takes a token of an old key (storage
    elements within a minute), so everybody needs a new token; sessions renew theirs within half a minute.
    """
    if emergency and after is not None:
        raise InputError("an emergency does not wait", expected="--emergency or --after", got="both")
    if emergency:
        err.print("withdrawing all keys, which takes five seconds …")
        words = ["--emergency"]
    else:
        words = [] if after is None else ["--activation", str(int(parse_seconds(after)))]
    _show(_ask(state, "rotate", *words), as_json=as_json)


def _ask(state: State, *words: str) -> list[dict[str, Any]]:
    keys: list[dict[str, Any]] = issuer.ask(programs.load(programs.home()), state_dir(state), *words)
    return keys


def _show(keys: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        emit(keys)
        return
    columns(
        ("KEY", "ALGORITHM", "STATE", "SIGNS FROM", "GONE AT"),
        ((key["kid"], key["algorithm"], key["state"], when(key["signs_from"]), when(key["gone_at"])) for key in keys),
    )


def register(iam: typer.Typer) -> None:
    """Add the commands to ``iam``."""
    keys = typer.Typer(no_args_is_help=True, help="The keys that tokens are signed with.")
    keys.command("list", epilog="Examples: boathouse iam keys list | boathouse iam keys list --json")(list_)
    keys.command("rotate", epilog="Examples: boathouse iam keys rotate | boathouse iam keys rotate --emergency")(rotate)
    iam.add_typer(keys, name="keys")
