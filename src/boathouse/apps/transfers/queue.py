"""The workers' side of the database: claim files, tell how they do. Each call is one transaction, or part of one.

Locks are taken in one order everywhere: jobs (by id), then files. Claims skip what is locked.
"""

from __future__ import annotations

import json
import os
import socket
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, Engine, RowMapping, insert, select, text, update

from boathouse.apps.transfers import database, jwt, policy
from boathouse.apps.transfers.events import JOBS, WORK, WORKER_LOCK, notify
from boathouse.apps.transfers.opened import OpenTokens
from boathouse.apps.transfers.policy import Policy
from boathouse.apps.transfers.scheduler import Group, Rules, slots
from boathouse.apps.transfers.seal import Seal
from boathouse.apps.transfers.settings import Limits
from boathouse.apps.transfers.states import FileState, JobState
from boathouse.apps.transfers.store import purge_tokens
from boathouse.apps.transfers.tables import files, jobs, tokens, workers
from boathouse.apps.transfers.work import Task, Token, Work
from boathouse.errors import AuthError

CLAIM_LOCK = 0x636C6169
"""Whoever holds this advisory lock claims; nobody else does meanwhile."""
_GRACE_S = 5
"""After PostgreSQL itself was restarted, workers get this long to take their locks again."""

_NEXT = """
    SELECT extract(epoch FROM min(at) - now())::float FROM (
        SELECT min(not_before) AS at FROM files WHERE file_state = 'SUBMITTED' AND not_before > now()
        UNION ALL SELECT min(paused_until) FROM endpoints WHERE paused_until > now()
        UNION ALL SELECT min(clean_at) FROM files WHERE busy AND clean_at > now()) times"""
# All that a decision rests on, in one round trip: at a few files a claim, its questions cost more than the claim.
_LOOK = text(
    f"""
    WITH RECURSIVE groups AS (
        (SELECT source_host, dest_host, vo, activity FROM files WHERE file_state = 'SUBMITTED'
         ORDER BY source_host, dest_host, vo, activity LIMIT 1)
      UNION ALL
        SELECT next.source_host, next.dest_host, next.vo, next.activity FROM groups, LATERAL (
            SELECT source_host, dest_host, vo, activity FROM files WHERE file_state = 'SUBMITTED'
               AND (source_host, dest_host, vo, activity)
                 > (groups.source_host, groups.dest_host, groups.vo, groups.activity)
            ORDER BY source_host, dest_host, vo, activity LIMIT 1) next),
    active AS (
      SELECT source_host, dest_host, vo, activity, count(*) AS files FROM files WHERE file_state = 'ACTIVE'
      GROUP BY source_host, dest_host, vo, activity)
    SELECT
      (SELECT json_agg(json_build_array(source_host, dest_host, vo, activity)) FROM groups) AS waiting,
      (SELECT json_agg(json_build_array(source_host, dest_host, vo, activity, files)) FROM active) AS active,
      (SELECT json_object_agg(host, paused_until > now()) FROM endpoints) AS paused,
      (SELECT json_agg(json_build_array(source_host, dest_host, active)) FROM optimizer) AS optimized,
      (SELECT max(id) FROM config_audit) AS decision,
      ({_NEXT}) AS next_s"""  # noqa: S608 - made of constants
)
_RATES = text("""
    SELECT source_host, dest_host, (sum(bytes) / CAST(:seconds AS float) / 1e6)::float FROM link_samples
    WHERE at > now() - make_interval(secs => :seconds) GROUP BY source_host, dest_host""")
