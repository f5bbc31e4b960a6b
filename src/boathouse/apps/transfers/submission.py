"""What a client submits (the body of ``POST /jobs``), checked and put in order before anything is stored."""

from __future__ import annotations

import itertools
import json
import re
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from boathouse.apps.transfers import checksums, signing, urls
from boathouse.apps.transfers.states import JobType
from boathouse.apps.transfers.stores import signed
from boathouse.errors import InputError

_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
_DURATION = re.compile(r"([0-9]{1,9})\s*([smh]?)")
_WHOLE = re.compile(r"-?[0-9]{1,9}")
LONGEST_QUEUE_S = 365 * 86400.0
"""No job waits longer, whatever it asks for."""
_SECONDS = {"s": 1, "m": 60, "h": 3600, "": 3600}
_LONGEST_TOKEN = 8192
"""Servers answer longer headers by breaking the connection."""
_LONGEST_METADATA = 16384
_MOST_SOURCES = 16
_SOURCES_PER_FILE = 4
"""On average over the files of a job, of the most that it may have: each is a row."""
_PRIORITIES = range(1, 6)


@dataclass(frozen=True)
class Place:
    """One place to copy a file from or to."""

    surl: str
    """The URL as the client wrote it, without a signature."""
    url: str
    """What is asked of the server, without a signature."""
    token: str | None
    """What opens it: a bearer token, or as in :mod:`boathouse.apps.transfers.stores`."""


@dataclass(frozen=True)
class Transfer:
    """One file to copy: a destination, and sources in the order in which they are tried."""

    sources: tuple[Place, ...]
    destination: Place
    checksum: str | None
    """``ALGORITHM:hex``, or ``ALGORITHM`` when the source is to be asked."""
    size_bytes: int | None
    metadata: Any
    activity: str
    strategy: str


@dataclass(frozen=True)
class Submission:
    """A job."""

    transfers: tuple[Transfer, ...]
    job_type: JobType
    overwrite: bool
    verify: bool
    """Whether checksums are compared; sizes always are."""
    priority: int
    attempts: int | None
    """How often each file is tried; none for the service's own number."""
    queue_s: float | None
    """How long files may wait in the queue."""
    sid: str | None
    """Seed of a deterministic job id."""
    metadata: Any
    params: Mapping[str, Any]
    transient: bool = False
    """Whether what lies between the first source and the last destination is removed at the end."""


def _fault(what: str, got: object = None) -> InputError:
    return InputError(what, got=None if got is None else repr(got)[:200])


def parse(
    body: object,
    *,
    files_per_job: int,
    doors: Mapping[str, str],
    https_of: Mapping[str, str],
    stores: Collection[str] = (),
) -> Submission:
    """A submission from the body's JSON.

    Args:
        body: what came.
        files_per_job: most files.
        doors: copy door by storage element, each ``host:port``.
        https_of: ``host:port`` for https of a storage element, by that for the XRootD protocol.
        stores: ``host:port`` of storage of others', which needs no token here and cannot copy by itself.

    Raises:
        InputError: the body is not a submission that this service can carry out; the first fault is named.
    """
    if not isinstance(body, Mapping):
        raise _fault("the body must be a JSON object")
    params = body.get("params") or {}
    files = body.get("files") or body.get("Files") or []
    if not isinstance(params, Mapping) or not isinstance(files, Sequence) or isinstance(files, str):
        raise _fault("params must be an object and files a list")
    if body.get("delete"):
        raise _fault("deletions are not taken: they are asked of the storage element itself, or left to the catalogue")
    if not files:
        raise _fault("no files: only copies can be submitted")
    for name in ("bring_online", "archive_timeout"):
        if _positive(params.get(name)):
            raise _fault(f"there is no tape here that {name} could wait for", params[name])
    if params.get("credential"):
        raise _fault("there are no cloud credentials here: what opens a store stands in the facility file or its URL")
    if len(files) > files_per_job:
        raise _fault(f"too many files in one job: at most {files_per_job}", len(files))
    own = _Own(doors, https_of, frozenset((*doors, *doors.values(), *https_of.values())))
    transfers = tuple(_transfer(entry, number, own, stores) for number, entry in enumerate(files))
    if (total := sum(len(each.sources) for each in transfers)) > _SOURCES_PER_FILE * files_per_job:
        raise _fault(f"too many sources in one job: at most {_SOURCES_PER_FILE * files_per_job}", total)
    destinations = [each.destination.url for each in transfers]
    if len(set(destinations)) < len(destinations):
        raise _fault("the same destination twice in one job", max(destinations, key=destinations.count))
    several = any(len(each.sources) > 1 for each in transfers)
    if params.get("multihop"):
        _require_chain(transfers, doors)
    return Submission(
        transfers=transfers,
        job_type=JobType.H if params.get("multihop") else JobType.R if several else JobType.N,
        transient=bool(params.get("multihop") and params.get("remove_intermediate")),
        overwrite=bool(params.get("overwrite")),
        verify=params.get("verify_checksum") not in (None, False, "none", "n"),
        priority=priority(params.get("priority")),
        attempts=attempts(params.get("retry")),
        queue_s=_duration(params.get("max_time_in_queue")),
        sid=_sid(params),
        metadata=_metadata(params.get("job_metadata"), "job_metadata"),
        params=_metadata({name: value for name, value in params.items() if name != "job_metadata"}, "params"),
    )


