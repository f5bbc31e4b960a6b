"""Compare catalogue and storage, file by file: what is lost, dark, or withheld, what has the wrong size or bytes.

Both sides are listed first, the storage before the catalogue; whatever differs is then asked for once more, one by
one, so that what was written or deleted meanwhile is not reported. Files younger than a limit that the catalogue does
not know, and replicas that are being copied or deleted, are in flight and left alone. What lies there whole, while for
longer than the limit the catalogue has neither called it available nor copied anything there, is withheld from readers.
Before files are deleted as dark, the catalogue is asked again: a repair may come long after the listing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import unquote, urlsplit

from boathouse.checksums import Adler32
from boathouse.errors import CatalogueError, NotFoundError, StorageError
from boathouse.lake.catalogue import Catalogue, Replicas, Rse, batches
from boathouse.lake.lake import Lake
from boathouse.lake.names import Did, hash_path
from boathouse.lake.progress import Progress, silent
from boathouse.lake.rest import did_path
from boathouse.lake.storage import UNNAMED, Entry, Storage, join

AVAILABLE = "AVAILABLE"
_WITHHOLDING = frozenset({"BAD", "COPYING", "UNAVAILABLE"})
"""States that a replica leaves soon if somebody cares for it; a deletion goes on by itself."""

_WALKERS = 8
UNNAMED_NAME = re.compile(rf"{UNNAMED}|/\d+ \d+ \d+ \d+[^/]*\Z")
"""What :meth:`~boathouse.lake.storage.Storage.listing` makes of names that cannot be listed."""


class Kind(StrEnum):
    """What can be wrong with a file."""

    lost = "lost"
    """The catalogue has a replica, the storage has no file."""
    dark = "dark"
    """The storage has a file that the catalogue does not know."""
    size = "size"
    """The file is longer or shorter than it should be."""
    checksum = "checksum"
    """The file has other bytes than it should have."""
    withheld = "withheld"
    """The file is there, and nothing is copied there, but the catalogue does not call it available."""
    unnamed = "unnamed"
    """A listed name by which nothing can be asked for. Files of the catalogue are asked for all the same."""


@dataclass(frozen=True)
class Finding:
    """One disagreement, and the command that mends it."""

    kind: Kind
    rse: str
    url: str
    did: str
    """Empty if the catalogue does not know the file."""
    expected: str
    got: str
    remedy: str

    def as_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self) | {"kind": self.kind.value}


@dataclass
class Report:
    """What an audit found."""

    rses: tuple[str, ...] = ()
    catalogued: int = 0
    """Available replicas in the catalogue."""
    stored: int = 0
    """Files on storage."""
    in_flight: int = 0
    """Files and replicas that are being written, copied or deleted."""
    summed: int = 0
    """Files whose bytes were read and summed."""
    findings: list[Finding] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether catalogue and storage agree."""
        return not self.findings

    def as_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "clean": self.clean,
            "rses": list(self.rses),
            "catalogued": self.catalogued,
            "stored": self.stored,
            "in_flight": self.in_flight,
            "summed": self.summed,
            "findings": [finding.as_dict() for finding in self.findings],
        }


@dataclass(frozen=True)
class _Expected:
    """A replica as the catalogue knows it."""

    did: Did
    state: str
    size_bytes: int
    adler32: str
    copies: tuple[str, ...]
    """Other RSEs with an available replica."""


def audit(
    lake: Lake,
    *,
    rses: Sequence[str] | None = None,
    checksums: bool = False,
    in_flight_s: float = 300.0,
    progress: Progress = silent,
) -> Report:
    """Compare catalogue and storage.

    Args:
        lake: of somebody who may read everything, such as the operator.
        rses: only these; by default all that can be read over https.
        checksums: also read every file and compare its adler32, independently of what the element keeps.
        in_flight_s: files on storage younger than this are taken for uploads that go on.
        progress: told of files.

    Raises:
        StorageError: an element does not answer; a silent element is no proof that files are lost.
    """
    names = tuple(rses if rses is not None else lake.catalogue.rses())
    elements = {name: lake.catalogue.rse(name) for name in names}
    bases = {name: base for name, element in elements.items() if (base := _base(element)) is not None}
    stored = {name: _walk(lake.storage, base) for name, base in bases.items()}
    expected = _expected(lake.catalogue, bases)
    report = Report(
        rses=tuple(bases),
        catalogued=sum(item.state == AVAILABLE for items in expected.values() for item in items.values()),
        stored=sum(len(files) for files in stored.values()),
    )
    for rse, base in bases.items():
        audit_ = _Audit(lake, report, elements[rse], base, in_flight_s)
        _compare(audit_, expected[rse], stored[rse])
        _find_withheld(audit_, expected[rse], stored[rse])
        if checksums:
            _sum_all(audit_, expected[rse], stored[rse], progress)
    report.findings.sort(key=lambda finding: (finding.rse, finding.kind, finding.url))
    return report


