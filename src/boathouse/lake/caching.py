"""Caches as their users see them: how they are, what leaves them, what is brought into them beforehand.

Over ``GET /caches``, ``POST /files``, ``POST /evictions`` and ``/scrubs`` of the facility's care of caches
(``Endpoints.care``). Documents are passed on as the service gives them.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from urllib3 import BaseHTTPResponse

from boathouse.checksums import Adler32
from boathouse.errors import AuthError, BoathouseError, ChecksumError, InputError, NotFoundError, ServiceError
from boathouse.lake.access import LakeFile
from boathouse.lake.catalogue import Catalogue
from boathouse.lake.http import BRIEF, Http
from boathouse.lake.names import Did, hash_path
from boathouse.lake.progress import Progress, silent
from boathouse.lake.routing import through_cache
from boathouse.lake.storage import Storage
from boathouse.plan.model import CacheEndpoint, Endpoints

Json = dict[str, Any]

_BATCH = 500
_ASK_EVERY_S = 0.5
_SETTLED_S = 60.0
"""How long a cache may take to say that what was read through it is there."""


class Care:
    """The care of a facility's caches. One object serves many threads.

    Args:
        http: connections.
        endpoints: of the facility.
        token: gives the current bearer token, with the caches' audiences.
    """

    def __init__(self, http: Http, endpoints: Endpoints, token: Callable[[], str]) -> None:
        self._http, self._endpoints, self._token = http, endpoints, token

    def status(self) -> Json:
        """All caches: what is in them, and what was counted; and what they come to together."""
        return dict(self._call("GET", "/caches"))

    def files(self, paths: Sequence[str], caches: Iterable[CacheEndpoint]) -> list[Json]:
        """What caches keep of files, and what was counted of them.

        Args:
            paths: on storage, ``/lake/…``.
            caches: which are asked.

        Raises:
            AuthError: the token does not open all of these paths.
        """
        return self._batches("/files", paths, caches)

    def evict(self, paths: Sequence[str], caches: Iterable[CacheEndpoint], *, force: bool = False) -> list[Json]:
        """Make caches forget files.

        Args:
            paths: on storage.
            caches: which.
            force: also what somebody reads, who then gets an error and has to open it again.

        Returns:
            ``cache``, ``path``, ``outcome`` (evicted, absent, in use, failed), ``bytes``, ``detail`` for each.

        Raises:
            AuthError: the token may not write all of these paths.
        """
        return self._batches("/evictions", paths, caches, force=force)

    def scrub(self, caches: Iterable[CacheEndpoint], *, progress: Callable[[Json], None] | None = None) -> Json:
        """Have caches scrubbed now, and wait for the report.

        Args:
            caches: which.
            progress: told of the report as it grows.

        Raises:
            AuthError: only who looks after the facility may.
            ServiceError: the service went away meanwhile, or could not end the scrub.
        """
        report = dict(self._call("POST", "/scrubs", {"caches": [cache.name for cache in caches]}))
        while report["ended_at"] is None:
            time.sleep(_ASK_EVERY_S)
            report = dict(self._call("GET", f"/scrubs/{report['id']}"))
            if progress is not None:
                progress(report)
        if report["error"]:
            raise ServiceError("the scrub was not finished", got=report["error"], remedy="boathouse logs caches")
        return report

    def _batches(self, path: str, paths: Sequence[str], caches: Iterable[CacheEndpoint], **more: Any) -> list[Json]:
        names = [cache.name for cache in caches]
        found: list[Json] = []
        for start in range(0, len(paths), _BATCH):
            found += self._call("POST", path, {"paths": list(paths[start : start + _BATCH]), "caches": names, **more})
        return found

    def _call(self, method: str, path: str, document: Any = None) -> Any:
        if not self._endpoints.care:
            raise ServiceError(
                "nobody here looks after caches", expected="a facility with caches, started by this Boathouse or newer"
            )
        headers = {"Authorization": f"Bearer {self._token()}"}
        body = None if document is None else json.dumps(document).encode()
        url = self._endpoints.care + path
        answer = self._http.request(method, url, headers=headers, body=body, retry=BRIEF, timeout_s=600.0)
        if answer.status < 300:
            return json.loads(answer.data)
        raise _refused(answer, url)


def _refused(answer: BaseHTTPResponse, url: str) -> BoathouseError:
    said: Json = {}
    with contextlib.suppress(ValueError, TypeError):
        said = dict(json.loads(answer.data))
    what = str(said.get("what") or f"HTTP status {answer.status}")
    expected, got = said.get("expected"), said.get("got")
    if answer.status in (401, 403):
        return AuthError(what, expected=expected, got=got, where=url)
    if answer.status in (400, 404):
        return InputError(what, expected=expected, got=got, where=url)
    return ServiceError(what, expected=expected, got=got, where=url, remedy="boathouse logs caches")


def caches_at(endpoints: Endpoints, places: Iterable[str], *, federations: bool = False) -> list[CacheEndpoint]:
    """Caches of the lake by their own names or those of their sites; all of them if none is named.

    Args:
        endpoints: of the facility.
        places: names.
        federations: those before lakes of somebody else's, too.

    Raises:
        NotFoundError: there is none of that name.
    """
    wanted = list(places)
    caches = [cache for cache in endpoints.caches if federations or not cache.federation]
    found = [cache for cache in caches if not wanted or {cache.name, cache.site} & set(wanted)]
    known = {name for cache in caches for name in (cache.name, cache.site)}
    if missing := [place for place in wanted if place not in known]:
        raise NotFoundError(
            f"no cache at {', '.join(missing)}",
            expected=", ".join(sorted(known)) or "a facility with caches",
            remedy="boathouse cache status",
        )
    return found


def paths_of(catalogue: Catalogue, endpoints: Endpoints, did: Did) -> dict[str, Did]:
    """Where the files of a DID may lie on storage: registered replicas, and what follows from the names.

    Raises:
        NotFoundError: there is no such DID.
    """
    found: dict[str, Did] = {}
    prefixes = {storage.prefix.rstrip("/") for storage in endpoints.storage if storage.deterministic}
    for replicas in catalogue.replicas([did], all_states=True):
        for prefix in prefixes:
            found[f"{prefix}/{hash_path(replicas.did)}"] = replicas.did
        for url in replicas.pfns:
            found[_path(url)] = replicas.did
    if not found:
        catalogue.did(did)
    return found


@dataclass(frozen=True)
class Staged:
    """What became of a file that was to be brought into a cache."""

    did: str
    outcome: str
    """``staged``, ``there`` (it was complete before), or ``failed``."""
    size_bytes: int
    detail: str = ""

    def as_dict(self) -> Json:
        """As a JSON object."""
        return asdict(self)


def prestage(
    care: Care,
    storage: Storage,
    endpoints: Endpoints,
    cache: CacheEndpoint,
    files: Sequence[LakeFile],
    *,
    workers: int = 4,
    progress: Progress = silent,
) -> list[Staged]:
    """Read files through a cache, whole and verified, so that it keeps them; those that it has are left out.

    What was begun is gone on with: a cache fetches only the blocks that it lacks. A file counts as staged when the
    cache says that it has all blocks. Whatever ends the whole, Ctrl-C too, ends it soon: files that wait are not begun,
    those under way stop at their next block.

    Args:
        care: tells what the cache keeps.
        storage: reads, with the user's own token.
        endpoints: of the facility.
        cache: which.
        files: with their replicas' URLs.
        workers: files that are read at once.
        progress: told of bytes and files.
    """
    ways = {file.did: _way(cache, file, endpoints) for file in files}
    path_of = {did: way[1] for did, way in ways.items() if way}
    there = _complete(care, cache, list(path_of.values()))
    done: list[Staged] = []
    wanted: list[tuple[str, LakeFile]] = []
    for file in files:
        way = ways[file.did]
        if way is None:
            detail = f"no replica behind {cache.name} that can be read now"
            done.append(Staged(str(file.did), "failed", 0, detail))
        elif path_of[file.did] in there:
            progress(size_bytes=file.size_bytes, files=1)
            done.append(Staged(str(file.did), "there", file.size_bytes))
        else:
            wanted.append((way[0], file))
    done += _read_all(storage, wanted, workers, progress)
    staged = {each.did for each in done if each.outcome == "staged"}
    late = _late(care, cache, [path for did, path in path_of.items() if str(did) in staged])
    lost = {str(did) for did, path in path_of.items() if path in late}
    why = f"{cache.name} does not keep all of it: is it too small?"
    done = [Staged(each.did, "failed", each.size_bytes, why) if each.did in lost else each for each in done]
    return sorted(done, key=lambda each: each.did)


def _read_all(
    storage: Storage, wanted: Sequence[tuple[str, LakeFile]], workers: int, progress: Progress
) -> list[Staged]:
    done: list[Staged] = []
    stop = threading.Event()
    with ThreadPoolExecutor(workers, thread_name_prefix="prestage") as threads:
        try:
            waiting = {threads.submit(_read, storage, url, file, progress, stop): file for url, file in wanted}
            for each in as_completed(waiting):
                file, fault = waiting[each], each.result()
                done.append(Staged(str(file.did), "failed" if fault else "staged", file.size_bytes, fault))
                progress(files=1)
        except BaseException:
            # In this order: no thread that stops takes up one more file.
            threads.shutdown(wait=False, cancel_futures=True)
            stop.set()
            raise
    return done


def _read(storage: Storage, url: str, file: LakeFile, progress: Progress, stop: threading.Event) -> str:
    """Read a file and throw it away; what went wrong, empty if nothing did."""
    checksum, got_bytes = Adler32(), 0
    try:
        for block in storage.get(url):
            checksum.update(block)
            got_bytes += len(block)
            progress(size_bytes=len(block))
            if stop.is_set():
                raise CancelledError
        if got_bytes != file.size_bytes or checksum.hexdigest() != file.adler32:
            raise ChecksumError(
                "the cache's bytes are not those of the catalogue",
                expected=f"{file.size_bytes} bytes, adler32 {file.adler32}",
                got=f"{got_bytes} bytes, adler32 {checksum.hexdigest()}",
                remedy=f"boathouse cache evict {file.did}",
            )
    except BoathouseError as error:
        progress(size_bytes=-got_bytes)
        return str(error)
    return ""


def _late(care: Care, cache: CacheEndpoint, paths: Sequence[str]) -> set[str]:
    """Those of the files that a cache does not say it has whole, although it was given time to."""
    deadline = time.monotonic() + _SETTLED_S
    missing = set(paths)
    while missing := missing - _complete(care, cache, sorted(missing)):
        if time.monotonic() > deadline:
            break
        time.sleep(_ASK_EVERY_S)
    return missing


def _complete(care: Care, cache: CacheEndpoint, paths: Sequence[str]) -> set[str]:
    return {str(entry["path"]) for entry in care.files(paths, [cache]) if entry["complete"]}


def _way(cache: CacheEndpoint, file: LakeFile, endpoints: Endpoints) -> tuple[str, str] | None:
    """The URL by which a cache gives a file over https, and the path by which it keeps it."""
    for direct in file.urls:
        for url in through_cache(cache, [direct], endpoints):
            if url.startswith("https:"):
                return url, _path(direct)
    return None


def _path(url: str) -> str:
    path = urlsplit(url).path if "://" in url else url
    return "/" + "/".join(part for part in path.split("/") if part)


def of_dataset(counted: Iterable[Mapping[str, Any]]) -> Iterator[Json]:
    """What was counted of a dataset's files, summed for each cache."""
    names = ("uses", "hits", "served_bytes", "fetched_bytes", "from_caches_bytes", "prefetched_bytes", "saved_bytes")
    sums: dict[str, Json] = {}
    for entry in counted:
        into = sums.setdefault(entry["cache"], {"cache": entry["cache"], "files": 0, "complete": 0, "kept_bytes": 0})
        into["files"] += bool(entry["kept_bytes"])
        into["complete"] += bool(entry["complete"])
        into["kept_bytes"] += entry["kept_bytes"]
        for name in names:
            into[name] = into.get(name, 0) + entry[name]
    for total in sums.values():
        served = total["served_bytes"]
        yield total | {"hit_ratio": max(0.0, total["saved_bytes"] / served) if served else None}
