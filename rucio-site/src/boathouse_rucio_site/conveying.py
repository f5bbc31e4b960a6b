"""Submitting, polling and finishing transfers: rounds of Rucio's conveyor daemons, without their waiting."""

from __future__ import annotations

import threading
import time
from typing import Any

from rucio.core.request import TransferStatsManager
from rucio.core.topology import Topology
from rucio.daemons.conveyor import finisher, poller, submitter
from rucio.db.sqla.constants import RequestState, RequestType

from boathouse_rucio_site import polling, timers
from boathouse_rucio_site.backoff import Backoff
from boathouse_rucio_site.transfertool import NAME, BoathouseTransfertool

BULK = 2000
"""Requests of one round."""
GROUP = 50
"""Files of one job; the first job is copied while the next is prepared."""
FINISH_GROUP = 50
"""Requests finished in one transaction; nobody waits for a large one."""
SCHEME = "davs"
MAX_SOURCES = 4
TIMEOUT_S = 60.0
POLL_S = (0.1, 1.0)
"""Shortest and longest time between two polls; shortest while transfers are young or have just changed."""
LOCKED_S = 0.5
"""Requests that are there, but were locked by somebody, are looked for again after so long."""
ENDED = (
    RequestState.DONE,
    RequestState.FAILED,
    RequestState.LOST,
    RequestState.SUBMISSION_FAILED,
    RequestState.NO_SOURCES,
    RequestState.ONLY_TAPE_SOURCES,
    RequestState.MISMATCH_SCHEME,
)
"""What the finisher waits for."""
RETRY_S = 3.0
"""What could not be submitted (no token, no transfer service) is tried again after so long."""
TOPOLOGY_S = 300.0
"""Age at which RSEs and distances are read again; a change is told anyway."""


class TopologyCache:
    """RSEs and distances, read again when they change; takes the place of Rucio's cache of fixed life."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._topology: Any = None
        self._made_at = 0.0

    def get(self, *_: object) -> Any:
        """The topology."""
        with self._lock:
            if self._topology is None or time.monotonic() - self._made_at > TOPOLOGY_S:
                self._topology, self._made_at = Topology(), time.monotonic()
            return self._topology

    def forget(self) -> None:
        """Have it read again at the next use."""
        with self._lock:
            self._topology = None


class Submitter:
    """Hands queued requests to the transfer service."""

    def __init__(self, topology: TopologyCache, *, bulk_multi_source: bool) -> None:
        self._topology = topology
        self._backoff = Backoff()
        self._arguments = {
            BoathouseTransfertool: {
                "group_bulk": GROUP,
                "group_policy": "dest",
                "bulk_multi_source": bulk_multi_source,
            }
        }

    def __call__(self, heartbeat: Any) -> float | None:
        """One round; answers when the next repetition is due."""
        _, (topology, requests) = submitter._fetch_requests(  # noqa: SLF001 - listed in patches.USES
            partition_hash_var=None,
            bulk=BULK,
            activity=None,
            rse_ids=None,
            request_type=[RequestType.TRANSFER],
            ignore_availability=False,
            filter_transfertool=None,
            metrics=submitter.METRICS,
            cached_topology=self._topology,
            # No mark: marked requests would be passed over for ten minutes.
            set_last_processed_by=False,
            heartbeat_handler=heartbeat,
        )
        due, wait = self._backoff.split(requests)
        if not requests and timers.requests_in(RequestState.QUEUED):
            return RETRY_S
        if not due:
            return wait
        submitter._handle_requests(  # noqa: SLF001 - listed in patches.USES
            (topology, due),
            transfertools=[NAME],
            schemes=[SCHEME],
            failover_schemes=[],
            max_sources=MAX_SOURCES,
            timeout=TIMEOUT_S,
            transfertool_kwargs=self._arguments,
            metrics=submitter.METRICS,
        )
        if len(requests) >= BULK:
            return 0.0
        return min(RETRY_S, wait) if wait is not None else RETRY_S


class Poller:
    """Asks the transfer service how submitted requests are, often while something happens."""

    def __init__(self, topology: TopologyCache, stats: TransferStatsManager) -> None:
        self._topology = topology
        self._stats = stats
        self._known: set[str] = set()
        self._delay_s = POLL_S[0]

    def __call__(self, heartbeat: Any) -> float | None:
        """One round; answers when to poll next, ``None`` if there is nothing to poll."""
        _, requests = poller._fetch_requests(  # noqa: SLF001 - listed in patches.USES
            db_bulk=5 * BULK,
            older_than=0,
            activity_shares=None,
            transfertool=NAME,
            filter_transfertool=None,
            cached_topology=self._topology,
            activity=None,
            set_last_processed_by=False,
            heartbeat_handler=heartbeat,
        )
        if not requests:
            self._known = set()
            return LOCKED_S if timers.requests_in(RequestState.SUBMITTED) else None
        present = {request["request_id"] for request in requests}
        # New requests, or some gone since the last poll: more may follow soon.
        self._delay_s = POLL_S[0] if present != self._known else min(1.3 * self._delay_s, POLL_S[1])
        self._known = present
        polling.poll(requests, self._stats, TIMEOUT_S)
        return self._delay_s


class Finisher:
    """Turns finished requests into replicas and locks, or into repetitions."""

    def __init__(self, topology: TopologyCache) -> None:
        self._topology = topology
        self._left: set[str] = set()
        self._delay_s = 0.1

    def __call__(self, heartbeat: Any) -> float | None:
        """One round; answers when to come again."""
        _, (requests, topology) = finisher._fetch_requests(  # noqa: SLF001 - listed in patches.USES
            db_bulk=BULK,
            set_last_processed_by=False,
            cached_topology=self._topology,
            heartbeat_handler=heartbeat,
            activity=None,
        )
        if not requests:
            self._left = set()
            if timers.requests_in(*ENDED):
                return LOCKED_S
            # A submission that was cut short is taken up after a minute.
            return 10.0 if timers.requests_in(RequestState.SUBMITTING) else None
        finisher._handle_requests(  # noqa: SLF001 - listed in patches.USES
            (requests, topology), bulk=FINISH_GROUP, suspicious_patterns=[], retry_protocol_mismatches=False
        )
        present = {request["request_id"] for request in requests}
        # The same ones again: a row is locked, or the request cannot be finished. Ask less often.
        self._delay_s = min(2 * self._delay_s, 10.0) if present & self._left else 0.1
        self._left = present
        return self._delay_s
