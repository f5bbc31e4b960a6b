"""``transfer list|show|why|unclean|cancel|watch``: the jobs of the transfer service."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from boathouse.cli.common import Json, State, emit, err, out, state_dir
from boathouse.cli.iam_desk import desk
from boathouse.cli.lakes import columns, endpoints_of, open_lake
from boathouse.errors import BoathouseError, InputError, PartialError, TransferError
from boathouse.lake.lake import OPERATOR, Lake
from boathouse.lake.transfers import ENDED, Job, Transfers
from boathouse.units import format_bytes, parse_seconds

JobId = Annotated[str, typer.Argument(help="Id of the job.", metavar="JOB")]
AsOperator = Annotated[
    bool, typer.Option("--operator", help="As the facility's operator, on its machine: everybody's jobs.")
]

_STATES = ("SUBMITTED", "ACTIVE", *sorted(ENDED))
_GAVE_UP = ("FAILED", "CANCELED")
_MOST_STEPS = 6


def _transfers(state: Any, *, operator: bool) -> Transfers:
    if not operator:
        return open_lake(state).transfers
    directory = state_dir(state)
    return Lake.operator(endpoints_of(directory), directory / "secrets" / f"client-{OPERATOR}").transfers


def list_(
    *,
    job_state: Annotated[
        list[str] | None, typer.Option("--is", help="Jobs in this state, e.g. FAILED; may be repeated.")
    ] = None,
    ended: Annotated[str | None, typer.Option("--ended", help="Jobs that ended within this time, e.g. '1 d'.")] = None,
    source: Annotated[str | None, typer.Option("--from", help="Storage element, e.g. davs://host:port.")] = None,
    destination: Annotated[str | None, typer.Option("--to", help="Storage element, e.g. davs://host:port.")] = None,
    vo: Annotated[str | None, typer.Option("--vo", help="Jobs of this VO.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="Jobs of this subject; for the operator.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=500, help="At most so many, the newest.")] = 100,
    state: State = None,
    operator: AsOperator = False,
    as_json: Json = False,
) -> None:
    """List jobs: your own that have not ended, or those that the options name."""
    states = [each.upper() for each in job_state or []]
    if unknown := sorted(set(states) - set(_STATES)):
        raise InputError("unknown state", expected=", ".join(_STATES), got=", ".join(unknown))
    minutes = None if ended is None else max(1, int(parse_seconds(ended) // 60))
    jobs = _transfers(state, operator=operator).jobs(
        state_in=",".join(states) or None,
        time_window=None if minutes is None else f"{minutes // 60}:{minutes % 60}",
        source_se=source,
        dest_se=destination,
        vo_name=vo,
        user_dn=user,
        limit=limit,
    )
    if as_json:
        emit(jobs)
        return
    names = _logins(state) if operator else {}
    columns(("JOB", "STATE", "FILES", "FROM", "TO", "SUBMITTED", "OWNER", "REASON"), (_row(job, names) for job in jobs))


def _logins(state: Path | None) -> dict[str, str]:
    """Login by subject, of people whom the facility's own issuer knows; others are shown as their subjects."""
    try:
        return {one["sub"]: one["login"] for one in desk(state).every("/iam/accounts")}
    except BoathouseError:
        # Somebody else's issuer, or one that is away: it is no reason to show no jobs.
        return {}


def _owner(owned: Mapping[str, Any], names: Mapping[str, str]) -> str:
    subject = str(owned["user_dn"])
    return names.get(subject, subject)


def _row(job: Job, names: Mapping[str, str]) -> Sequence[str]:
    return (
        job["job_id"],
        job["job_state"],
        _files(job),
        job["source_se"] or "several",
        job["dest_se"] or "several",
        job["submit_time"],
        _owner(job, names),
        job["reason"] or "",
    )


def _files(job: Job) -> str:
    return f"{job['finished']}/{job['elements']}"


def show(job_id: JobId, state: State = None, *, operator: AsOperator = False, as_json: Json = False) -> None:
    """Print a job and how its files are."""
    job = _transfers(state, operator=operator).job(job_id)
    if as_json:
        emit(job)
        return
    told = {**job, "owner": _owner(job, _logins(state) if operator else {})}
    for name in ("job_id", "job_state", "owner", "vo_name", "priority", "submit_time", "job_finished", "reason"):
        if told[name] is not None:
            out.print(f"{name.replace('_', ' ').capitalize() + ':':15}{told[name]}")
    out.print(f"{'Files:':15}{_files(job)} copied, {job['failed']} failed, {job['canceled']} canceled")
    columns(("STATE", "BYTES", "RETRIES", "FROM", "TO", "REASON"), map(_file_row, job["files"]))


