"""What the commands of ``iam`` share: the issuer's administration, reasons, ends of memberships, tables."""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from boathouse.cli.common import emit, out, state_dir
from boathouse.cli.lakes import endpoints_of
from boathouse.errors import InputError, NotFoundError
from boathouse.lake.iam import Iam
from boathouse.lake.lake import OPERATOR
from boathouse.units import end_of_day, parse_seconds

Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept in the audit log.")]
Commands = tuple[tuple[str, Callable[..., None], str], ...]
"""Name, function and example of each command of a noun."""
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_LATEST = int(dt.datetime(3000, 1, 1, tzinfo=dt.UTC).timestamp())


def desk(state: Path | None, reason: str = "") -> Iam:
    """The issuer's administration, as the operator of the facility in a state directory."""
    directory = state_dir(state)
    return Iam.operator(endpoints_of(directory), directory / "secrets" / f"client-{OPERATOR}", reason=reason)


def moment(text: str, *, what: str) -> float:
    """A point in time, in seconds since the epoch: ``2026-12-31``, with or without a time of day, in UTC.

    Raises:
        InputError: it is none.
    """
    try:
        at = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"not a time for {what}", expected="2026-12-31 or 2026-12-31T12:00", got=repr(text)) from error
    return (at if at.tzinfo else at.replace(tzinfo=dt.UTC)).timestamp()


def until(text: str | None) -> int | None:
    """When a membership ends: a day (its last), a point in time, or a duration from now; None for never.

    Raises:
        InputError: it is none of these.
    """
    if text is None:
        return None
    if _DAY.fullmatch(text):
        ends = end_of_day(text)
    elif _DAY.match(text):
        ends = int(moment(text, what="an end"))
    else:
        ends = int(time.time() + parse_seconds(text))
    if ends > _LATEST:
        raise InputError("an end too far away", expected="one in this millennium", got=text, remedy="leave --until out")
    return ends


def when(seconds: float | None) -> str:
    """A point in time for people."""
    return "" if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def done(text: str, document: Any, *, changed: bool = True, as_json: bool) -> None:
    """Say what was done, or that it was so already."""
    if as_json:
        emit({"changed": changed, **(document if isinstance(document, dict) else {"result": document})})
    else:
        out.print(text if changed else f"{text} already")


def remove(what: str, named: dict[str, Any], removal: Callable[[], object], *, as_json: bool) -> None:
    """Remove something, and say that it is gone, whether or not it was there.

    Args:
        what: for people.
        named: what is told of it as JSON where nothing more is known.
        removal: removes it, and returns what was there; raises NotFoundError if nothing was.
        as_json: whether to speak JSON.
    """
    try:
        there, changed = removal(), True
    except NotFoundError:
        there, changed = None, False
    done(f"{what} is gone", there or named, changed=changed, as_json=as_json)
