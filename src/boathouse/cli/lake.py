"""``import``, ``put``, ``get``, ``ls``: data in, data out, and what there is."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from boathouse.cli.common import Json, State, client_programs, count, emit, err, out, shown
from boathouse.cli.lakes import bar, columns, open_lake, rse_expression, values_named
from boathouse.errors import BoathouseError, InputError, PartialError
from boathouse.lake.access import absolute
from boathouse.lake.catalogue import DidInfo
from boathouse.lake.lake import Lake
from boathouse.lake.names import Did
from boathouse.lake.sources import Source, scan
from boathouse.lake.upload import Item, Order, UploadResult, partly
from boathouse.units import format_bytes, parse_lifetime

Qos = Annotated[str | None, typer.Option("--qos", help="Quality of service, e.g. FAST.", metavar="LABEL")]
RseOption = Annotated[str | None, typer.Option("--rse", help="RSE expression instead.", metavar="EXPR")]
Lifetime = Annotated[str | None, typer.Option("--lifetime", help="Of the rule, e.g. '30 d'; for ever if not given.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="A line for each step of each file.")]
KeepGoing = Annotated[bool, typer.Option("--keep-going", "-k", help="Go on with the rest when a file fails.")]


def import_(
    sources: Annotated[
        list[str], typer.Argument(help="Files, directories, patterns, https:// and root:// URLs.", metavar="FILES…")
    ],
    *,
    to: Annotated[str, typer.Option("--to", help="Dataset; made if there is none.", metavar="DID")],
    qos: Qos = None,
    rse: RseOption = None,
    prefix: Annotated[str, typer.Option("--prefix", help="Put before every name.")] = "",
    path: Annotated[
        str | None,
        typer.Option("--path", help="Directory on an RSE that keeps paths; `.` keeps those of the sources."),
    ] = None,
    lifetime: Lifetime = None,
    activity: Annotated[str | None, typer.Option("--activity", help="Of the rule.")] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, max=64, help="Files at a time.")] = 6,
    state: State = None,
    any_file: Annotated[bool, typer.Option("--any-file", help="Take files that are not ROOT, too.")] = False,
    keep_going: KeepGoing = False,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Bring files into a dataset. A second run adds only what is new; a killed one goes on where it stopped."""
    dataset = Did.parse(to)
    order = Order(
        rse_expression=rse_expression(qos, rse),
        dataset=dataset,
        lifetime_s=None if lifetime is None else parse_lifetime(lifetime),
        activity=activity,
        keep_paths=path is not None,
        keep_going=keep_going,
        workers=workers,
    )
    lake = open_lake(state)
    left_out: list[Path] = []
    items, unusable = lake.scan(
        sources,
        scope=dataset.scope,
        prefix=prefix,
        directory=None if path in (None, ".") else path,
        any_file=any_file,
        keep_going=keep_going,
        tools=client_programs(),
        left_out=left_out.append,
    )
    if left_out:
        which = f"{left_out[0]}{' and others' if len(left_out) > 1 else ''}"
        err.print(
            f"{count(len(left_out), 'file')} of directories left out, which are not *.root ({which}); "
            "--any-file takes them too",
            style="yellow",
        )
    _upload(lake, items, order, unusable, verbose=verbose, as_json=as_json)


