"""Which daemons there are, what wakes each, and one round of each: Rucio's own code, without its waiting."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable, MutableMapping
from types import ModuleType
from typing import Any

from rucio.common.config import config_get_int
from rucio.core.request import TransferStatsManager
from rucio.daemons.abacus import account as abacus_account
from rucio.daemons.abacus import collection_replica as abacus_collection
from rucio.daemons.abacus import rse as abacus_rse
from rucio.daemons.badreplicas import minos, necromancer
from rucio.daemons.common import HeartbeatHandler
from rucio.daemons.conveyor import finisher, poller, submitter
from rucio.daemons.judge import cleaner, evaluator, injector, repairer
from rucio.daemons.reaper import reaper
from rucio.daemons.transmogrifier import transmogrifier
from rucio.daemons.undertaker import undertaker
from rucio.db.sqla import models
from rucio.db.sqla.constants import DatabaseOperationType
from rucio.db.sqla.session import db_session
from sqlalchemy import delete

from boathouse_rucio_site import timers
from boathouse_rucio_site.conveying import Finisher, Poller, Submitter, TopologyCache
from boathouse_rucio_site.loop import HEARTBEAT_S, Cycle, Daemon
from boathouse_rucio_site.settings import Settings
from boathouse_rucio_site.space import Recorder

LOCKED_PAUSE = dt.timedelta(seconds=2)
"""What was locked is tried again after so long; Rucio would leave it for one to forty minutes."""
BACKLOG_S = 0.05
"""Pause between two rounds while there is more to do."""
SETTLE_S = 2.0
"""Counters are brought up to date so long after a change."""
KEEP_MESSAGES = dt.timedelta(days=1)
"""Rucio writes a message of every event for a broker; without one they are only a trace."""


def _shorten_pauses(paused: MutableMapping[Any, dt.datetime]) -> None:
    limit = dt.datetime.now(dt.UTC).replace(tzinfo=None) + LOCKED_PAUSE
    for key, until in paused.items():
        paused[key] = min(until, limit)


def _evaluate(paused: dict[Any, dt.datetime], heartbeat: HeartbeatHandler) -> float | None:
    evaluator.run_once(paused_dids=paused, did_limit=1000, heartbeat_handler=heartbeat)
    _shorten_pauses(paused)
    if not timers.updated_dids():
        return None
    return LOCKED_PAUSE.total_seconds() if paused else 0.5


def _inject(paused: dict[Any, dt.datetime], heartbeat: HeartbeatHandler) -> float | None:
    injector.run_once(paused_rules=paused, heartbeat_handler=heartbeat)
    _shorten_pauses(paused)
    return LOCKED_PAUSE.total_seconds() if timers.injectable_rules() else None


def _clean(paused: dict[Any, dt.datetime], heartbeat: HeartbeatHandler) -> float | None:
    cleaner.run_once(paused_rules=paused, heartbeat_handler=heartbeat)
    _shorten_pauses(paused)
    return timers.next_rule_expiry_s()


def _repair(paused: dict[Any, dt.datetime], heartbeat: HeartbeatHandler) -> float | None:
    delta = config_get_int("repairer", "updated_at_delta", raise_exception=False, default=60)
    repairer.run_once(paused_rules=paused, delta=delta, heartbeat_handler=heartbeat)
    _shorten_pauses(paused)
    return 10.0 if timers.stuck_rules() else None


def _bury(paused: dict[Any, dt.datetime], heartbeat: HeartbeatHandler) -> float | None:
    undertaker.run_once(paused_dids=paused, chunk_size=100, heartbeat_handler=heartbeat)
    _shorten_pauses(paused)
    return timers.next_did_expiry_s()


def _reap(heartbeat: HeartbeatHandler) -> float | None:
    idle = reaper.run_once(
        rses=[],
        include_rses=None,
        exclude_rses=None,
        vos=None,
        chunk_size=100,
        greedy=True,
        scheme="davs",
        delay_seconds=timers.DELETE_AGAIN_S,
        auto_exclude_threshold=5,
        auto_exclude_timeout=30,
        heartbeat_handler=heartbeat,
    )
    return timers.next_deletion_s() if idle else BACKLOG_S


def _count(module: ModuleType, heartbeat: HeartbeatHandler) -> float | None:
    module.run_once(heartbeat_handler=heartbeat)
    return None


def _count_collections(heartbeat: HeartbeatHandler) -> float | None:
    idle = abacus_collection.run_once(heartbeat_handler=heartbeat, limit=1000)
    return None if idle else BACKLOG_S


def _subscribe(heartbeat: HeartbeatHandler) -> float | None:
    transmogrifier.run_once(heartbeat_handler=heartbeat, bulk=1000)
    return None


def _bad_replicas(heartbeat: HeartbeatHandler) -> float | None:
    necromancer.run_once(heartbeat_handler=heartbeat, bulk=1000)
    return None


def _bad_pfns(heartbeat: HeartbeatHandler) -> float | None:
    minos.run_once(heartbeat_handler=heartbeat, bulk=1000)
    return None


def _forget_messages(heartbeat: HeartbeatHandler) -> float | None:
    heartbeat.live()
    before = dt.datetime.now(dt.UTC).replace(tzinfo=None) - KEEP_MESSAGES
    with db_session(DatabaseOperationType.WRITE) as session:
        session.execute(delete(models.Message).where(models.Message.created_at < before))
    return None


def _stopper(module: ModuleType) -> Callable[[], None]:
    """Sets the flag that a running round of Rucio's looks at."""
    flag = module.GRACEFUL_STOP if hasattr(module, "GRACEFUL_STOP") else module.graceful_stop
    setter: Callable[[], None] = flag.set
    return setter