def _require_chain(transfers: Sequence[Transfer], doors: Mapping[str, str]) -> None:
    """Make sure that each hop begins where the one before ends.

    Raises:
        InputError: one does not, or has several sources.
    """
    for number, (before, after) in enumerate(itertools.pairwise(transfers), start=1):
        if len(after.sources) > 1 or len(before.sources) > 1:
            raise _fault("a hop has one source", number)
        if urls.at_door(after.sources[0].url, doors) != before.destination.url:
            raise _fault(f"files[{number}] does not begin where the hop before it ends", after.sources[0].surl)


def _transfer(entry: object, number: int, own: _Own, stores: Collection[str]) -> Transfer:
    if not isinstance(entry, Mapping):
        raise _fault(f"files[{number}] must be an object")
    where = f"files[{number}]"
    sources = _side(entry, "sources", "source_tokens", where, own)
    destinations = _side(entry, "destinations", "destination_tokens", where, own)
    if len(sources) > _MOST_SOURCES:
        raise _fault(f"{where}: at most {_MOST_SOURCES} sources", len(sources))
    for source in sources:
        if own.has(source.url):
            urls.plain(source.url)
    if len(destinations) != 1:
        raise _fault(f"{where} must have one destination", len(destinations))
    if destinations[0].url in {source.url for source in sources}:
        raise _fault(f"{where}: source and destination are the same", destinations[0].surl)
    to_store = urls.host_of(destinations[0].url) in stores
    if destinations[0].token is None and not to_store:
        raise _fault(f"{where}: destination_tokens must hold a token")
    size = entry.get("filesize")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 2**63):
        raise _fault(f"{where}: filesize must be a number of bytes", size)
    checksum = entry.get("checksum")
    if checksum is not None and not isinstance(checksum, str):
        raise _fault(f"{where}: checksum must be ALGORITHM:value", checksum)
    checksums.parse(checksum)
    if to_store:
        # The source sends, so it is asked at its door.
        sources = tuple(replace(source, url=urls.at_door(source.url, own.doors)) for source in sources)
    return Transfer(
        sources=sources,
        destination=replace(destinations[0], url=urls.at_door(urls.plain(destinations[0].url), own.doors)),
        checksum=checksum or None,
        size_bytes=size,
        metadata=_metadata(entry.get("metadata"), f"{where}: metadata"),
        activity=str(entry.get("activity") or "default")[:255],
        strategy=str(entry.get("selection_strategy") or "auto")[:32],
    )


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and value > 0


def _metadata(value: object, where: str) -> Any:
    if value is not None and len(json.dumps(value)) > _LONGEST_METADATA:
        raise _fault(f"{where} may have at most {_LONGEST_METADATA} bytes")
    return value