def put(
    paths: Annotated[list[Path], typer.Argument(help="Files of this machine.", metavar="FILES…")],
    *,
    scope: Annotated[str | None, typer.Option("--scope", help="Of the new DIDs; by default your own.")] = None,
    to: Annotated[str | None, typer.Option("--to", help="Dataset that takes them.", metavar="DID")] = None,
    name: Annotated[str | None, typer.Option("--name", help="DID name, for one file.")] = None,
    qos: Qos = None,
    rse: RseOption = None,
    lifetime: Lifetime = None,
    state: State = None,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Bring single files of any kind into the lake, verified end to end."""
    if name is not None and len(paths) != 1:
        raise InputError("one name for several files", expected="one file with --name", got=f"{len(paths)} files")
    dataset = None if to is None else Did.parse(to)
    lake = open_lake(state)
    scope = scope or (dataset.scope if dataset else f"user.{lake.catalogue.account}")
    Did(scope, "any").checked()
    items = [_item(source, scope, name) for source in _local(paths, lake)]
    if name is not None and len(items) != 1:
        raise InputError("one name for several files", expected="one file with --name", got=f"{len(items)} files")
    order = Order(
        rse_expression=rse_expression(qos, rse),
        dataset=dataset,
        lifetime_s=None if lifetime is None else parse_lifetime(lifetime),
    )
    _upload(lake, items, order, (), verbose=verbose, as_json=as_json)


def _local(paths: Sequence[Path], lake: Lake) -> Iterator[Source]:
    for found in scan(map(str, paths), lake.http, any_file=True):
        if not isinstance(found, Source):
            raise found
        yield found


def _item(source: Source, scope: str, name: str | None) -> Item:
    """A file under a name that was given, or under its own."""
    try:
        return Item(source, Did(scope, source.name if name is None else name).checked_file(), source.path)
    except InputError as error:
        if name is not None:
            raise
        better = re.sub(r"[^A-Za-z0-9.\-_]+", "_", source.name).lstrip("._-") or "NAME"
        raise InputError(
            error.what,
            expected=error.expected,
            got=error.got,
            where=source.where,
            remedy=f"give it another name, one file at a time: --name {better}",
        ) from error


def _upload(
    lake: Lake,
    items: Sequence[Item],
    order: Order,
    unusable: Sequence[BoathouseError],
    *,
    verbose: bool,
    as_json: bool,
) -> None:
    """Upload with a bar and a summary; errors of sources join those of files."""
    if verbose:
        _log_steps()
    if not items and not unusable:
        raise InputError("no files", expected="at least one")
    size_bytes = sum(item.source.size_bytes for item in items)
    try:
        with (
            values_named(lake, order.rse_expression),
            bar("importing", size_bytes=size_bytes, files=len(items)) as progress,
        ):
            results = lake.upload(items, order, progress=progress) if items else ()
    except PartialError as error:
        done = len(items) - len(error.failures)
        raise partly(done, len(items) + len(unusable), [*unusable, *error.failures]) from error
    if as_json and not unusable:
        emit([_as_json(result) for result in results])
    else:
        (err if as_json else out).print(_summary(results, order.dataset))
    if unusable:
        raise partly(len(results), len(results) + len(unusable), unusable)


def _summary(results: Sequence[UploadResult], dataset: Did | None) -> str:
    counts = Counter(result.outcome for result in results)
    size_bytes = sum(result.size_bytes for result in results if result.outcome == "uploaded")
    places = ", ".join(sorted({result.rse for result in results if result.outcome != "present"}))
    text = f"{count(counts['uploaded'], 'file')} uploaded ({format_bytes(size_bytes)})"
    if counts["found"]:
        text += f", {counts['found']:,} found on storage from an earlier try"
    text += f", {counts['present']:,} there already"
    if streamed := [result.streamed for result in results if result.streamed]:
        text += f"; {len(streamed):,} streamed through this machine ({streamed[0]})"
    if len(results) == 1:
        text += f"; as {results[0].did}"
    elif results and dataset is None:
        text += f"; as {results[0].did} … ({count(len(results), 'file')})"
    return text + (f"; at {places}" if places else "") + (f"; in {dataset}" if dataset else "")


def _as_json(result: UploadResult) -> dict[str, Any]:
    return asdict(result) | {"did": str(result.did)}


class _Line(logging.Formatter):
    """A record as one line, as all that people read."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return shown(super().format(record))


def _log_steps() -> None:
    """Show each step of each file on standard error, as Rucio's upload client does."""
    logger = logging.getLogger("boathouse.lake")
    handler = logging.StreamHandler()
    handler.setFormatter(_Line("%(asctime)s - boathouse - %(levelname)s - %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)


def _directory(text: str) -> Path:
    if not str(text):
        raise InputError("no directory", expected="one to write to, `.` for this one", got="''", where="--to")
    if Path(text).is_file():
        raise InputError("not a directory", got="a file", where=str(text))
    return Path(text)


def get(
    did: Annotated[str, typer.Argument(help="File, dataset or container.", metavar="DID")],
    destination: Annotated[
        Path, typer.Option("--to", "-o", help="Directory.", parser=_directory, metavar="DIRECTORY")
    ] = Path(),
    workers: Annotated[int, typer.Option("--workers", min=1, max=64, help="Files at a time.")] = 4,
    state: State = None,
    *,
    keep_going: KeepGoing = False,
    as_json: Json = False,
) -> None:
    """Fetch files, verified against the catalogue's checksums. An interrupted get goes on where it stopped."""
    lake = open_lake(state)
    wanted = lake.files(Did.parse(did), prefer="replica")
    with bar("fetching", size_bytes=sum(file.size_bytes for file in wanted), files=len(wanted)) as progress:
        results = lake.get(Did.parse(did), destination, workers=workers, keep_going=keep_going, progress=progress)
    if as_json:
        emit([asdict(result) | {"did": str(result.did)} for result in results])
        return
    fetched = [result for result in results if result.url]
    size_bytes = sum(result.size_bytes for result in fetched)
    there = len(results) - len(fetched)
    out.print(f"{count(len(fetched), 'file')} fetched ({format_bytes(size_bytes)}), {there:,} there already")


class Protocol(StrEnum):
    """By which a replica can be read."""

    root = "root"
    https = "https"


def ls(
    what: Annotated[str | None, typer.Argument(help="A scope, or a DID.", metavar="[SCOPE|DID]")] = None,
    protocol: Annotated[
        Protocol | None, typer.Option("--protocol", help="With --replicas: URLs of this protocol only.")
    ] = None,
    state: State = None,
    *,
    replicas: Annotated[bool, typer.Option("--replicas", "-r", help="Where each file lies, in which state.")] = False,
    rses: Annotated[bool, typer.Option("--rses", help="The storage elements and their attributes.")] = False,
    as_json: Json = False,
) -> None:
    """List scopes, DIDs of a scope, content of a DID; with --replicas where files lie; with --rses the RSEs."""
    lake = open_lake(state)
    if rses:
        _list_rses(lake, what or "*", as_json=as_json)
    elif what is None:
        scopes = lake.catalogue.scopes()
        emit(scopes) if as_json else out.print(*scopes, sep="\n")
    elif replicas:
        _list_replicas(lake, Did.parse(what), list(Protocol) if protocol is None else [protocol], as_json=as_json)
    elif ":" in what:
        did = Did.parse(what)
        info = lake.catalogue.did(did, deep=True)
        _list_dids([info] if info.kind == "FILE" else lake.catalogue.content(did), as_json=as_json)
    else:
        _check_scope(what)
        found = list(lake.catalogue.search(what, kind="all"))
        if not found:
            lake.catalogue.require_scope(what)
        _list_dids(found, as_json=as_json)


def _check_scope(text: str) -> None:
    try:
        Did(text, "any").checked()
    except InputError as error:
        raise InputError(
            error.what, expected=error.expected, got=error.got, remedy="boathouse ls, to see the scopes"
        ) from error


def _list_dids(infos: Iterable[DidInfo], *, as_json: bool) -> None:
    found = sorted(infos, key=lambda info: (info.kind, info.did))
    if as_json:
        emit([asdict(info) | {"did": str(info.did)} for info in found])
        return
    columns(
        ("DID", "KIND", "SIZE", "ADLER32"),
        ((str(info.did), info.kind.lower(), _size(info.size_bytes), info.adler32 or "") for info in found),
    )


def _size(size_bytes: int | None) -> str:
    return "" if size_bytes is None else format_bytes(size_bytes)


def _list_replicas(lake: Lake, did: Did, protocols: Sequence[Protocol], *, as_json: bool) -> None:
    lake.catalogue.did(did)
    found = sorted(
        lake.catalogue.replicas([did], schemes=[str(protocol) for protocol in protocols], all_states=True),
        key=lambda replicas: replicas.did,
    )
    if as_json:
        emit(
            [
                {
                    "did": str(replicas.did),
                    "size_bytes": replicas.size_bytes,
                    "adler32": replicas.adler32,
                    "states": dict(replicas.states),
                    "urls": {absolute(url): rse for url, rse in replicas.pfns.items()},
                }
                for replicas in found
            ]
        )
        return
    rows = []
    for replicas in found:
        urls = {rse: sorted(absolute(url) for url, at in replicas.pfns.items() if at == rse) for rse in replicas.states}
        file = (str(replicas.did), format_bytes(replicas.size_bytes), replicas.adler32)
        for rse, replica_state in sorted(replicas.states.items()):
            rows += [(*file, rse, replica_state, url) for url in urls[rse] or [""]]
        if not replicas.states:
            rows.append((*file, "-", "none", ""))
    columns(("DID", "SIZE", "ADLER32", "RSE", "STATE", "URL"), rows)


_MACHINERY = ("fts", "greedyDeletion", "naming_convention", "oidc_support", "supported_checksums", "verify_checksum")
"""Attributes that tell services how to treat an RSE, and users nothing; ``--json`` shows them."""


def _list_rses(lake: Lake, expression: str, *, as_json: bool) -> None:
    found = [lake.catalogue.rse(name, space=True) for name in lake.catalogue.rses(expression)]
    if as_json:
        emit([asdict(rse) for rse in found])
        return
    columns(
        ("RSE", "QOS", "USED", "FREE", "PATHS", "PROTOCOLS", "ATTRIBUTES"),
        (
            (
                rse.name,
                str(rse.attributes.get("QOS", "")),
                _size(rse.used_bytes),
                _size(rse.free_bytes),
                rse.algorithm if rse.deterministic else "kept",
                ",".join(protocol["scheme"] for protocol in rse.protocols),
                " ".join(
                    f"{key}={value}"
                    for key, value in sorted(rse.attributes.items())
                    if key not in ("QOS", rse.name, *_MACHINERY)
                ),
            )
            for rse in found
        ),
    )


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        "import",
        epilog="Examples: boathouse import data/*.root --to cms:DoubleMu --qos FAST | "
        "boathouse import https://example.org/a.root --to cms:DoubleMu --rse CNAF-STORM --keep-going",
    )(import_)
    app.command("put", epilog="Example: boathouse put plot.png --qos CHEAP-ANALYSIS --scope user.alice")(put)
    app.command("get", epilog="Example: boathouse get cms:DoubleMu --to data/")(get)
    app.command(
        "ls",
        epilog="Examples: boathouse ls | boathouse ls cms | boathouse ls --rses | "
        "boathouse ls --replicas cms:DoubleMu --protocol root",
    )(ls)