def _base(rse: Rse) -> str | None:
    return rse.base("read") or rse.base("delete")


def _walk(storage: Storage, base: str) -> dict[str, Entry]:
    """All files below a URL, by path; directories are listed in parallel.

    Raises:
        NotFoundError: there is no such directory.
    """
    origin = _origin(base)
    if storage.modified(base) is None:
        raise NotFoundError("the directory of the RSE is missing", where=base, remedy="boathouse status")
    found: dict[str, Entry] = {}
    with ThreadPoolExecutor(_WALKERS, thread_name_prefix="walk") as threads:
        layer = [base]
        while layer:
            entries = [entry for listed in threads.map(storage.listing, layer) for entry in listed]
            found |= {_tidy(entry.path): entry for entry in entries if not entry.is_directory}
            layer = [join(origin, entry.path) for entry in entries if entry.is_directory]
    return found


def _origin(url: str) -> str:
    """Scheme, host and port of a URL."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _tidy(path: str) -> str:
    while "//" in path:
        path = path.replace("//", "/")
    return path


def _expected(catalogue: Catalogue, rses: Iterable[str]) -> dict[str, dict[str, _Expected]]:
    """Replicas at each of the RSEs, by path on storage."""
    found: dict[str, dict[str, _Expected]] = {name: {} for name in rses}
    for scope in catalogue.scopes():
        dids = (info.did for info in catalogue.search(scope, kind="file"))
        for replicas in catalogue.replicas(dids, schemes=("https", "davs"), all_states=True):
            for rse, path, expected in _places(replicas):
                if rse in found:
                    found[rse][path] = expected
    return found


def _places(replicas: Replicas) -> Iterator[tuple[str, str, _Expected]]:
    available = {rse for rse, state in replicas.states.items() if state == AVAILABLE}
    for url, rse in replicas.pfns.items():
        expected = _Expected(
            did=replicas.did,
            state=replicas.states.get(rse, ""),
            size_bytes=replicas.size_bytes,
            adler32=replicas.adler32,
            copies=tuple(sorted(available - {rse})),
        )
        yield rse, _tidy(unquote(urlsplit(url).path)), expected


@dataclass(frozen=True)
class _Audit:
    """The comparison at one RSE."""

    lake: Lake
    report: Report
    rse: Rse
    base: str
    in_flight_s: float

    def url(self, path: str) -> str:
        """URL of a path on the element."""
        return join(_origin(self.base), path)

    def add(self, kind: Kind, path: str, item: _Expected | None, expected: str, got: str) -> None:
        """Note a finding."""
        did = str(item.did) if item else ""
        remedy = _remedy(kind, self.url(path), item)
        self.report.findings.append(Finding(kind, self.rse.name, self.url(path), did, expected, got, remedy))


def _compare(audit_: _Audit, expected: Mapping[str, _Expected], stored: Mapping[str, Entry]) -> None:
    """Find what differs in the two lists, and ask once more about each."""
    report, oldest = audit_.report, time.time() - audit_.in_flight_s
    settled = {path: item for path, item in expected.items() if item.state == AVAILABLE}
    doubtful = {
        path: item for path, item in settled.items() if path not in stored or stored[path].size_bytes != item.size_bytes
    }
    extra = {path: entry.modified for path, entry in stored.items() if path not in expected}
    unknown = [path for path, modified in extra.items() if modified is None or modified < oldest]
    report.in_flight += len(expected) - len(settled) + len(extra) - len(unknown)
    still = _available_now(audit_, {item.did for item in doubtful.values()})
    known = known_now(audit_.lake.catalogue, audit_.rse, unknown)
    sizes = _sizes_now(audit_, [*doubtful, *unknown])
    for path, item in doubtful.items():
        size_bytes = sizes[path]
        if path not in still:
            report.in_flight += 1
        elif size_bytes is None:
            audit_.add(Kind.lost, path, item, f"{item.size_bytes} bytes", "no file")
        elif size_bytes != item.size_bytes:
            audit_.add(Kind.size, path, item, f"{item.size_bytes} bytes", f"{size_bytes} bytes")
    for path in unknown:
        if path not in known and sizes[path] is not None:
            audit_.add(Kind.dark, path, None, "no file", f"{sizes[path]} bytes")
        elif sizes[path] is None and UNNAMED_NAME.search(path):
            audit_.add(Kind.unnamed, path, None, "names without control characters", "a name that no list can carry")


def _find_withheld(audit_: _Audit, expected: Mapping[str, _Expected], stored: Mapping[str, Entry]) -> None:
    """Find whole files that the catalogue has counted as something else than available for long."""
    since = time.time() - audit_.in_flight_s
    held = {
        path: item
        for path, item in expected.items()
        if item.state in _WITHHOLDING and _is_old_copy(stored.get(path), item.size_bytes, since)
    }
    if not held:
        return
    dids = sorted({item.did for item in held.values()})
    still = _states_now(audit_, dids)
    young = _states_now(audit_, dids, updated_after=since)
    sizes = _sizes_now(audit_, list(held))
    for path, item in held.items():
        moved = still.get(item.did) != item.state or item.did in young or sizes[path] != item.size_bytes
        if moved or _is_requested(audit_, item.did):
            continue
        audit_.add(Kind.withheld, path, item, "an available replica", f"{item.state}, and {item.size_bytes} bytes")
        audit_.report.in_flight -= 1


def _is_old_copy(entry: Entry | None, size_bytes: int, since: float) -> bool:
    """Whether a file has its whole size, and had it at that time."""
    return entry is not None and entry.size_bytes == size_bytes and (entry.modified is None or entry.modified < since)


def _states_now(audit_: _Audit, dids: Sequence[Did], *, updated_after: float | None = None) -> dict[Did, str]:
    """States of replicas at the RSE now; on request, only of those that changed after a time."""
    found: dict[Did, str] = {}
    for batch in batches(dids):
        document: dict[str, Any] = {
            "dids": [{"scope": did.scope, "name": did.name} for did in batch],
            "all_states": True,
            "rse_expression": audit_.rse.name,
            "updated_after": updated_after,
        }
        for line in audit_.lake.catalogue.rest.lines("POST", "/replicas/list", document):
            if state := line["states"].get(audit_.rse.name):
                found[Did(line["scope"], line["name"])] = state
    return found


def _is_requested(audit_: _Audit, did: Did) -> bool:
    """Whether the catalogue has a copy to the RSE under way, or waiting for its turn."""
    try:
        audit_.lake.catalogue.rest.call("GET", f"/requests{did_path(did)}/{audit_.rse.name}")
    except CatalogueError as error:
        if error.got == "RequestNotFound":
            return False
        raise
    return True


def _available_now(audit_: _Audit, dids: Iterable[Did]) -> set[str]:
    """Paths at the RSE where the catalogue has an available replica of one of the DIDs now."""
    found = audit_.lake.catalogue.replicas(sorted(dids), schemes=("https", "davs"), all_states=True)
    return {
        path
        for replicas in found
        for rse, path, item in _places(replicas)
        if rse == audit_.rse.name and item.state == AVAILABLE
    }


def known_now(catalogue: Catalogue, rse: Rse, paths: Sequence[str]) -> set[str]:
    """Those of the paths at an RSE where the catalogue has a replica now, be it a good one or not.

    Where names follow from paths, these names are asked for. On an RSE that keeps paths they do not, and the catalogue
    is listed again as a whole: Rucio looks a stored path up (``/replicas/dids``) on RSEs with SRM alone.
    """
    if not paths:
        return set()
    if not (rse.deterministic and rse.algorithm == "hash"):
        return set(paths) & _expected(catalogue, [rse.name])[rse.name].keys()
    prefix = _tidy(unquote(urlsplit(_base(rse) or "").path))
    dids = sorted({did for path in paths for did in _hashed_to(path.removeprefix(prefix).strip("/"))})
    found = catalogue.replicas(dids, schemes=("https", "davs"), all_states=True)
    return set(paths) & {path for replicas in found for name, path, _ in _places(replicas) if name == rse.name}


def _hashed_to(path: str) -> list[Did]:
    """DIDs whose files lie at a hashed path: ``cms/ab/cd/NAME``, ``user/alice/ab/cd/NAME``; names may have slashes."""
    parts = path.split("/")
    dids = [Did(".".join(parts[:depth]), "/".join(parts[depth + 2 :])) for depth in range(1, len(parts) - 2)]
    return [did for did in dids if hash_path(did) == path]


def _sizes_now(audit_: _Audit, paths: Sequence[str]) -> dict[str, int | None]:
    """Sizes of files on storage now; ``None`` for those that are not there."""

    def size_of(path: str) -> int | None:
        stat = audit_.lake.storage.stat(audit_.url(path), checksum=False)
        return None if stat is None else stat.size_bytes

    with ThreadPoolExecutor(_WALKERS, thread_name_prefix="stat") as threads:
        return dict(zip(paths, threads.map(size_of, paths), strict=True))


def _sum_all(
    audit_: _Audit, expected: Mapping[str, _Expected], stored: Mapping[str, Entry], progress: Progress
) -> None:
    """Read every file that has the right size, and compare its checksum."""
    paths = [
        path
        for path, item in expected.items()
        if item.state == AVAILABLE and path in stored and stored[path].size_bytes == item.size_bytes
    ]

    def read(path: str) -> str | None:
        checksum = Adler32()
        try:
            for block in audit_.lake.storage.get(audit_.url(path)):
                checksum.update(block)
                progress(size_bytes=len(block))
        except NotFoundError:
            # Deleted since it was listed; the comparison before this has told of those that should be there.
            return None
        progress(files=1)
        return checksum.hexdigest()

    with ThreadPoolExecutor(4, thread_name_prefix="sum") as threads:
        for path, got in zip(paths, threads.map(read, paths), strict=True):
            audit_.report.summed += got is not None
            if got is not None and got != expected[path].adler32:
                item = expected[path]
                audit_.add(Kind.checksum, path, item, f"adler32 {item.adler32}", f"adler32 {got}")


def _remedy(kind: Kind, url: str, item: _Expected | None) -> str:
    if kind is Kind.unnamed:
        return "ls -b of its directory on the element's disk shows the name: rename the file or remove it there"
    if kind is Kind.dark or item is None:
        return f"import it again if it is wanted; else: boathouse audit --repair, which deletes {url}"
    if kind is Kind.withheld:
        return (
            "boathouse audit --repair, which reads the file, and makes the replica available if its checksum is right"
        )
    if item.copies:
        return f"boathouse audit --repair, which lets the catalogue copy it again from {item.copies[0]}"
    return "no good copy is left: boathouse audit --repair gives the replica up; then import the file again"


def repair(lake: Lake, findings: Iterable[Finding]) -> int:
    """Delete dark files, and declare bad what is lost or wrong, so that the catalogue copies it again or gives it up.

    What was withheld is read: it is made available, or declared bad if its checksum is wrong. Dark files that the
    catalogue knows by now are left alone, and so is what has no name to ask for it by.

    Returns:
        How many findings were dealt with.

    Raises:
        StorageError: an element does not answer.
    """
    dark: dict[str, list[str]] = {}
    bad: list[str] = []
    done = 0
    for finding in findings:
        if finding.kind is Kind.dark:
            dark.setdefault(finding.rse, []).append(finding.url)
        elif finding.kind is Kind.withheld and _is_right(lake, finding):
            lake.catalogue.set_available(finding.rse, [Did.parse(finding.did)])
            done += 1
        elif finding.kind is not Kind.unnamed:
            bad.append(finding.url)
    done += sum(_delete_dark(lake, rse, urls) for rse, urls in dark.items())
    if bad:
        refused = lake.catalogue.declare_bad(bad, reason="found by boathouse audit")
        if refused:
            raise StorageError("the catalogue does not know these replicas", got=", ".join(refused))
    return done + len(bad)


def _is_right(lake: Lake, finding: Finding) -> bool:
    """Whether a file has the checksum that the catalogue has of it."""
    checksum = Adler32()
    for block in lake.storage.get(finding.url):
        checksum.update(block)
    found = lake.catalogue.replicas([Did.parse(finding.did)], all_states=True)
    return any(replicas.adler32 == checksum.hexdigest() for replicas in found)


def _delete_dark(lake: Lake, rse: str, urls: Iterable[str]) -> int:
    """Delete files that the catalogue still does not know; tell how many."""
    places = {_tidy(unquote(urlsplit(url).path)): url for url in urls}
    dark = places.keys() - known_now(lake.catalogue, lake.catalogue.rse(rse), list(places))
    for path in dark:
        lake.storage.delete(places[path])
    return len(dark)