@dataclass(frozen=True)
class _Own:
    """The facility's elements: copy door by element, address for https by that for the XRootD protocol, all hosts."""

    doors: Mapping[str, str]
    https_of: Mapping[str, str]
    hosts: Collection[str]

    def has(self, url: str) -> bool:
        """Whether a URL leads to one of them, or to its copy door."""
        return urls.host_of(url) in self.hosts


def _side(entry: Mapping[str, Any], name: str, token_name: str, where: str, own: _Own) -> tuple[Place, ...]:
    places, tokens = entry.get(name), entry.get(token_name)
    if not isinstance(places, list) or not places:
        raise _fault(f"{where}: {name} must be a list of URLs", places)
    if tokens is None:
        tokens = [None] * len(places)
    if not isinstance(tokens, list) or len(tokens) != len(places):
        raise _fault(f"{where}: {token_name} must be a list as long as {name}")
    return tuple(
        _place(
            place, urls.request_url(urls.over_https(place, own.https_of)), _token(token, f"{where}: {token_name}"), own
        )
        for place, token in zip(places, tokens, strict=True)
    )


def _place(surl: str, url: str, token: str | None, own: _Own) -> Place:
    """A place; a signature in its URL is kept where tokens are, and shown to nobody.

    The facility's own elements know no signatures, and a token in a URL would pass by all that looks at tokens.
    """
    if "?" not in url or own.has(url):
        return Place(surl, url, token)
    bare, query = signing.split(url)
    return Place(surl.partition("?")[0], bare, signed(query)) if query else Place(surl, url, token)


def _token(value: object, where: str) -> str | None:
    if value is None:
        return None
    # What is put into a header must not be able to end it; the value itself is never repeated.
    if not isinstance(value, str) or len(value) > _LONGEST_TOKEN or not _TOKEN.fullmatch(value):
        raise _fault(f"{where} holds something that is not a bearer token")
    return value


def priority(value: object) -> int:
    """A job's priority, 1 (lowest) to 5; 3 if none is given.

    Raises:
        InputError: it is not a number. Numbers outside the range are taken as its nearest end, as FTS3 does.
    """
    if value is None:
        return 3
    if isinstance(value, bool) or not isinstance(value, int | str) or not _WHOLE.fullmatch(str(value)):
        raise _fault("priority must be a number from 1 to 5", value)
    return min(max(int(value), _PRIORITIES.start), _PRIORITIES.stop - 1)


def attempts(value: object) -> int | None:
    """How often a file is tried, of FTS3's ``retry``: below 0 no retries, 0 the server's choice, above 0 that many.

    Raises:
        InputError: it is not a number.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise _fault("retry must be a number", value)
    return None if value == 0 else 1 if value < 0 else min(value, 100) + 1


def _duration(value: object) -> float | None:
    """FTS3's ``max_time_in_queue``: a number of hours, or a number with ``s``, ``m`` or ``h``."""
    if value in (None, 0, ""):
        return None
    match = _DURATION.fullmatch(str(value).strip())
    if isinstance(value, bool) or match is None:
        raise _fault("max_time_in_queue must be a number of hours, or 30s, 30m, 30h", value)
    return min(float(int(match[1]) * _SECONDS[match[2]]), LONGEST_QUEUE_S)


def _sid(params: Mapping[str, Any]) -> str | None:
    generator = params.get("id_generator") or "standard"
    if generator not in ("standard", "deterministic"):
        raise _fault("unknown id_generator", generator)
    if generator == "standard":
        return None
    sid = params.get("sid")
    if not isinstance(sid, str) or not sid:
        raise _fault("id_generator deterministic wants a sid")
    return sid


def deterministic_id(base_id: uuid.UUID, vo: str, sid: str) -> uuid.UUID:
    """The job id that FTS3's clients compute from a seed: uuid5 of uuid5(base, VO)."""
    return uuid.uuid5(uuid.uuid5(base_id, vo), sid)
