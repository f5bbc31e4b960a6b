"""What a long queue costs the transfer service: a million files wait for a storage element that is away.

A tenth of them is submitted. The others are copies that the database makes of jobs that were, row by row as they were
stored, each with an id, tokens and destinations of its own; their sealed tokens open for the first job only, which
nobody notices, since storage is not reached.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psycopg

from bench.harness import Effort, Row, timed
from bench.pair import FILES_PER_JOB, Made, Pair

_FIELDS = "file_state,dest_surl,finish_time,start_time,staging_start,staging_finished,reason,source_surl,file_metadata"
"""What Rucio asks for."""
# A job once more, row by row as it was stored: with an id, tokens and destinations of its own.
_AGAIN = """
    WITH job AS (
      INSERT INTO jobs SELECT new.* FROM jobs old,
        jsonb_populate_record(old, jsonb_build_object('job_id', gen_random_uuid())) new
      WHERE old.job_id = CAST(%(model)s AS uuid) RETURNING job_id),
    token AS (
      INSERT INTO tokens (job_id, host, expires_at, sealed)
      SELECT job.job_id, old.host, old.expires_at, old.sealed FROM tokens old, job
      WHERE old.job_id = CAST(%(model)s AS uuid) RETURNING token_id, host)
    INSERT INTO files SELECT new.* FROM job, files old
      JOIN token source ON source.host = old.source_host JOIN token dest ON dest.host = old.dest_host,
      jsonb_populate_record(old, jsonb_build_object(
        'file_id', nextval(pg_get_serial_sequence('files', 'file_id')), 'job_id', job.job_id,
        'source_token', source.token_id, 'dest_token', dest.token_id, 'dest_url', old.dest_url || %(suffix)s,
        'dest_surl', old.dest_surl || %(suffix)s)) new
    WHERE old.job_id = CAST(%(model)s AS uuid) AND old.file_state = 'SUBMITTED'"""
_FLAT = 0.8
_TARGET_BYTES = 512e6


@dataclass(frozen=True)
class Size:
    """Files in the short and in the long queue, and how much is measured at either."""

    short: int
    long: int
    filling: int
    """Most files in a job that only fills the queue."""
    submitted: int
    """How many files are submitted to fill the queue; the others are copies of them."""
    listed: int
    """Jobs in one list: the short queue has as many, too, since a list costs by its length."""
    jobs: int
    queries: int
    small: int
    turns: int


_SIZES = {
    Effort.full: Size(
        short=1000,
        long=1_000_000,
        filling=5000,
        submitted=100_000,
        listed=100,
        jobs=20,
        queries=200,
        small=1000,
        turns=3,
    ),
    Effort.quick: Size(short=20, long=200, filling=50, submitted=100, listed=2, jobs=1, queries=2, small=4, turns=1),
}


@dataclass(frozen=True)
class _Rates:
    """What the service does at one length of its queue."""

    submit: float
    query: float
    listing: float
    metrics: float
    small: float


class _Queue:
    """The queue, and jobs in it to ask for."""

    def __init__(self, running: Pair, size: Size) -> None:
        self._running = running
        self._size = size
        self._number = 0
        self._small = running.make("small", count=size.small, size_bytes=10_000)

    def _next(self, count: int) -> list[Made]:
        numbers = range(self._number, self._number + count)
        self._number += count
        return [Made(f"queued-{number:07d}", 1_000_000_000, "00000001") for number in numbers]

    def fill(self, length: int) -> None:
        """Have so many files wait: some submitted, the others copied, since a million submissions take too long."""
        filling = min(self._size.filling, length // self._size.listed)
        models = []
        while self._number < min(length, self._size.submitted):
            files = self._next(min(filling, length - self._number))
            models.append(self._running.submit(files, self._running.away))
        with psycopg.connect(self._running.database(), autocommit=True) as connection:
            while self._number + filling <= length:
                model = random.choice(models)
                made = connection.execute(_AGAIN, {"model": model, "suffix": f"-{self._number:07d}"}).rowcount
                assert made, f"nothing of job {model} waits any more"
                self._number += made
            # As the database does by itself a minute later.
            connection.execute("ANALYZE files")

    def rates(self) -> _Rates:
        """Measure everything a few times, and take the medians."""
        turns = [self._turn() for _ in range(self._size.turns)]
        return _Rates(*map(statistics.median, zip(*turns, strict=True)))

    def _turn(self) -> Sequence[float]:
        size, running = self._size, self._running
        parts = [self._next(FILES_PER_JOB) for _ in range(size.jobs)]
        fresh: list[str] = []
        submit_s = timed(lambda: fresh.extend(running.submit(part, running.away) for part in parts))
        chosen = random.choices(fresh, k=size.queries)
        small_s = timed(lambda: running.copy(self._small))
        running.require_copied(self._small)
        running.clear()
        return (
            size.jobs * FILES_PER_JOB / submit_s,
            self._rate(lambda number: f"/jobs/{chosen[number]}?files={_FIELDS}"),
            self._rate(lambda _: f"/jobs?state_in=SUBMITTED,ACTIVE&limit={size.listed}"),
            self._rate(lambda _: "/metrics"),
            size.small / small_s,
        )

    def _rate(self, path: Callable[[int], str]) -> float:
        """Answers a second, asked for one after the other."""
        count = self._size.queries

        def ask() -> None:
            for number in range(count):
                self._running.get(path(number))

        return count / timed(ask)


def measure(running: Pair, effort: Effort) -> list[Row]:
    """The same questions with a short and with a long queue."""
    size = _SIZES[effort]
    queue = _Queue(running, size)
    queue.fill(size.short)
    before, resident = queue.rates(), running.resident_bytes()
    queue.fill(size.long)
    after = queue.rates()
    grown = running.resident_bytes()
    waits, short = f"{size.long:,} files waiting", f"with {size.short:,} waiting"
    return [
        _row(
            "tpc.submit_1e6",
            f"files submitted in jobs of {FILES_PER_JOB}, one after the other, {waits}",
            "files/s",
            (after.submit, {short: before.submit}),
            after.submit / before.submit,
        ),
        _row(
            "tpc.query_1e6",
            f"status of a job with its {FILES_PER_JOB} files, as Rucio asks for it, {waits}",
            "queries/s",
            (
                after.query,
                {
                    short: before.query,
                    f"{size.listed} jobs listed, {short}": before.listing,
                    f"{size.listed} jobs listed": after.listing,
                    f"metrics, {short}": before.metrics,
                    "metrics": after.metrics,
                },
            ),
            min(after.query / before.query, after.listing / before.listing, after.metrics / before.metrics),
        ),
        _row(
            "tpc.small_1e6",
            f"{size.small:,} files of 10 kB copied on another link, {waits}",
            "files/s",
            (after.small, {short: before.small}),
            after.small / before.small,
        ),
        Row(
            id="tpc.rss_1e6",
            what=f"resident memory of the transfer service, {waits}, {size.submitted:,} of them submitted to it",
            unit="MB",
            better="lower",
            ours=grown / 1e6,
            peers={short: resident / 1e6},
            target=f"{_TARGET_BYTES / 1e6:.0f} MB, whatever the length of the queue",
            met=grown <= _TARGET_BYTES,
        ),
    ]


def _row(name: str, what: str, unit: str, rates: tuple[float, dict[str, float]], ratio: float) -> Row:
    return Row(
        id=name,
        what=what,
        unit=unit,
        better="higher",
        ours=rates[0],
        peers=rates[1],
        target=f"flat: {_FLAT} of the rate with a short queue (this run: {ratio:.2f})",
        met=ratio >= _FLAT,
    )