def _daemon(
    name: str,
    cycle: Cycle,
    *topics: str,
    module: ModuleType | None = None,
    interval_s: float = 60.0,
    settle_s: float = 0.0,
) -> Daemon:
    return Daemon(
        name,
        cycle,
        topics=topics,
        interval_s=interval_s,
        settle_s=settle_s,
        heartbeat=functools.partial(HeartbeatHandler, executable=name, renewal_interval=HEARTBEAT_S),
        stop_work=_stopper(module) if module is not None else lambda: None,
    )


def daemons(settings: Settings, topology: TopologyCache, stats: TransferStatsManager) -> list[Daemon]:
    """All daemons of a lake; not those for tape, brokers and throttling, which it does not have."""
    submit = Submitter(topology, bulk_multi_source=settings.bulk_multi_source)
    poll, finish = Poller(topology, stats), Finisher(topology)
    pausing = functools.partial
    counting = functools.partial(functools.partial, _count)
    return [
        _daemon("judge-evaluator", pausing(_evaluate, {}), "evaluate", module=evaluator),
        _daemon("judge-injector", pausing(_inject, {}), "inject", module=injector),
        _daemon("judge-cleaner", pausing(_clean, {}), "expire", module=cleaner),
        _daemon("judge-repairer", pausing(_repair, {}), "repair", module=repairer),
        _daemon("conveyor-submitter", submit, "submit", module=submitter, interval_s=30),
        _daemon("conveyor-poller", poll, "poll", module=poller, interval_s=30),
        _daemon("conveyor-finisher", finish, "finish", module=finisher, interval_s=30),
        _daemon("undertaker", pausing(_bury, {}), "bury", module=undertaker),
        _daemon("reaper", _reap, "reap", module=reaper),
        _daemon("abacus-rse", counting(abacus_rse), "count-rse", module=abacus_rse, settle_s=SETTLE_S),
        _daemon("abacus-account", counting(abacus_account), "count-account", module=abacus_account, settle_s=SETTLE_S),
        _daemon(
            "abacus-collection-replica",
            _count_collections,
            "count-collection",
            module=abacus_collection,
            settle_s=SETTLE_S,
        ),
        _daemon("transmogrifier", _subscribe, "subscribe", module=transmogrifier, settle_s=SETTLE_S),
        _daemon("necromancer", _bad_replicas, "bad-replica", module=necromancer, settle_s=1.0),
        _daemon("minos", _bad_pfns, "bad-pfn", module=minos, settle_s=1.0),
        _daemon("space", Recorder(settings.space), interval_s=10),
        _daemon("messages", _forget_messages, interval_s=600),
    ]
