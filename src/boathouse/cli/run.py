"""``up``, ``down``, ``status``, ``endpoints``, ``logs``: the facility on this machine."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Self

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from boathouse.cli.common import Json, State, emit, err, hint, line, named_by_user, out, require_own, shown, state_dir
from boathouse.errors import ServiceError, StateError
from boathouse.facility.model import Facility
from boathouse.lake.session import end_sessions_of
from boathouse.plan import endpoints as endpoints_file
from boathouse.plan.model import Endpoints
from boathouse.run.base import Health, UnitState
from boathouse.run.facility import LocalFacility, locate, open_facility, prepare
from boathouse.run.local.account import service_account
from boathouse.run.local.space import Space
from boathouse.run.local.space import read as read_space
from boathouse.run.local.state import forget_link, open_existing
from boathouse.services.rucio import space_file
from boathouse.units import format_bytes, format_seconds

_WIDE = 120
"""Columns from which on addresses fit beside the reasons."""

_COLOUR = {
    UnitState.ready: "green",
    UnitState.starting: "yellow",
    UnitState.preparing: "yellow",
    UnitState.stopping: "yellow",
    UnitState.failing: "red",
    UnitState.dead: "red",
    UnitState.stopped: "dim",
}


class StartDisplay:
    """Shows how a facility comes up or goes down: a bar on a terminal, one line a unit elsewhere."""

    def __init__(self, total: int, verb: str, until: UnitState) -> None:
        self._until = until
        self._began = time.monotonic()
        self._busy: dict[str, None] = {}
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[busy]}", style="dim"),
            TimeElapsedColumn(),
            console=err,
            transient=True,
            disable=not err.is_terminal,
        )
        self._task = self._progress.add_task(verb, total=total, busy="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def __call__(self, unit: str, state: UnitState, detail: str) -> None:
        """Note one change of state."""
        if state is not self._until:
            self._busy[unit] = None
        else:
            self._busy.pop(unit, None)
            self._progress.advance(self._task)
            if not err.is_terminal:
                err.print(f"{time.monotonic() - self._began:6.1f} s  {state}  {unit} {detail}".rstrip())
        self._progress.update(self._task, busy=", ".join(list(self._busy)[:4]))


def bring_up(local: LocalFacility) -> float:
    """Bring a facility up with its progress on standard error.

    Returns:
        The time that it took, in seconds.
    """
    began = time.monotonic()
    with StartDisplay(len(local.plan.units), "starting", UnitState.ready) as display:
        local.up(display)
    return time.monotonic() - began


def up(
    facility: Annotated[
        str | None, typer.Argument(help="Facility file, or the name of an example: laptop, escape.", show_default=False)
    ] = None,
    *,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Bring a facility up, or make a running one agree with its changed file."""
    directory = state_dir(state)
    require_own(directory)
    local = prepare(locate(facility, directory), directory)
    took_s = bring_up(local)
    if as_json:
        emit({"facility": local.facility.name, "state": str(local.state.path), "ready_after_s": round(took_s, 3)})
        return
    ready = (f"{local.facility.name} is ready", "green")
    out.print(line(ready, f" after {format_seconds(took_s)}: {local.state.path}"))
    out.print(login_hint(local))


def login_hint(local: LocalFacility) -> Text:
    """How to log in, in two lines."""
    if external := local.facility.services.issuer:
        return line(hint(f"log in at {external.url}:  boathouse login", local.state.path))
    user = next(iter(local.facility.users), "USER")
    password = local.state.path / "secrets" / f"password-{user}"
    ways = (
        f'log in as {user}:  boathouse login --user {user} --password-file "{password}"',
        "or in a browser:  boathouse login   (the password is in that file)",
    )
    return Text("\n").join(line(hint(way, local.state.path)) for way in ways)


def down(
    *, state: State = None, purge: Annotated[bool, typer.Option(help="Remove all state as well.")] = False
) -> None:
    """Stop everything that up started, and nothing else."""
    directory = state_dir(state)
    if not (directory / "state.json").exists():
        out.print(f"nothing to stop: no facility in {directory}")
        return
    require_own(directory)
    local = open_facility(directory)
    if purge:
        # While the issuer still runs, so that it revokes their tokens.
        end_sessions_of(directory)
    with StartDisplay(len(local.plan.units), "stopping", UnitState.stopped) as display:
        stopped = local.down(display)
    out.print(f"{local.facility.name} is down: {stopped} processes ended" if stopped else "nothing was running")
    if purge:
        opened = open_existing(directory, service_account())
        forget_link(opened)
        shutil.rmtree(directory)
        out.print(f"removed {directory}")


