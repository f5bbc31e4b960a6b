"""How a job gets into the database: a row of its own, its tokens sealed, its files in a few large statements."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, func, insert, text

from boathouse.apps.transfers import counts, jwt, urls
from boathouse.apps.transfers.failures import Side
from boathouse.apps.transfers.seal import Seal
from boathouse.apps.transfers.settings import Limits
from boathouse.apps.transfers.states import FileState, JobState, JobType
from boathouse.apps.transfers.submission import Place, Submission, Transfer
from boathouse.apps.transfers.tables import jobs, tokens
from boathouse.errors import InputError, ServiceError

_ROWS_AT_ONCE = 1000
"""Files in one statement: enough that its round trip does not count, and no more memory for larger jobs."""
_COLUMNS = {
    "file_index": "int",
    "file_state": "text",
    "source_surl": "text",
    "dest_surl": "text",
    "source_url": "text",
    "dest_url": "text",
    "source_host": "text",
    "dest_host": "text",
    "source_token": "bigint",
    "dest_token": "bigint",
    "checksum": "text",
    "user_filesize": "bigint",
    "file_metadata": "jsonb",
    "activity": "text",
    "selection_strategy": "text",
    "transient": "bool",
}
_INSERT = text(f"""
    INSERT INTO files (job_id, vo, owner, priority, {", ".join(_COLUMNS)})
    SELECT CAST(:job_id AS uuid), :vo, :owner, CAST(:priority AS int), {", ".join(_COLUMNS)}
    FROM ROWS FROM (json_to_recordset(CAST(:rows AS json))
      AS ({", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())}))
      WITH ORDINALITY ORDER BY ordinality""")  # noqa: S608 - made of constants

_PERSON, _SERVICE = 1, 4
"""How much an owner may have of a VO's room, for each that is left."""

_TokenIds = Mapping[tuple[Side, str, str | None], int]
"""Ids of stored tokens by side, host and token."""


class FullError(ServiceError):
    """The queue is as long as it may be: the client is to come again later."""


@dataclass(frozen=True)
class Who:
    """Whose a job is, and how much of the VO's room that may take."""

    owner: str
    client_id: str
    vo: str
    service: bool
    """Whether it is a service of the facility, which submits for many people."""

    def share(self, room: int, *, others: int) -> int:
        """How much of a room this owner may have: as much as is left after it, and a service four times as much.

        So whoever comes finds some left, however much those before have taken.

        Args:
            room: all that the VO has.
            others: what others have of it.
        """
        weight = _SERVICE if self.service else _PERSON
        return max(room - others, 0) * weight // (weight + 1)


def require_room(connection: Connection, submission: Submission, who: Who, limits: Limits) -> None:
    """Make sure that there is room for a job, and that the others of its VO have some after it.

    Raises:
        InputError: the job by itself is for too many things.
        FullError: too many files wait already, of all VOs or of this owner, or for too many things.
    """
    total, of_vo, own = counts.waiting(connection, who.vo, who.owner)
    more = len(submission.transfers)
    if total + more > limits.waiting:
        raise FullError(
            "too many files wait: submit again later",
            expected=f"at most {limits.waiting}",
            got=f"{total} and {more} more",
        )
    share = who.share(limits.waiting_per_vo, others=of_vo - own)
    if own + more > share:
        raise FullError(
            "too many files of yours wait: submit again later",
            expected=f"at most {share}, so that others of {who.vo} have room",
            got=f"{own} and {more} more",
        )
    _require_few_groups(connection, submission, who, limits.groups_per_vo)


def _require_few_groups(connection: Connection, submission: Submission, who: Who, most: int) -> None:
    """Make sure that a VO's files wait for few enough different things. What others wait for as well takes no room."""
    new = {
        (each.activity, urls.host_of(source.url), urls.host_of(each.destination.url))
        for each in submission.transfers
        for source in each.sources
    }
    if len(new) > (alone := who.share(most, others=0)):
        raise InputError(
            "too many different activities and links in one job",
            expected=f"at most {alone}",
            got=str(len(new)),
        )
    of_vo, own = counts.groups(connection, who.vo, who.owner)
    more = len(new - of_vo)
    share = who.share(most, others=len(of_vo - own))
    if more and len(own) + more > share:
        raise FullError(
            "files of yours wait for too many different activities and links: submit again later",
            expected=f"at most {share}, so that others of {who.vo} have room",
            got=f"{len(own)} and {more} more",
        )


def store(connection: Connection, seal: Seal, job_id: str, submission: Submission, who: Who) -> None:
    """Insert a job with its tokens and files.

    Raises:
        sqlalchemy.exc.IntegrityError: there is a job of this id.
    """
    job = {"job_id": job_id, "owner": who.owner, "client_id": who.client_id, "vo_name": who.vo}
    connection.execute(insert(jobs).values({**job, **_job_row(submission)}))
    known = _insert_tokens(connection, seal, job_id, submission)
    rows = (
        {**row, **_as_hop(submission, index, row)}
        for index, transfer in enumerate(submission.transfers)
        for row in _file_rows(index, transfer, known)
    )
    for part in _parts(rows, _ROWS_AT_ONCE):
        parameters = {"job_id": job_id, "vo": who.vo, "owner": who.owner, "priority": submission.priority}
        connection.execute(_INSERT, {**parameters, "rows": json.dumps(part)})


def _parts(rows: Iterable[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    rest = iter(rows)
    while part := list(itertools.islice(rest, size)):
        yield part


def _insert_tokens(connection: Connection, seal: Seal, job_id: str, submission: Submission) -> _TokenIds:
    """Store each token once for each side and host: what a destination's is exchanged for, no source may use."""
    places = {
        (side, urls.host_of(place.url), place.token): None
        for transfer in submission.transfers
        for side, each in ((Side.SOURCE, transfer.sources), (Side.DESTINATION, (transfer.destination,)))
        for place in each
        if place.token is not None
    }
    if not places:
        return {}
    rows = [
        {
            "job_id": job_id,
            "host": host,
            "expires_at": jwt.expiry(token or ""),
            "sealed": seal.close(token or "", job_id, host),
        }
        for _, host, token in places
    ]
    ids = connection.scalars(insert(tokens).returning(tokens.c.token_id, sort_by_parameter_order=True), rows)
    return dict(zip(places, ids, strict=True))


def _job_row(submission: Submission) -> dict[str, Any]:
    sources = {urls.storage_element(place.surl) for each in submission.transfers for place in each.sources}
    destinations = {urls.storage_element(each.destination.surl) for each in submission.transfers}
    expires = None if submission.queue_s is None else func.now() + timedelta(seconds=submission.queue_s)
    return {
        "job_state": JobState.SUBMITTED,
        "job_type": submission.job_type,
        "priority": submission.priority,
        "overwrite_flag": submission.overwrite,
        "verify_checksum": submission.verify,
        "attempts": submission.attempts,
        # FTS3 leaves these empty when the files of a job have several.
        "source_se": sources.pop() if len(sources) == 1 else "",
        "dest_se": destinations.pop() if len(destinations) == 1 else "",
        "job_metadata": submission.metadata,
        "params": dict(submission.params),
        "expires_at": expires,
        "elements": len(submission.transfers),
    }


def _file_rows(index: int, transfer: Transfer, known: _TokenIds) -> list[dict[str, Any]]:
    def token(side: Side, place: Place, host: str) -> int | None:
        return known.get((side, host, place.token))

    destination = transfer.destination
    dest_host = urls.host_of(destination.url)
    rows = []
    for number, source in enumerate(transfer.sources):
        source_host = urls.host_of(source.url)
        rows.append(
            {
                "file_index": index,
                "file_state": FileState.NOT_USED if number else FileState.SUBMITTED,
                "source_surl": source.surl,
                "dest_surl": destination.surl,
                "source_url": source.url,
                "dest_url": destination.url,
                "source_host": source_host,
                "dest_host": dest_host,
                "source_token": token(Side.SOURCE, source, source_host),
                "dest_token": token(Side.DESTINATION, destination, dest_host),
                "checksum": transfer.checksum,
                "user_filesize": transfer.size_bytes,
                "file_metadata": transfer.metadata,
                "activity": transfer.activity,
                "selection_strategy": transfer.strategy,
            }
        )
    return rows


def _as_hop(submission: Submission, index: int, row: Mapping[str, Any]) -> dict[str, Any]:
    """What differs for a hop: the first one starts, and all but the last are on the way only."""
    if submission.job_type is not JobType.H:
        return {"file_state": row["file_state"], "transient": False}
    last = index == len(submission.transfers) - 1
    state = FileState.NOT_USED if index else FileState.SUBMITTED
    return {"file_state": state, "transient": submission.transient and not last}