_RATE_S = 15.0
"""Over how long a rate is measured that is compared with a limit."""
# A claim that waited for its turn takes what was submitted meanwhile: not now(), the beginning of its transaction.
_PICK = text("""
    WITH picked AS (
      SELECT f.file_id, f.dest_url, f.priority, g.pool, g.slots,
             row_number() OVER (PARTITION BY g.pool ORDER BY f.priority DESC, f.file_id) AS place
      FROM jsonb_to_recordset(CAST(:groups AS jsonb))
        AS g(source text, dest text, vo text, activity text, pool int, slots int)
      CROSS JOIN LATERAL (
        SELECT w.file_id, w.dest_url, w.priority FROM files w
        WHERE w.file_state = 'SUBMITTED' AND w.source_host = g.source AND w.dest_host = g.dest
          AND w.vo = g.vo AND w.activity = g.activity AND w.not_before <= statement_timestamp()
          AND NOT EXISTS (SELECT 1 FROM files b WHERE b.dest_url = w.dest_url AND b.busy)
        ORDER BY w.priority DESC, w.file_id LIMIT g.slots FOR UPDATE SKIP LOCKED) f)
    SELECT file_id, dest_url, pool FROM picked WHERE place <= slots ORDER BY priority DESC, file_id""")
_MOST_ROUNDS = 4
_GROUP = ("source_host", "dest_host", "vo", "activity")
_RETURNING = """
    RETURNING f.file_id, f.job_id, f.attempt, f.spent, f.source_url, f.dest_url, f.source_host, f.dest_host,
      f.source_token, f.dest_token, f.checksum, f.user_filesize, f.wrote, f.file_state, f.vo, f.activity, f.transient,
      j.job_state, j.overwrite_flag, j.verify_checksum, j.attempts,
      j.job_type = 'R' AND EXISTS (SELECT 1 FROM files n WHERE n.job_id = f.job_id AND n.file_index = f.file_index
                                   AND n.file_state = 'NOT_USED') AS alternatives"""
_START = text(
    f"""
    UPDATE files f SET file_state = 'ACTIVE', worker = :worker, busy = true, wrote = false, clean_at = NULL,
      attempt = f.attempt + 1, start_time = now(), finish_time = NULL, transferred = 0
    FROM jobs j WHERE j.job_id = f.job_id AND f.file_id = ANY(:ids) {_RETURNING}"""  # noqa: S608 - made of constants
)
_ADOPT = text(
    f"""
    UPDATE files f SET worker = :worker, attempt = f.attempt + 1
    FROM jobs j WHERE j.job_id = f.job_id AND f.worker = :dead AND f.busy AND f.file_state = 'ACTIVE'
      AND f.file_id <> ALL(:but) {_RETURNING}"""  # noqa: S608 - made of constants
)
# What lies on the way of a job that has ended is removed like a partial file; what never came to be is forgotten.
_LEAVE = text("""
    UPDATE files f SET busy = f.file_state = 'FINISHED', transient = f.file_state = 'FINISHED', clean_at = now(),
      clean_until = now() + make_interval(secs => :clean_s)
    FROM jobs j WHERE j.job_id = f.job_id AND f.transient AND NOT f.busy AND j.job_finished IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM files b WHERE b.dest_url = f.dest_url AND b.busy)
    RETURNING f.job_id""")
_TAKE_UNCLEAN = text(
    f"""
    UPDATE files f SET worker = :worker, attempt = f.attempt + 1
    FROM jobs j WHERE j.job_id = f.job_id AND f.file_id IN (
      SELECT file_id FROM files WHERE busy AND worker IS NULL AND clean_at <= now() AND file_state <> 'ACTIVE'
      ORDER BY clean_at LIMIT :free FOR UPDATE SKIP LOCKED) {_RETURNING}"""  # noqa: S608 - made of constants
)


@dataclass(frozen=True)
class Claim:
    """What a claim gave."""

    work: tuple[Work, ...]
    next_s: float | None
    """When something that waits for its time can be claimed, in seconds from now."""


