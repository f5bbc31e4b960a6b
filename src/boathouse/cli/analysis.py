"""``run``, ``publish``, ``sample``: from a dataset to a plot and back into the lake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from boathouse.cli.common import Json, State, count, emit, err, out, state_dir
from boathouse.cli.phases import Phases
from boathouse.errors import InputError
from boathouse.facility.faults import nearest
from boathouse.lake.lake import Lake
from boathouse.lake.names import Did
from boathouse.plan import endpoints as address_file
from boathouse.plan.model import Endpoints
from boathouse.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from boathouse.analysis.dataset import Dataset
    from boathouse.analysis.run import Histograms
    from boathouse.analysis.sources import Access
    from boathouse.analysis.task import Task
    from boathouse.compute.base import Backend

# uproot, Dask and matplotlib take most of a second to import: the other commands shall not wait for them.


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        "run",
        epilog="Examples:  boathouse run examples/analysis/dimuon.py cms:DoubleMu   |   "
        "boathouse run dimuon.py cms:DoubleMu --workers 8 --site CNAF --out z-peak   |   "
        "boathouse run dimuon.py *.root",
    )(run)
    app.command(
        "publish",
        epilog="Examples:  boathouse publish result --to cms:DoubleMu.plots   |   "
        "boathouse publish z-peak --to user.alice:zpeak --qos SAFE",
    )(publish)
    app.command(
        "sample",
        epilog="Examples:  boathouse sample --out samples   |   boathouse sample --events 100000 --files 2 --seed 7",
    )(sample)


def run(
    analysis: Annotated[Path, typer.Argument(help="Python file of the analysis.", dir_okay=False)],
    inputs: Annotated[list[str], typer.Argument(metavar="DID", help="Dataset of the lake, or local ROOT files.")],
    *,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Worker processes; 0 runs in this one.", show_default="one a core")
    ] = None,
    directory: Annotated[
        Path, typer.Option("--out", help="Directory for the result; an earlier one is replaced.", file_okay=False)
    ] = Path("result"),
    site: Annotated[str | None, typer.Option(help="Site to read at: its caches come first.")] = None,
    chunk: Annotated[int, typer.Option(min=1000, help="Events that a worker takes at a time, at least.")] = 200_000,
    state: State = None,
    json: Json = False,
) -> None:
    """Run an analysis over every event of a dataset, and write plots, histograms, ntuple and record."""
    try:
        _analyse(analysis, inputs, directory, _Reading(workers, site, chunk), state, as_json=json)
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt("no result was written, and the same command begins again") from error


@dataclass(frozen=True)
class _Reading:
    """How events are to be read."""

    workers: int | None
    site: str | None
    chunk: int


def _analyse(
    analysis: Path, inputs: Sequence[str], directory: Path, reading: _Reading, state: Path | None, *, as_json: bool
) -> None:
    phases = Phases(err)
    phases.begin("libraries")
    from boathouse.analysis import task as tasks  # noqa: PLC0415
    from boathouse.results import record, write  # noqa: PLC0415

    write.require_writable(directory)
    task = tasks.load(analysis)
    facility = None
    if not _is_did(inputs):
        result = _run_local(task, inputs, reading, phases)
    else:
        endpoints = address_file.load(state_dir(state))
        require_site(endpoints, reading.site)
        facility = endpoints.facility
        result = _run_in_lake(task, Lake.from_session(endpoints), Did.parse(inputs[0]), reading, phases)
    phases.begin("plots", "drawing plots, writing the result")
    before = record.earlier(directory)
    written = write.write(result, directory, record.Context(record.user_name(), facility, analysis))
    document = written.document
    phases.end()
    if written.directory != directory.resolve():
        err.print(f"other files are in {directory} by now: the result is in {written.directory}")
        directory = written.directory
    elif before is not None and before["content"] != document["content"]:
        err.print(f"{directory} held another result, {_title(before)}: it has been replaced")
    if as_json:
        emit({**document, "directory": str(written.directory)})
    else:
        _show(result, directory, document, phases)


def require_site(endpoints: Endpoints, site: str | None) -> None:
    """Check that a site is one of the facility's.

    Raises:
        InputError: it is not.
    """
    sites = sorted({each.site for each in endpoints.storage} | {each.site for each in endpoints.caches})
    if site is not None and site not in sites:
        raise InputError(
            f"{endpoints.facility} has no such site",
            expected=f"one of {', '.join(sites)}",
            got=site,
            remedy=f"--site {nearest(site, sites) or sites[0]}",
        )


def publish(
    result: Annotated[Path, typer.Argument(help="Directory that `boathouse run` wrote.", file_okay=False)],
    *,
    to: Annotated[str, typer.Option(help="Dataset that takes the result; a changed result takes TO.v2, TO.v3, ...")],
    qos: Annotated[str, typer.Option(help="Quality of service of the storage.")] = "CHEAP-ANALYSIS",
    state: State = None,
    json: Json = False,
) -> None:
    """Put a result into the lake, with metadata that names its inputs, code and environment."""
    from boathouse.results import record  # noqa: PLC0415
    from boathouse.results.store import publish as store  # noqa: PLC0415

    dataset = Did.parse(to)
    record.load(result)
    lake = Lake.from_session(address_file.load(state_dir(state)))
    done = store(lake, result, dataset, qos=qos)
    if json:
        emit(
            {
                "dataset": str(done.dataset),
                "files": [str(did) for did in done.files],
                "outcome": done.outcome,
                "content": done.content,
            }
        )
        return
    if done.outcome == "present":
        out.print(f"{done.dataset} has this result already; nothing was uploaded.")
    else:
        out.print(f"{done.dataset} has the result now, on QOS={qos}:")
    for did in done.files:
        out.print(f"  {did}")


def sample(
    *,
    events: Annotated[int, typer.Option(min=1, help="Events in all.")] = 2_000_000,
    files: Annotated[int, typer.Option(min=1, help="Files to spread them over.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Seed: the same one gives the same bytes.")] = 2012,
    directory: Annotated[Path, typer.Option("--out", help="Directory for the files.", file_okay=False)] = Path(
        "samples"
    ),
    json: Json = False,
) -> None:
    """Generate NanoAOD-like files of simulated muon events; files that are there already are kept."""
    from boathouse.analysis.samples import Sample, SampleFile, generate  # noqa: PLC0415

    wanted = Sample(events=events, files=files, seed=seed)
    with _bar() as bar:
        task = bar.add_task("generating", total=events, counts=f"{events:,} events")

        def progress(made: SampleFile) -> None:
            bar.advance(task, made.events)

        made = generate(wanted, directory, progress=progress)
    if json:
        emit(
            [
                {"path": str(file.path), "events": file.events, "size_bytes": file.size_bytes, "adler32": file.adler32}
                for file in made
            ]
        )
        return
    size = format_bytes(sum(file.size_bytes for file in made))
    out.print(f"{count(events, 'event')} in {count(files, 'file')}, {size}:")
    for file in made:
        out.print(f"  {file.path}")


def _is_did(inputs: Sequence[str]) -> bool:
    return len(inputs) == 1 and ":" in inputs[0] and not Path(inputs[0]).exists()


def _run_local(task: Task, paths: Sequence[str], reading: _Reading, phases: Phases) -> Histograms:
    from boathouse.analysis.dataset import from_paths  # noqa: PLC0415

    phases.begin("files", f"checking {count(len(paths), 'file')}")
    return _run(task, from_paths([Path(path) for path in paths]), reading, None, phases)


def _run_in_lake(task: Task, lake: Lake, did: Did, reading: _Reading, phases: Phases) -> Histograms:
    from boathouse.analysis.dataset import from_lake  # noqa: PLC0415
    from boathouse.analysis.sources import Access  # noqa: PLC0415
    from boathouse.analysis.tokens import TokenFile  # noqa: PLC0415

    phases.begin("catalogue", f"asking for the files of {did}")
    dataset = from_lake(lake, did, site=reading.site)
    with TokenFile(lake.token) as token:
        return _run(task, dataset, reading, Access(str(token.path), lake.endpoints.ca_bundle), phases)


def _run(task: Task, dataset: Dataset, reading: _Reading, access: Access | None, phases: Phases) -> Histograms:
    from boathouse.analysis.run import WORKER_MODULES  # noqa: PLC0415
    from boathouse.analysis.run import run as run_analysis  # noqa: PLC0415

    environment = access.environment() if access else {}
    with ExitStack() as stack:
        bar = stack.enter_context(_bar())
        shown = bar.add_task("starting workers", total=None, counts="")
        phases.begin("workers", "starting workers")
        backend: Backend
        if reading.workers == 0:
            from boathouse.compute.inline import Inline  # noqa: PLC0415

            backend = Inline(environment)
        else:
            from boathouse.compute.local import LocalDask  # noqa: PLC0415

            backend = LocalDask(reading.workers, environment=environment, preload=WORKER_MODULES)
        stack.enter_context(backend)

        def progress(done: int, total: int) -> None:
            _update(bar, shown, done, total)

        files, hands = count(len(dataset.files), "file"), count(backend.workers, "worker")
        phases.begin("events", f"reading {files}, {format_bytes(dataset.size_bytes)}, on {hands}")
        result = run_analysis(task, dataset, backend, access=access, chunk_entries=reading.chunk, progress=progress)
        phases.begin("workers", "stopping workers")
    return result


def _update(bar: Progress, task: TaskID, done: int, total: int) -> None:
    bar.update(task, description="events", completed=done, total=total, counts=f"{done:,} / {total:,}")


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(show_speed=True),
        TextColumn("{task.fields[counts]}"),
        TimeElapsedColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )


def _title(document: Mapping[str, Any]) -> str:
    """Which analysis of what a record is of."""
    try:
        return f"{document['code']['file']} on {document['inputs']['dataset']}"
    except (KeyError, TypeError):
        return "of an unknown analysis"


def _show(result: Histograms, directory: Path, document: dict[str, Any], phases: Phases) -> None:
    table = Table(title=f"{result.task.name} on {result.dataset.name}", title_justify="left")
    table.add_column("step")
    table.add_column("events", justify="right")
    table.add_column("of all", justify="right")
    for step, events in result.output.counts.items():
        table.add_row(step, f"{events:,}", f"{events / result.events:.1%}" if result.events else "")
    if result.output.counts:
        out.print(table)
    speed = result.events / result.wall_s if result.wall_s else 0.0
    total = sum(account.expected for account in result.accounts)
    out.print(
        f"{result.events:,} of {count(total, 'event')} read, in {count(len(result.accounts), 'file')} and "
        f"{count(result.chunks, 'chunk')} on {count(result.workers, 'worker')}"
    )
    out.print(
        f"read and filled in {format_seconds(result.wall_s)} at {speed / 1e6:.2f} million events/s, of "
        f"{phases.told(without='events')}"
    )
    for url in sorted({attempt.url for attempt in result.failed}):
        reason = next(attempt.reason for attempt in result.failed if attempt.url == url)
        out.print(f"another replica was read instead of {url} ({reason})")
    for name in (*document["result"], "record.json"):
        out.print(f"  {directory / name}")
