"""How many copies a link should run at once, found by measurement.

Each interval is compared with the smoothed throughput before: more copies are tried while that pays, the last step is
taken back when it did not, and errors make the number smaller at once. Decisions are kept with what they rest on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, Engine, RowMapping, insert, text
from sqlalchemy.dialects.postgresql import insert as upsert

from boathouse.apps.transfers import policy
from boathouse.apps.transfers.meter import Sample
from boathouse.apps.transfers.scheduler import Link, Rules
from boathouse.apps.transfers.settings import Limits
from boathouse.apps.transfers.tables import link_samples, optimizer, optimizer_evolution

_LOCK = 0x6F707469
_GAIN = 0.05
"""Smaller differences of throughput are noise."""
_SMOOTH = 0.3
"""Weight of the newest interval in the smoothed throughput."""
_GOOD, _BAD = 97.0, 90.0
"""Percent of attempts that succeed: below the first one copy less, below the second half of them."""
_QUEUE = 1000
"""Files that wait are counted so far."""
_KEEP_SAMPLES_S = 600.0
_NAMES = ("source_host", "dest_host")

_DUE = text("""
    SELECT s.source_host, s.dest_host, sum(s.bytes)::bigint AS bytes, sum(s.finished)::int AS finished,
      sum(s.failed)::int AS failed, sum(s.sizes) AS sizes, sum(s.squares) AS squares, o.active, o.ema,
      extract(epoch FROM now() - coalesce(o.updated, min(s.at - make_interval(secs => s.seconds))))::float AS seconds,
      (SELECT e.diff FROM optimizer_evolution e WHERE e.source_host = s.source_host AND e.dest_host = s.dest_host
       ORDER BY e.id DESC LIMIT 1) AS diff,
      (SELECT count(*) FROM files f WHERE f.file_state = 'ACTIVE' AND f.source_host = s.source_host
       AND f.dest_host = s.dest_host)::int AS running,
      (SELECT count(*) FROM (SELECT 1 FROM files f WHERE f.file_state = 'SUBMITTED'
       AND f.source_host = s.source_host AND f.dest_host = s.dest_host LIMIT :most) q)::int AS waiting
    FROM link_samples s LEFT JOIN optimizer o ON o.source_host = s.source_host AND o.dest_host = s.dest_host
    WHERE s.at > coalesce(o.updated, '-infinity') AND s.at > now() - make_interval(secs => :longest)
    GROUP BY s.source_host, s.dest_host, o.active, o.ema, o.updated
    HAVING coalesce(o.updated, min(s.at - make_interval(secs => s.seconds))) <= now() - make_interval(secs => :interval)
    ORDER BY s.source_host, s.dest_host""")
_FORGET = (
    text("DELETE FROM link_samples WHERE at < now() - make_interval(secs => :samples)"),
    text("DELETE FROM optimizer_evolution WHERE at < now() - make_interval(secs => :keep)"),
)


@dataclass(frozen=True)
class Measured:
    """What an interval of a link showed."""

    active: int
    """Copies that it might run."""
    running: int
    waiting: int
    throughput: float
    """Bytes/s."""
    finished: int
    failed: int
    ema: float
    """Smoothed throughput before, bytes/s; 0 at first."""
    step: int
    """What the last decision changed."""

    @property
    def success(self) -> float:
        """Percent of the attempts."""
        ended = self.finished + self.failed
        return 100.0 * self.finished / ended if ended else 100.0


def decide(measured: Measured, lowest: int, highest: int) -> tuple[int, str]:
    """How many copies the link may run from now on, and why.

    Args:
        measured: what was seen.
        lowest: the fewest that are allowed.
        highest: the most.
    """
    active, size = measured.active, max(measured.active // 8, 1)
    rates = f"{measured.throughput / 1e6:.2f} MB/s after {measured.ema / 1e6:.2f} MB/s"
    gain = measured.throughput / measured.ema - 1 if measured.ema > 0 else math.inf
    if measured.success < _BAD:
        wanted, why = active // 2, f"{measured.success:.0f} % of the attempts succeeded: half as many"
    elif measured.success < _GOOD:
        wanted, why = active - 1, f"{measured.success:.0f} % of the attempts succeeded: one less"
    elif not measured.waiting:
        wanted, why = active, "nothing waits: no change"
    elif measured.running < active - size:
        wanted, why = active, f"only {measured.running} run, for other limits: no change"
    elif gain > _GAIN:
        wanted, why = active + (-size if measured.step < 0 else size), f"{rates}: on in the same direction"
    elif gain < -_GAIN and measured.step:
        wanted, why = active + (size if measured.step < 0 else -size), f"{rates}: the last step back"
    elif measured.step > 0:
        wanted, why = active - size, f"{rates}, no gain: the last step back"
    else:
        wanted, why = active + size, f"{rates}: try more"
    bounded = max(lowest, 1, min(highest, wanted))
    if bounded != wanted:
        why += f" (from {lowest} to {highest} are allowed)"
    return bounded, why


class Optimizer:
    """Keeps measurements and decides; any number of workers may call it.

    Args:
        engine: the database.
        limits: the limits.
    """

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self._engine = engine
        self._limits = limits

    def record(self, worker: int, seconds: float, samples: Mapping[Link, Sample]) -> None:
        """Keep what a worker measured."""
        rows = [
            {"worker": worker, "source_host": link[0], "dest_host": link[1], "seconds": seconds, **asdict(sample)}
            for link, sample in sorted(samples.items())
        ]
        if rows:
            with self._engine.begin() as connection:
                connection.execute(insert(link_samples), rows)

    def decide(self) -> list[tuple[Link, int, str]]:
        """Decide for links whose interval is over, and drop old measurements. Returns the decisions."""
        with self._engine.begin() as connection:
            if not connection.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": _LOCK}):
                return []
            limits = {"samples": _KEEP_SAMPLES_S, "keep": self._limits.keep_s}
            for statement in _FORGET:
                connection.execute(statement, limits)
            due = {"interval": self._limits.optimize_s, "longest": _KEEP_SAMPLES_S, "most": _QUEUE}
            rows = connection.execute(_DUE, due).mappings().all()
            rules = Rules(self._limits, policy.load(connection)) if rows else None
            return [self._one(connection, row, rules) for row in rows if rules is not None]

    @staticmethod
    def _one(connection: Connection, row: RowMapping, rules: Rules) -> tuple[Link, int, str]:
        values = {name: float(value or 0) for name, value in row.items() if name not in _NAMES}
        link = str(row["source_host"]), str(row["dest_host"])
        measured = Measured(
            active=int(values["active"]) or rules.on_link(link),
            running=int(values["running"]),
            waiting=int(values["waiting"]),
            throughput=values["bytes"] / max(values["seconds"], 0.001),
            finished=int(values["finished"]),
            failed=int(values["failed"]),
            ema=values["ema"],
            step=int(values["diff"]),
        )
        active, why = decide(measured, *rules.bounds(link))
        ema = _SMOOTH * measured.throughput + (1 - _SMOOTH) * (measured.ema or measured.throughput)
        ends = {"source_host": link[0], "dest_host": link[1]}
        mean = values["sizes"] / max(measured.finished, 1)
        spread = math.sqrt(max(values["squares"] / max(measured.finished, 1) - mean**2, 0.0))
        new = {"active": active, "ema": ema, "updated": text("now()")}
        connection.execute(
            upsert(optimizer)
            .values(**ends, **new)
            .on_conflict_do_update(index_elements=[optimizer.c.source_host, optimizer.c.dest_host], set_=new)
        )
        connection.execute(
            insert(optimizer_evolution).values(
                **ends,
                active=active,
                diff=active - measured.active,
                actual_active=measured.running,
                queue_size=measured.waiting,
                throughput=measured.throughput,
                ema=ema,
                success=measured.success,
                filesize_avg=mean,
                filesize_stddev=spread,
                rationale=why,
            )
        )
        return link, active, why