class Queue:
    """Claims files for one worker.

    Args:
        engine: the database.
        seal: what tokens are sealed with.
        limits: the limits.
    """

    def __init__(self, engine: Engine, seal: Seal, limits: Limits) -> None:
        self._engine = engine
        self._reading = database.reading(engine)
        self._seal = seal
        self._limits = limits
        self._policy: Policy | None = None
        self._decision: int | None = None
        self._opened = OpenTokens()
        with engine.begin() as connection:
            row = {"host": socket.gethostname(), "pid": os.getpid()}
            self.worker = int(connection.scalars(insert(workers).returning(workers.c.worker), row).one())

    def claim(self, connection: Connection, free: int) -> Claim:
        """Start up to ``free`` files, each on a link with a free slot and to a destination that nobody writes.

        Args:
            connection: in a transaction, which is to be committed soon: others may not claim before.
            free: how many more copies this worker may run.
        """
        if free <= 0:
            return Claim((), _until(connection.scalar(text(_NEXT))))
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": CLAIM_LOCK})
        work: list[Work] = []
        fresh: set[str] = set()
        seen = connection.execute(_LOOK).mappings().one()
        if seen["waiting"]:
            waiting = {Group(*each) for each in seen["waiting"]}
            active = Counter({Group(*each[:4]): each[4] for each in seen["active"] or ()})
            unreachable = seen["paused"] or {}
            rules = self._rules(connection, seen)
            for _ in range(_MOST_ROUNDS):
                given = slots(waiting, active, unreachable, rules=rules, free=free - len(work))
                rows, short = self._start(connection, waiting, given, rules)
                work += self._work(connection, rows, Task.copy)
                fresh |= {str(row["job_id"]) for row in rows if row["job_state"] == JobState.SUBMITTED}
                active.update(Group(*(row[name] for name in _GROUP)) for row in rows)
                # What a group had no files for is dealt to others.
                waiting -= short
                if not short or not waiting or len(work) >= free:
                    break
            self._mark_started(connection, fresh)
        return Claim(tuple(work), _until(seen["next_s"]))

    def _rules(self, connection: Connection, seen: RowMapping) -> Rules:
        """Limits and decisions as they are now; the operator's are read again when there is a new one."""
        if self._policy is None or self._decision != seen["decision"]:
            self._policy, self._decision = policy.load(connection), seen["decision"]
        optimized = {(source, destination): active for source, destination, active in seen["optimized"] or ()}
        rates_in: dict[str, float] = defaultdict(float)
        rates_out: dict[str, float] = defaultdict(float)
        if self._policy.limits_rates:
            for source, destination, rate in connection.execute(_RATES, {"seconds": _RATE_S}):
                rates_out[source] += rate
                rates_in[destination] += rate
        return Rules(self._limits, self._policy, optimized, rates_in, rates_out)

    def _start(
        self, connection: Connection, waiting: Collection[Group], given: Mapping[Group, int], rules: Rules
    ) -> tuple[Sequence[RowMapping], set[Group]]:
        """Start files of groups that have slots. Returns their rows, and the groups that had fewer files than slots."""
        pools = {pool: number for number, pool in enumerate(given)}
        members = [group for group in waiting if rules.pool(group) in pools]
        if not members:
            return [], set()
        groups = [
            {
                **dict(zip(("source", "dest", "vo", "activity"), group, strict=True)),
                "pool": pools[rules.pool(group)],
                "slots": given[rules.pool(group)],
            }
            for group in members
        ]
        picked: dict[str, int] = {}
        found: Counter[int] = Counter()
        for file_id, dest_url, pool in connection.execute(_PICK, {"groups": json.dumps(groups)}):
            picked.setdefault(dest_url, file_id)
            found[pool] += 1
        short = {group for group in members if found[pools[rules.pool(group)]] < given[rules.pool(group)]}
        if not picked:
            return [], short
        parameters = {"worker": self.worker, "ids": list(picked.values())}
        return connection.execute(_START, parameters).mappings().all(), short

    @staticmethod
    def _mark_started(connection: Connection, job_ids: Collection[str]) -> None:
        if not job_ids:
            return
        # A job that is locked is being changed by somebody who will set its state himself.
        changed = connection.scalars(
            text("""
                UPDATE jobs SET job_state = :active, revision = revision + 1 WHERE job_id IN (
                  SELECT job_id FROM jobs WHERE job_id = ANY(CAST(:ids AS uuid[])) AND job_state = :submitted
                  FOR UPDATE SKIP LOCKED) RETURNING job_id"""),
            {"active": JobState.ACTIVE, "submitted": JobState.SUBMITTED, "ids": sorted(job_ids)},
        )
        if ids := [str(each) for each in changed]:
            notify(connection, JOBS, ids)

    def take_unclean(self, free: int) -> tuple[Work, ...]:
        """Destinations where an ended copy may have left something, and that can be looked at now."""
        with self._engine.begin() as connection:
            left = connection.scalars(_LEAVE, {"clean_s": self._limits.clean_s}).all()
            if left:
                purge_tokens(connection, [str(job_id) for job_id in left])
            rows = connection.execute(_TAKE_UNCLEAN, {"worker": self.worker, "free": free}).mappings().all()
            return self._work(connection, rows, Task.clean)

    def adopt(self, running: Collection[int]) -> tuple[Work, ...]:
        """Files of workers that died, and our own that nobody works on (a claim whose answer was lost).

        Args:
            running: ids of the files that this worker does work on.
        """
        adopted: list[Work] = []
        with self._engine.begin() as connection:
            dead = [self.worker]
            fresh = "SELECT now() - pg_postmaster_start_time() < make_interval(secs => :grace)"
            if not connection.scalar(text(fresh), {"grace": _GRACE_S}):
                dead += self._dead(connection)
            for worker in dead:
                but = list(running) if worker == self.worker else []
                rows = connection.execute(_ADOPT, {"worker": self.worker, "dead": worker, "but": but})
                adopted += self._work(connection, rows.mappings().all(), Task.verify)
                connection.execute(
                    update(files)
                    .where(files.c.worker == worker, files.c.busy, files.c.file_state != FileState.ACTIVE)
                    .where(files.c.file_id.not_in(but))
                    .values(worker=None, clean_at=text("now()"))
                )
        return tuple(adopted)

    def _dead(self, connection: Connection) -> list[int]:
        query = select(files.c.worker).where(files.c.busy, files.c.worker.is_not(None)).distinct()
        others = [worker for worker in connection.scalars(query) if worker not in (None, self.worker)]
        lock = text("SELECT pg_try_advisory_xact_lock(:kind, :worker)")
        return [worker for worker in others if connection.scalar(lock, {"kind": WORKER_LOCK, "worker": worker})]

    def progress(self, work: Work, transferred_bytes: int) -> bool:
        """Note how far a copy is.

        Returns:
            Whether the file is still ours to copy.
        """
        return self._update_held(work, transferred=transferred_bytes)

    def wrote(self, work: Work) -> bool:
        """Note that what lies at the destination from now on is ours. Returns whether the file is still ours."""
        return self._update_held(work, wrote=True)

    def holds(self, work: Work) -> bool:
        """Whether the destination is still ours to touch."""
        query = select(files.c.file_id).where(
            files.c.file_id == work.file_id,
            files.c.worker == self.worker,
            files.c.attempt == work.attempt,
            files.c.busy,
        )
        with self._reading.connect() as connection:
            return connection.scalar(query) is not None

    def _update_held(self, work: Work, **values: object) -> bool:
        statement = (
            update(files)
            .where(files.c.file_id == work.file_id, files.c.worker == self.worker, files.c.attempt == work.attempt)
            .where(files.c.file_state == FileState.ACTIVE)
            .values(**values)
        )
        with self._engine.begin() as connection:
            return connection.execute(statement).rowcount == 1

    def _work(self, connection: Connection, rows: Sequence[RowMapping], task: Task) -> tuple[Work, ...]:
        wanted = {row[name] for row in rows for name in ("source_token", "dest_token")} - {None}
        limit = (self._policy or Policy()).limit
        known = self._open(connection, wanted)
        return tuple(
            Work(
                task=task,
                file_id=row["file_id"],
                job_id=str(row["job_id"]),
                attempt=row["attempt"],
                spent=row["spent"],
                attempts=row["attempts"] or self._limits.attempts,
                source_url=row["source_url"],
                dest_url=row["dest_url"],
                source_host=row["source_host"],
                dest_host=row["dest_host"],
                source_token=known.get(row["source_token"]),
                dest_token=known.get(row["dest_token"]),
                overwrite=row["overwrite_flag"],
                verify=row["verify_checksum"],
                checksum=row["checksum"],
                size_bytes=row["user_filesize"],
                wrote=row["wrote"],
                transient=row["transient"],
                pull=limit(row["dest_host"]).pulls,
                push=limit(row["source_host"]).pushes,
                alternatives=row["alternatives"],
                vo=row["vo"],
            )
            for row in rows
        )

    def _open(self, connection: Connection, wanted: Collection[int]) -> Mapping[int, Token]:
        """Tokens by id, as they were a moment ago or are now."""
        known = self._opened.known(wanted)
        if unknown := set(wanted) - known.keys():
            asked_at = self._opened.now()
            read = self.tokens(connection, unknown)
            self._opened.keep(read, asked_at=asked_at)
            known |= {token.token_id: token for token in read}
        return known

    def tokens(self, connection: Connection, token_ids: Iterable[int]) -> list[Token]:
        """Tokens by id, opened. One that cannot be opened is left out: its host will refuse, and say so."""
        opened = []
        query = select(tokens, jobs.c.owner).join(jobs, jobs.c.job_id == tokens.c.job_id)
        for row in connection.execute(query.where(tokens.c.token_id.in_(list(token_ids)))).mappings():
            job_id, host = str(row["job_id"]), row["host"]
            try:
                value, origin, denied = _parted(self._seal.open(row["sealed"], job_id, host))
            except AuthError:
                continue
            whose = row["token_id"], job_id, host, value, row["expires_at"], row["owner"]
            opened.append(Token(*whose, origin=origin, denied=denied))
        return opened

    def renewed(self, token: Token, value: str) -> Token:
        """Store a token with a new value."""
        fresh = replace(token, value=value, expires_at=jwt.expiry(value))
        sealed = self._seal.close(f"{value}\n{token.origin}\n{token.denied}", token.job_id, token.host)
        with self._engine.begin() as connection:
            connection.execute(
                update(tokens)
                .where(tokens.c.token_id == token.token_id)
                .values(sealed=sealed, expires_at=fresh.expires_at)
            )
        self._opened.keep([fresh], asked_at=self._opened.now())
        return fresh

    def current(self, token: Token) -> Token | None:
        """The token as it is stored now; another worker may have renewed it."""
        asked_at = self._opened.now()
        with self._reading.connect() as connection:
            stored = self.tokens(connection, [token.token_id])
        self._opened.keep(stored, asked_at=asked_at)
        return next(iter(stored), None)

    def ending(
        self, before: datetime, *, hosts: Collection[str] | None = None, but: Collection[int] = ()
    ) -> list[Token]:
        """Tokens that end soon and that open jobs still need, or the removal of what a copy left; the first ones first.

        Args:
            before: how soon.
            hosts: for these; for all if None.
            but: ids of others, which would only take the place of those that follow.
        """
        query = text("""
            SELECT t.token_id FROM tokens t JOIN jobs j USING (job_id)
            WHERE t.expires_at > now() AND t.expires_at < :before
              AND (CAST(:hosts AS text[]) IS NULL OR t.host = ANY(:hosts)) AND t.token_id <> ALL(:but)
              AND (j.job_finished IS NULL OR EXISTS (
                SELECT 1 FROM files f
                WHERE f.job_id = j.job_id AND (f.busy OR f.transient) AND f.dest_token = t.token_id))
            ORDER BY t.expires_at LIMIT 200""")
        values = {"before": before, "hosts": None if hosts is None else list(hosts), "but": list(but)}
        with self._reading.connect() as connection:
            number = {token_id: place for place, token_id in enumerate(connection.scalars(query, values))}
            return sorted(self.tokens(connection, number), key=lambda token: number[token.token_id])

    def wake(self) -> None:
        """Call all workers."""
        with self._engine.begin() as connection:
            notify(connection, WORK)


def _until(seconds: float | None) -> float | None:
    return None if seconds is None else max(seconds, 0.0)


def _parted(text: str) -> tuple[str, str, str]:
    """Value, origin and denial of a sealed token; one as it was submitted is sealed without the others."""
    value, origin, denied = (*text.split("\n"), "", "")[:3]
    return value, origin, denied
