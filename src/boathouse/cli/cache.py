"""``cache status|evict|prestage|scrub``: what is in the caches, what leaves them, what is brought in beforehand."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from boathouse.cli.common import Json, State, count, emit, err, hint, named_by_user, out, state_dir
from boathouse.cli.lakes import bar, columns, endpoints_of, open_lake, waiting
from boathouse.errors import InputError, PartialError
from boathouse.lake.caching import Care, caches_at, of_dataset, paths_of, prestage
from boathouse.lake.lake import OPERATOR, Lake
from boathouse.lake.names import Did
from boathouse.plan.model import CacheEndpoint, Endpoints
from boathouse.units import format_bytes

At = Annotated[
    list[str] | None, typer.Option("--at", help="Only this cache, or the caches of this site; may be repeated.")
]
AsOperator = Annotated[bool, typer.Option("--operator", help="As the facility's operator, on its machine.")]


def _lake(state: Any, *, operator: bool) -> Lake:
    if not operator:
        return open_lake(state)
    directory = state_dir(state)
    return Lake.operator(endpoints_of(directory), directory / "secrets" / f"client-{OPERATOR}")


def _care(lake: Lake) -> Care:
    return Care(lake.http, lake.endpoints, lake.token)


def _caches(endpoints: Endpoints, places: Iterable[str], *, federations: bool = False) -> list[CacheEndpoint]:
    with named_by_user():
        return caches_at(endpoints, places, federations=federations)


def _paths(lake: Lake, did: str) -> list[str]:
    return sorted(paths_of(lake.catalogue, lake.endpoints, Did.parse(did)))


def status(
    dataset: Annotated[
        str | None, typer.Argument(help="Only this DID: what is kept and was counted of its files.", metavar="DID")
    ] = None,
    at: At = None,
    state: State = None,
    *,
    scopes: Annotated[bool, typer.Option("--scopes", help="By scope as well.")] = False,
    care: Annotated[
        bool, typer.Option("--care", help="Also how old the files are, how many left, and what scrubs found.")
    ] = False,
    operator: AsOperator = False,
    as_json: Json = False,
) -> None:
    """Show the caches: how full, how often they had what was asked for, what they saved.

    SAVED is what readers got without its crossing the link to the origin, and HIT its part of all that they got;
    what was read ahead of them counts as fetched. The total counts no byte twice where caches stand behind each other.
    """
    lake = _lake(state, operator=operator)
    # Of a federation's files nothing is known by name.
    chosen = _caches(lake.endpoints, at or (), federations=dataset is None)
    if dataset is not None:
        paths = _paths(lake, dataset)
        sums = list(of_dataset(_care(lake).files(paths, chosen)))
        if as_json:
            emit(sums)
        else:
            columns(
                ("CACHE", "KEPT", "FILES", "WHOLE", "SERVED", "FETCHED", "SAVED", "HIT"),
                (
                    (
                        each["cache"],
                        format_bytes(each["kept_bytes"]),
                        str(each["files"]),
                        str(each["complete"]),
                        *_passed(each),
                    )
                    for each in sums
                ),
            )
        return
    document = _care(lake).status()
    names = {cache.name for cache in chosen}
    document["caches"] = [cache for cache in document["caches"] if cache["name"] in names]
    if as_json:
        emit(document)
        return
    columns(
        ("CACHE", "SITE", "LEVEL", "KEPT", "OF", "FILES", "SERVED", "FETCHED", "SAVED", "HIT"),
        map(_row, document["caches"]),
    )
    cared = [_care_row(cache) for cache in document["caches"]]
    # Nobody has to ask for bad news.
    if care or any(wrong or lost for *_, wrong, lost in cared):
        columns(("CACHE", "OLDEST", "NEWEST", "LEFT", "SCRUBBED", "WRONG", "LOST"), cared)
    if scopes:
        columns(
            ("CACHE", "SCOPE", "SERVED", "FETCHED", "SAVED", "HIT"),
            (
                (cache["name"], scope, *_passed(counts))
                for cache in document["caches"]
                for scope, counts in cache["scopes"].items()
            ),
        )
    total = document["total"]
    ratio = "" if total["hit_ratio"] is None else f" ({total['hit_ratio']:.1%})"
    out.print(
        f"All caches together: readers got {format_bytes(total['to_readers_bytes'])}, elements gave "
        f"{format_bytes(total['from_elements_bytes'])}, saved {format_bytes(total['saved_bytes'])}{ratio}.",
    )


def _row(cache: dict[str, Any]) -> tuple[str, ...]:
    return (
        cache["name"],
        cache["site"],
        cache["level"],
        format_bytes(cache["kept_bytes"]),
        format_bytes(cache["size_bytes"]),
        str(cache["kept_files"]),
        *_passed(cache),
    )


def _care_row(cache: dict[str, Any]) -> tuple[str, ...]:
    scrub = cache["last_scrub"] or {}
    left = sum(reason["files"] for reason in cache["evictions"].values())
    lost = sum(cache["datagrams"].values())
    return (
        cache["name"],
        _date(cache["oldest"]),
        _date(cache["newest"]),
        str(left or ""),
        _date(scrub.get("ended_at")),
        str(scrub.get("wrong") or ""),
        str(lost or ""),
    )


def _passed(counts: dict[str, Any]) -> tuple[str, str, str, str]:
    ratio = counts["hit_ratio"]
    served, fetched = format_bytes(counts["served_bytes"]), format_bytes(counts["fetched_bytes"])
    return served, fetched, format_bytes(counts["saved_bytes"]), "" if ratio is None else f"{ratio:.1%}"


def _date(at: float | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def evict(
    what: Annotated[str, typer.Argument(help="A DID, or a path on storage.", metavar="DID|PATH")],
    at: At = None,
    state: State = None,
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Also what somebody reads, who then gets an error and opens it again.")
    ] = False,
    operator: AsOperator = False,
    as_json: Json = False,
) -> None:
    """Make caches forget files, as when what they keep is no longer what the lake has.

    Who may write the files may do this, and the facility's operator. Exit code 20 if some of them stay.
    """
    lake = _lake(state, operator=operator)
    chosen = _caches(lake.endpoints, at or ())
    paths = [what] if what.startswith("/") else _paths(lake, what)
    with waiting("evicting"):
        results = _care(lake).evict(paths, chosen, force=force)
    stay = [each for each in results if each["outcome"] not in {"evicted", "absent"}]
    if as_json:
        emit(results)
    else:
        gone = [each for each in results if each["outcome"] == "evicted"]
        columns(
            ("CACHE", "PATH", "OUTCOME", "DETAIL"),
            ((each["cache"], each["path"], each["outcome"], each["detail"]) for each in (*gone, *stay)),
        )
        out.print(f"{count(len(gone), 'file')} evicted, {format_bytes(sum(each['bytes'] for each in gone))}.")
        if any(each["outcome"] == "in use" for each in stay):
            err.print("What somebody reads stays; --force takes it away all the same.")
    if stay:
        raise typer.Exit(PartialError.exit_code)


def prestage_(
    dataset: Annotated[str, typer.Argument(help="DID of a dataset, container or file.", metavar="DID")],
    at: Annotated[str, typer.Option("--at", help="The site at whose cache it will be read, or a cache.")],
    workers: Annotated[int, typer.Option("--workers", min=1, max=32, help="Files that are read at once.")] = 4,
    state: State = None,
    *,
    as_json: Json = False,
) -> None:
    """Bring a dataset into a site's cache before it is read there.

    Every file is read whole through the cache and its checksum compared; files that the cache has are left out, and
    what was begun is gone on with. Exit code 20 if some could not be brought in.
    """
    lake = open_lake(state)
    chosen = _caches(lake.endpoints, [at])
    if len(chosen) > 1:
        # Readers of a site ask the cache of the site; one on their own machine is theirs to fill.
        chosen = [cache for cache in chosen if cache.level == "site"] or chosen
    if len(chosen) > 1:
        names = ", ".join(cache.name for cache in chosen)
        raise InputError(f"{at} has several caches", expected=f"--at with one of {names}", got=at)
    files = lake.files(Did.parse(dataset), prefer="replica")
    size_bytes = sum(file.size_bytes for file in files)
    with bar("prestaging", size_bytes=size_bytes, files=len(files)) as progress:
        done = prestage(_care(lake), lake.storage, lake.endpoints, chosen[0], files, workers=workers, progress=progress)
    failed = [each for each in done if each.outcome == "failed"]
    if as_json:
        emit([each.as_dict() for each in done])
    else:
        if failed:
            columns(("FILE", "TROUBLE"), ((each.did, hint(each.detail)) for each in failed))
        staged = [each for each in done if each.outcome == "staged"]
        out.print(
            f"{chosen[0].name} has {len(done) - len(failed)} of {count(len(done), 'file')}: "
            f"{len(staged)} brought in now ({format_bytes(sum(each.size_bytes for each in staged))}), "
            f"{len(done) - len(failed) - len(staged)} there before.",
            style="red" if failed else "green",
        )
    if failed:
        raise typer.Exit(PartialError.exit_code)


def scrub(at: At = None, state: State = None, *, as_json: Json = False) -> None:
    """Read all that caches keep whole, compare it with the catalogue, and evict what is wrong.

    It runs as the facility's operator, on the machine of the facility, and by itself every `scrub_interval` of a cache.
    Exit code 20 if something was wrong.
    """
    lake = _lake(state, operator=True)
    chosen = _caches(lake.endpoints, at or ())
    with bar("scrubbing", size_bytes=0, files=0) as progress:
        told = {"size_bytes": 0, "files": 0}

        def tell(report: dict[str, Any]) -> None:
            progress(**{name: report[name] - told[name] for name in told})
            told.update({name: report[name] for name in told})

        report = _care(lake).scrub(chosen, progress=tell)
    if as_json:
        emit(report)
    else:
        if report["wrong"]:
            columns(
                ("CACHE", "PATH", "EXPECTED", "GOT", "OUTCOME"),
                (
                    (each["cache"], each["path"], each["expected"], each["got"], each["outcome"])
                    for each in report["wrong"]
                ),
            )
        unknown = f", {report['unknown']} that the catalogue does not know" if report["unknown"] else ""
        out.print(
            f"{count(report['files'], 'file')} read ({format_bytes(report['size_bytes'])}), "
            f"{len(report['wrong'])} wrong{unknown}.",
            style="red" if report["wrong"] else "green",
        )
    if report["wrong"]:
        raise typer.Exit(PartialError.exit_code)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    cache = typer.Typer(no_args_is_help=True, help="Caches: what is in them, what they saved, what leaves them.")
    cache.command(
        "status",
        epilog="Examples: boathouse cache status | boathouse cache status --scopes | "
        "boathouse cache status cms:DoubleMu --at CNAF --json",
    )(status)
    cache.command(
        "evict",
        epilog="Examples: boathouse cache evict cms:DoubleMu | "
        "boathouse cache evict /lake/cms/ab/cd/events.root --at CNAF-XCACHE --force",
    )(evict)
    cache.command("prestage", epilog="Example: boathouse cache prestage cms:DoubleMu --at CNAF")(prestage_)
    cache.command("scrub", epilog="Examples: boathouse cache scrub | boathouse cache scrub --at CNAF --json")(scrub)
    app.add_typer(cache, name="cache")