def status(*, state: State = None, as_json: Json = False) -> None:
    """Show every unit: what it does, since when, and why. Exit code 0 if all are ready, 5 if not, 6 if it is down."""
    local = open_facility(state_dir(state))
    healths = local.runner.status(local.plan)
    space = read_space(space_file(local.state.layout))
    if as_json:
        emit(
            {
                "facility": local.facility.name,
                "state": str(local.state.path),
                "ready": all(health.state is UnitState.ready for health in healths),
                "units": [asdict(health) for health in healths],
                "space": {
                    rse: {**asdict(space[rse]), "capacity_bytes": element.capacity}
                    for rse, element in local.facility.storage.items()
                    if rse in space
                },
            }
        )
    else:
        out.print(_status_table(local, healths))
        if space:
            out.print(_space_table(local.facility, space))
    bad = [health.unit for health in healths if health.state is not UnitState.ready]
    if all(health.state is UnitState.stopped for health in healths):
        raise StateError("the facility is down", where=str(local.state.path), remedy="boathouse up")
    if bad:
        raise ServiceError(
            f"{len(bad)} of {len(healths)} units are not ready", got=", ".join(bad), remedy=f"boathouse logs {bad[0]}"
        )


def _status_table(local: LocalFacility, healths: tuple[Health, ...]) -> Table:
    # On a terminal that has room for it; unit, state and reason are always shown whole.
    is_wide = out.is_terminal and out.width >= _WIDE
    table = Table(box=None, pad_edge=False, title=f"{local.facility.name}  ({local.state.path})", title_justify="left")
    table.add_column("unit", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("since", no_wrap=True)
    table.add_column("why", overflow="fold")
    if is_wide:
        table.add_column("where", no_wrap=True)
        table.add_column("what", style="dim", no_wrap=True, overflow="ellipsis")
    for health in healths:
        since = datetime.fromtimestamp(health.since, UTC).strftime("%d %b %H:%M:%S") if health.since else ""
        row: list[str | Text] = [health.unit, line((health.state, _COLOUR[health.state])), since, health.detail]
        table.add_row(*row, *([health.url, health.title] if is_wide else []))
    return table


def _space_table(facility: Facility, space: Mapping[str, Space]) -> Table:
    table = Table("storage", box=None, pad_edge=False)
    for name in ("used", "free", "capacity", "files"):
        table.add_column(name, justify="right")
    for rse, element in facility.storage.items():
        if found := space.get(rse):
            sizes = (found.used_bytes, found.free_bytes, element.capacity)
            table.add_row(rse, *map(format_bytes, sizes), str(found.files))
    return table


def endpoints(*, state: State = None, as_json: Json = False) -> None:
    """Show the addresses of all services, and how their URLs are made."""
    found = endpoints_file.load(state_dir(state))
    if as_json:
        emit(asdict(found))
        return
    out.print(endpoints_table(found))
    storage = found.storage[0]
    out.print(
        f"a file at {storage.rse}:  {storage.https}{storage.prefix}/SCOPE/…  {storage.root}/{storage.prefix}/SCOPE/…"
    )
    for cache in found.caches:
        if cache.federation:
            out.print(f"a file of {cache.federation} through {cache.name}:  {cache.root}/{cache.paths[0]}/…")
            continue
        behind = storage.root.replace("root://", "roots://", 1)
        out.print(f"the same through {cache.name}:  {cache.root}//{behind}/{storage.prefix}/SCOPE/…")
    out.print(f"CA bundle:  {found.ca_bundle}")


def endpoints_table(found: Endpoints) -> Table:
    """Services with their addresses, one a line."""
    table = Table("service", "https", "root", box=None, pad_edge=False)
    table.add_row("token issuer (sign in, your account)", found.issuer, "")
    table.add_row("catalogue (Rucio)", found.catalogue, "")
    table.add_row("transfers (FTS3 REST)", found.transfers, "")
    for storage in found.storage:
        table.add_row(f"storage {storage.rse}, QOS={storage.qos}", storage.https, storage.root)
    for cache in found.caches:
        table.add_row(f"cache {cache.name}", cache.https, cache.root)
    return table


def logs(
    unit: Annotated[str, typer.Argument(help="Unit, as `boathouse status` names it.")],
    *,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many lines from the end.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines as they come.")] = False,
    state: State = None,
) -> None:
    """Show the log of a unit."""
    local = open_facility(state_dir(state))
    with named_by_user():
        for each in local.runner.logs(local.plan, unit, lines=lines, follow=follow):
            typer.echo(shown(each.expandtabs()))


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(
        "up",
        epilog="Examples:  boathouse up  |  boathouse up escape --state /data/escape  |  boathouse up my-site.yaml",
    )(up)
    app.command("down", epilog="Examples:  boathouse down  |  boathouse down --purge")(down)
    app.command("status", epilog="Examples:  boathouse status  |  boathouse status --json")(status)
    app.command("endpoints", epilog="Examples:  boathouse endpoints  |  boathouse endpoints --json")(endpoints)
    app.command("logs", epilog="Examples:  boathouse logs rucio  |  boathouse logs transfers -f")(logs)
