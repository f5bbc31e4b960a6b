"""``iam audit list|verify|who-could-read``: what was issued, refused and changed, and who could read what when."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from boathouse.cli.common import Json, State, count, emit, out
from boathouse.cli.iam_desk import desk, moment, when
from boathouse.cli.lakes import columns, waiting
from boathouse.errors import StateError

_SHOWN = ("seq", "at", "event", "hash", "state", "request")


def list_(
    event: Annotated[str, typer.Option("--event", help="Only those that begin so, e.g. policy or token.refused.")] = "",
    number: Annotated[int, typer.Option("--count", min=1, max=1000, help="How many.")] = 50,
    state: State = None,
    *,
    as_json: Json = False,
) -> None:
    """List records of the audit log, the latest last."""
    found = desk(state).call("GET", "/iam/audit", event=event, count=str(number))[::-1]
    if as_json:
        emit(found)
        return
    columns(
        ("NUMBER", "TIME", "EVENT", "DETAIL"),
        ((str(one["seq"]), when(one["at"]), one["event"], _words(one)) for one in found),
    )


def _words(record: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in record.items() if key not in _SHOWN)


def verify(state: State = None, *, as_json: Json = False) -> None:
    """Check that no record was changed, taken out or put in, and that the tables are as the records tell.

    Whoever keeps the hash that is printed can tell later that everything before it is as it was, its end too.
    """
    iam = desk(state)
    checked: dict[str, Any] = {"seq": 0, "hash": "", "at_end": False}
    with waiting("checking the chain"):
        while not checked["at_end"]:
            after = str(checked["seq"] or "")
            checked = iam.call("GET", "/iam/audit/verify", after=after, hash=checked["hash"])
    if as_json:
        emit(checked)
    else:
        out.print(f"{count(checked['seq'], 'record')}, none tampered with; the last hash is {checked['hash']}")
    if checked["unrecorded"]:
        raise StateError(
            "the tables are not as the audit log tells",
            expected="changes by the facility file, the commands and the pages only",
            got="; ".join(checked["unrecorded"][:20]),
            remedy="find out who changed the database; a restart of the issuer records the rows as they are",
        )


def who_could_read(
    path: Annotated[str, typer.Argument(help="As storage knows it, e.g. /lake/magic/run1.", metavar="PATH")],
    at: Annotated[str | None, typer.Option("--at", help="When, in UTC; now if not given.")] = None,
    capability: Annotated[str, typer.Option("--capability", help="Another one than reading.")] = "storage.read",
    state: State = None,
    *,
    as_json: Json = False,
) -> None:
    """Say who could read a path at some time: by the rules of then, and by tokens that were alive then."""
    moment_s = time.time() if at is None else moment(at, what="--at")
    with waiting("reading the audit log"):
        answer = desk(state).call("GET", "/iam/audit/who-could", path=path, at=f"{moment_s:.3f}", capability=capability)
    if as_json:
        emit(answer)
        return
    out.print(f"{answer['scope']} at {when(answer['at'])}")
    columns(
        ("WHO", "KIND", "BECAUSE"),
        ((one["name"], one["kind"], "; ".join(one["because"])) for one in answer["entitled"]),
    )
    if answer["holding"]:
        out.print("", "Tokens that were alive:", sep="\n")
        columns(
            ("WHO", "CLIENT", "FOR", "ISSUED", "ENDED", "TOKEN"),
            (
                (
                    one["name"],
                    one["client"],
                    one["audience"],
                    when(one["issued_at"]),
                    when(one["expires_at"]),
                    one["jti"],
                )
                for one in answer["holding"]
            ),
        )


def register(iam: typer.Typer) -> None:
    """Add the commands to ``iam``."""
    audit = typer.Typer(no_args_is_help=True, help="The audit log: every token, refusal and change, with its reason.")
    audit.command("list", epilog="Examples: boathouse iam audit list | boathouse iam audit list --event policy")(list_)
    audit.command("verify", epilog="Example: boathouse iam audit verify --json")(verify)
    audit.command(
        "who-could-read",
        epilog="Example: boathouse iam audit who-could-read /lake/magic/run1 --at 2026-11-20T12:00",
    )(who_could_read)
    iam.add_typer(audit, name="audit")