def _file_row(file: dict[str, Any]) -> Sequence[str]:
    return (
        file["file_state"],
        format_bytes(file["transferred"]),
        str(file["retry"]),
        file["source_surl"],
        file["dest_surl"],
        file["reason"] or "",
    )


def why(job_id: JobId, state: State = None, *, operator: AsOperator = False, as_json: Json = False) -> None:
    """Tell why a job is as it is: what was tried, what each side answered, what is awaited, what to do."""
    document = _transfers(state, operator=operator).why(job_id)
    if as_json:
        emit(document)
        return
    out.print(f"{document['job_id']} {document['job_state']}", style="bold")
    if document["verdict"] is None:
        out.print("Nothing is wrong.")
    classes = ", ".join(f"{count} of class {name}" for name, count in document["classes"].items())
    if classes:
        out.print(f"Troubled files: {classes}.")
    for file in document["files"]:
        tell_file(file)


def tell_file(file: dict[str, Any]) -> None:
    """Print what is known of a file of a job, as ``GET /jobs/<id>/why`` gives it."""
    out.print("", f"{file['file_state']}  {file['source']} -> {file['destination']}", sep="\n", style="bold")
    for attempt in file["attempts"]:
        kind = f" [{attempt['error_class']}]" if attempt["error_class"] else ""
        text = f"  attempt {attempt['attempt']}  {attempt['started']} - {attempt['ended']}  {attempt['outcome']}{kind}"
        out.print(text)
        for step in attempt["steps"][-_MOST_STEPS:]:
            out.print(f"    {step['asked']}", style="dim")
            out.print(f"      {step['answered']}", style="dim")
    if file["awaits"]:
        out.print(f"  awaits   {file['awaits']}")
    verdict = file["verdict"]
    if verdict is not None:
        over = "; it was copied all the same" if verdict["over"] else ""
        out.print(f"  verdict  {verdict['class']} ({verdict['layer']}): {verdict['says']}{over}")
        out.print(f"  cause    {verdict['cause']}")
        if not verdict["over"]:
            out.print(f"  do       {verdict['do']}")


def unclean(state: State = None, *, operator: AsOperator = False, as_json: Json = False) -> None:
    """List what ended copies may have left half written, until it is removed: the service tries every ten seconds."""
    files = _transfers(state, operator=operator).unclean()
    if as_json:
        emit(files)
        return
    names = _logins(state) if operator else {}
    columns(
        ("JOB", "STATE", "DESTINATION", "SINCE", "NEXT TRY", "OWNER", "REASON"),
        (
            (
                file["job_id"],
                file["file_state"],
                file["dest_surl"],
                file["since"] or "-",
                file["next_try"] or "now",
                _owner(file, names),
                file["reason"] or "",
            )
            for file in files
        ),
    )


def cancel(
    job_ids: Annotated[list[str], typer.Argument(help="Ids of jobs.", metavar="JOB...")],
    state: State = None,
    *,
    operator: AsOperator = False,
    as_json: Json = False,
) -> None:
    """End jobs. What was copied stays; what is half copied is removed. Jobs that have ended stay as they are."""
    transfers = _transfers(state, operator=operator)
    jobs: list[Job] = []
    failures: list[TransferError] = []
    for job_id in job_ids:
        try:
            jobs.append(transfers.cancel(job_id))
        except TransferError as error:
            failures.append(error)
    if as_json and not failures:
        emit(jobs)
    else:
        for job in jobs:
            # An error is a JSON document of its own.
            (err if as_json else out).print(f"{job['job_id']} {job['job_state']}")
    if failures and not jobs and len(failures) == 1:
        raise failures[0]
    if failures:
        raise PartialError(f"{len(jobs)} of {len(job_ids)} jobs were ended", failures=tuple(failures))


