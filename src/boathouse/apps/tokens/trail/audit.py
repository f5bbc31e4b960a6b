"""The audit log: append-only, hash-chained, without tokens in it.

Each record's hash covers the hash before it, so that no record can be changed or taken out unseen. The database chains
records, in one statement for many of them: between the look at the last record and the next one nobody waits for a
process of the issuer. A token leaves the issuer only when its record is on disk, and that costs a burst of requests one
commit.
"""

from __future__ import annotations

import hashlib
import json
import logging
import queue
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, select, text
from sqlalchemy.exc import SQLAlchemyError

from boathouse.apps.tokens.persistence.database import transaction
from boathouse.apps.tokens.persistence.schema import audit
from boathouse.apps.tokens.trail import history
from boathouse.apps.tokens.trail.sampling import FIELD_AT_MOST, Sampler
from boathouse.errors import StateError

_LOG = logging.getLogger(__name__)
_BATCH = 256
_SAMPLES = 60
_START = bytes(32)
_LOCK = text("SELECT pg_advisory_xact_lock(:key)")
_APPEND = text("SELECT audit_append(CAST(:records AS json))")

Detail = Mapping[str, Any]
"""A JSON object: texts, integers, and for changes the row as in ``history``."""


Entry = str
"""A record to be: its time, event and detail as canonical JSON, over which its hash will go."""


@dataclass(frozen=True)
class _Waiting:
    entry: Entry
    done: Future[None]


class AuditLog:
    """Writes records; one a process.

    Args:
        engine: the issuer's database, where each statement is a transaction.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._sampler = Sampler(_SAMPLES)
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def record(self, event: str, detail: Detail) -> Future[None]:
        """Append a record soon, with others that wait; one thread does it for all.

        Args:
            event: what happened: ``token.issued``, ``token.refused``, ``login.failed``, …
            detail: who, what, why; never a token or a secret.

        Returns:
            A future that is done when the record is on disk, or fails with the database's error.
        """
        waiting = _Waiting(entry(event, detail), Future())
        self._queue.put(waiting)
        return waiting.done

    def sample(self, event: str, detail: Mapping[str, str]) -> None:
        """Append a record of what anybody may cause without proof: the first of a window, with its fields cut.

        Without this bound a caller whom nobody knows could fill the disk. What is left out is counted by
        :meth:`end_window`.
        """
        if self._sampler.admits(event):
            self.record(event, {key: value[:FIELD_AT_MOST] for key, value in detail.items()})

    def end_window(self) -> None:
        """Record how many events were left out since the last call; called once a minute."""
        for event, count in self._sampler.end_window().items():
            self.record(f"{event}.not-recorded", {"count": count})

    def close(self) -> None:
        """Write what is waiting and stop."""
        self.end_window()
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first]
            last = False
            while len(batch) < _BATCH and not self._queue.empty():
                waiting = self._queue.get()
                if waiting is None:
                    last = True
                    break
                batch.append(waiting)
            self._write_all(batch)
            if last:
                return

    def _write_all(self, batch: Sequence[_Waiting]) -> None:
        try:
            entries = [waiting.entry for waiting in batch]
            transaction(self._engine, lambda connection: write(connection, entries))
        except SQLAlchemyError as error:
            # The requests that wait for these records fail with this error, and no token leaves.
            _LOG.error("%d audit records could not be written: %s", len(batch), type(error).__name__)
            for waiting in batch:
                waiting.done.set_exception(error)
        else:
            for waiting in batch:
                waiting.done.set_result(None)


def append(connection: Connection, events: Iterable[tuple[str, Detail]]) -> None:
    """Append records in the caller's own transaction, which must end at once: all others wait for the chain.

    Args:
        connection: with the transaction, in which the change itself was made.
        events: what happened, and its detail.
    """
    write(connection, [entry(event, detail) for event, detail in events])


def catch_up(connection: Connection) -> None:
    """Record what the tables say and the log does not: rows of an older version, or that somebody changed by hand."""
    connection.execute(_LOCK, {"key": history.CHANGE_LOCK})
    found = history.differences(history.replay(connection), history.snapshot(connection))
    append(connection, [(event, {"who": "unknown", "reason": "found so at a start", **row}) for event, row in found])


def entry(event: str, detail: Detail) -> Entry:
    """A record of what happens now."""
    told = {key: value for key, value in detail.items() if value != ""}
    return _canonical([time.time_ns() // 1_000_000, event, told])


def write(connection: Connection, entries: Sequence[Entry]) -> None:
    """Append records in the caller's transaction, as :func:`append` does."""
    if entries:
        connection.execute(_APPEND, {"records": f"[{','.join(entries)}]"})


def _canonical(document: object) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def chained(before: bytes, seq: int, at_ms: int, event: str, detail: Detail) -> bytes:
    """The hash of a record: SHA-256 over the hash before it and the record as canonical JSON."""
    return hashlib.sha256(before + _canonical([seq, at_ms, event, detail]).encode()).digest()


START = _START.hex()
"""The hash before the first record."""


@dataclass(frozen=True)
class Checked:
    """How far the chain was checked."""

    seq: int
    """The last record that was looked at; 0 for none."""
    hash: str
    """Its hash, in hexadecimal digits. Whoever keeps it can tell later whether anything before it was changed."""
    at_end: bool
    """Whether no record follows."""


def verify_part(connection: Connection, *, after: int = 0, digest: str = START, at_most: int = 50_000) -> Checked:
    """Check a part of the chain.

    Args:
        connection: to the issuer's database.
        after: the last record that was checked before.
        digest: its hash, in hexadecimal digits.
        at_most: records to check now.

    Raises:
        StateError: a record was changed, taken out or put in; ``where`` names the first one.
    """
    count, hashed = after, bytes.fromhex(digest)
    if after:
        there = connection.execute(select(audit.c.hash).where(audit.c.seq == after)).scalar_one_or_none()
        if there != hashed:
            raise StateError(
                "the audit log was tampered with",
                expected=f"record {after}, hash {digest[:16]}",
                got=f"hash {there.hex()[:16]}" if there else "no such record",
                where=f"record {after}",
            )
    rows = select(audit).where(audit.c.seq > after).order_by(audit.c.seq).limit(at_most)
    for row in connection.execution_options(yield_per=1000).execute(rows):
        count += 1
        hashed = chained(hashed, count, row.at_ms, row.event, row.detail)
        if row.seq != count or hashed != row.hash:
            raise StateError(
                "the audit log was tampered with",
                expected=f"record {count}, hash {hashed.hex()[:16]}",
                got=f"record {row.seq}, hash {row.hash.hex()[:16]}",
                where=f"record {row.seq}",
            )
    return Checked(count, hashed.hex(), at_end=count < after + at_most)


def verify(engine: Engine) -> int:
    """Check the whole chain.

    Returns:
        The number of records.

    Raises:
        StateError: a record was changed, taken out or put in; ``where`` names the first one.
    """
    checked = Checked(0, START, at_end=False)
    with engine.connect() as connection:
        while not checked.at_end:
            checked = verify_part(connection, after=checked.seq, digest=checked.hash)
    return checked.seq


def unrecorded(connection: Connection) -> list[str]:
    """Rows that are not as the log tells them, in words: somebody changed them behind the issuer's back."""
    connection.execute(_LOCK, {"key": history.CHANGE_LOCK})
    found = history.differences(history.replay(connection), history.snapshot(connection))
    return [f"{event}: {detail['whom']}" for event, detail in found]