def watch(
    job_ids: Annotated[
        list[str] | None,
        typer.Argument(help="Ids of jobs; all that have not ended if none is given.", metavar="[JOB...]"),
    ] = None,
    timeout: Annotated[str, typer.Option("--timeout", help="How long.")] = "1 d",
    state: State = None,
    *,
    operator: AsOperator = False,
    as_json: Json = False,
) -> None:
    """Watch jobs until they have ended, with a bar for each.

    Exit code 0 if all files were copied, 20 if some, 11 if none.
    """
    timeout_s = parse_seconds(timeout)
    transfers = _transfers(state, operator=operator)
    wanted = job_ids or [job["job_id"] for job in transfers.jobs(limit=500)]
    if not wanted:
        if as_json:
            emit([])
        else:
            out.print("no jobs to watch")
        return
    with _Bars(tell_ends=not as_json) as bars:
        jobs = transfers.watch(wanted, bars.report, timeout_s=timeout_s)
    if as_json:
        emit(jobs)
    else:
        for job in jobs:
            bars.tell_end(job)
    failures = tuple(_failure(file) for job in jobs for file in job["files"] if file["file_state"] in _GAVE_UP)
    if all(job["job_state"] == "FINISHED" for job in jobs):
        return
    remedy = "boathouse transfer why JOB"
    if any(job["finished"] for job in jobs):
        raise PartialError("not all files were copied", failures=failures, remedy=remedy)
    states = ", ".join(f"{count} {name}" for name, count in sorted(Counter(job["job_state"] for job in jobs).items()))
    raise TransferError("no file was copied", got=states, remedy=remedy)


def _failure(file: dict[str, Any]) -> TransferError:
    return TransferError(file["reason"] or file["file_state"], where=f"{file['source_surl']} -> {file['dest_surl']}")


class _Bars:
    """A bar of bytes for each job on a terminal; elsewhere a line for each change of a job.

    Args:
        tell_ends: whether the end of a job is part of what the command prints; else it is a change as any other.
    """

    def __init__(self, *, tell_ends: bool) -> None:
        self._tell_ends = tell_ends
        self._ended: set[str] = set()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[files]}"),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=err,
            disable=not err.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._told: dict[str, str] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def report(self, jobs: list[Job]) -> None:
        """Show how jobs are."""
        for job in jobs:
            job_id, files = job["job_id"], [each for each in job["files"] if each["file_state"] != "NOT_USED"]
            if not err.is_terminal:
                self._tell(job)
            if job_id not in self._tasks:
                self._tasks[job_id] = self._progress.add_task(job_id, total=None, files="")
            total = sum(each["user_filesize"] or each["filesize"] or 0 for each in files)
            self._progress.update(
                self._tasks[job_id],
                description=f"{job_id[:8]} {job['job_state']}",
                total=total or None,
                completed=sum(each["transferred"] for each in files),
                files=f"{_files(job)} files",
            )

    def _tell(self, job: Job) -> None:
        text = _line(job)
        if self._tell_ends and job["job_state"] in ENDED:
            self.tell_end(job)
        elif self._told.get(job["job_id"]) != text:
            err.print(text, style="dim")
        self._told[job["job_id"]] = text

    def tell_end(self, job: Job) -> None:
        """Print how a job ended, once."""
        if job["job_id"] not in self._ended:
            self._ended.add(job["job_id"])
            out.print(_line(job))


def _line(job: Job) -> str:
    return f"{job['job_id']} {job['job_state']} {_files(job)} files"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    job = "1f5e0c5a-41ab-4d6f-9c57-6b1f0f0b8d55"
    transfer = typer.Typer(no_args_is_help=True, help="Third-party copies: which there are, how they are, and why.")
    examples = "Examples: boathouse transfer list | boathouse transfer list --is FAILED --ended '1 d' --operator"
    transfer.command("list", epilog=examples)(list_)
    transfer.command("show", epilog=f"Example: boathouse transfer show {job}")(show)
    transfer.command("why", epilog=f"Example: boathouse transfer why {job}")(why)
    transfer.command("unclean", epilog="Example: boathouse transfer unclean --operator")(unclean)
    transfer.command("cancel", epilog=f"Example: boathouse transfer cancel {job}")(cancel)
    transfer.command("watch", epilog=f"Examples: boathouse transfer watch | boathouse transfer watch {job}")(watch)
    app.add_typer(transfer, name="transfer")
