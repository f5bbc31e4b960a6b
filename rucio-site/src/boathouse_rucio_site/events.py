"""Waking instead of polling: triggers in the database tell the daemons, over LISTEN and NOTIFY, that there is work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
from rucio.db.sqla.session import get_engine

CHANNEL = "boathouse"
"""Channel of all notifications; the payload is the topic."""
CONFIGURATION = "configuration"
"""Topic of changes to accounts, RSEs and settings, which every process caches."""
RECONNECT_S = (0.5, 10.0)
"""Shortest and longest wait before the connection is made again."""
CHECK_S = 5.0
"""How often the listener looks whether it shall stop, and whether the connection still lives."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trigger:
    """A row trigger that notifies a topic."""

    topic: str
    table: str
    events: str
    condition: str = "true"


TRIGGERS: tuple[Trigger, ...] = (
    Trigger("submit", "requests", "INSERT OR UPDATE OF state", "NEW.state = 'Q'"),
    Trigger("poll", "requests", "INSERT OR UPDATE OF state", "NEW.state = 'S'"),
    Trigger("finish", "requests", "INSERT OR UPDATE OF state", "NEW.state IN ('D', 'F', 'L', 'N', 'O', 'A', 'M')"),
    Trigger("evaluate", "updated_dids", "INSERT"),
    Trigger("inject", "rules", "INSERT OR UPDATE OF state", "NEW.state = 'I'"),
    Trigger("repair", "rules", "INSERT OR UPDATE", "NEW.state = 'S'"),
    Trigger("expire", "rules", "INSERT OR UPDATE OF expires_at, locked, child_rule_id", "NEW.expires_at IS NOT NULL"),
    Trigger("bury", "dids", "INSERT OR UPDATE OF expired_at", "NEW.expired_at IS NOT NULL"),
    Trigger("subscribe", "dids", "INSERT", "NEW.did_type IN ('D', 'C')"),
    Trigger("reap", "replicas", "INSERT OR UPDATE OF tombstone", "NEW.tombstone IS NOT NULL"),
    Trigger("count-rse", "updated_rse_counters", "INSERT"),
    Trigger("count-account", "updated_account_counters", "INSERT"),
    Trigger("count-collection", "updated_col_rep", "INSERT"),
    Trigger("bad-replica", "bad_replicas", "INSERT"),
    Trigger("bad-pfn", "bad_pfns", "INSERT"),
)

CONFIGURATION_TABLES = (
    "account_attr_map",
    "account_glob_limits",
    "account_limits",
    "account_map",
    "accounts",
    "configs",
    "distances",
    "rse_attr_map",
    "rse_limits",
    "rse_protocols",
    "rses",
    "scopes",
)
"""Tables of which every statement is told as :data:`CONFIGURATION`."""


def statements() -> list[str]:
    """SQL that makes function and triggers; running it again changes nothing."""
    prefix = CHANNEL
    made = [
        f"""CREATE OR REPLACE FUNCTION {prefix}_notify() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN PERFORM pg_notify('{CHANNEL}', TG_ARGV[0]); RETURN NULL; END$$"""
    ]
    for trigger in TRIGGERS:
        name = f"{prefix}_{trigger.topic.replace('-', '_')}"
        made.append(
            f"CREATE OR REPLACE TRIGGER {name} AFTER {trigger.events} ON {trigger.table} FOR EACH ROW "
            f"WHEN ({trigger.condition}) EXECUTE FUNCTION {prefix}_notify('{trigger.topic}')"
        )
    made += [
        f"CREATE OR REPLACE TRIGGER {prefix}_{CONFIGURATION} AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {prefix}_notify('{CONFIGURATION}')"
        for table in CONFIGURATION_TABLES
    ]
    # The timers ask for the next tombstone after each deletion.
    made.append(f"CREATE INDEX IF NOT EXISTS {prefix}_tombstone ON replicas (tombstone) WHERE tombstone IS NOT NULL")
    return made


class Listener:
    """A thread that hands each topic to a function, and reconnects when the database has gone.

    Args:
        heard: called with a topic, in the listener's thread.
        connected: called after each connection: what was notified meanwhile is lost, so everything may have changed.
    """

    def __init__(self, heard: Callable[[str], None], connected: Callable[[], None]) -> None:
        self._heard = heard
        self._connected = connected
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)
        self.error: str | None = "not connected yet"
        """Why it does not hear just now."""

    def start(self) -> None:
        """Connect, in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; it does within a few seconds."""
        self._stop.set()

    def _run(self) -> None:
        wait = RECONNECT_S[0]
        while not self._stop.is_set():
            try:
                with _connect() as connection:
                    connection.execute(f"LISTEN {CHANNEL}")
                    self.error, wait = None, RECONNECT_S[0]
                    self._connected()
                    self._listen(connection)
            except psycopg.Error as error:
                self.error = str(error).strip() or type(error).__name__
                _log.warning("the database does not notify, next try in %.1f s: %s", wait, self.error)
                self._stop.wait(wait)
                wait = min(2 * wait, RECONNECT_S[1])

    def _listen(self, connection: psycopg.Connection[Any]) -> None:
        while not self._stop.is_set():
            for notification in connection.notifies(timeout=CHECK_S, stop_after=1):
                self._heard(notification.payload)


def _connect() -> psycopg.Connection[Any]:
    engine = get_engine()
    arguments, options = engine.dialect.create_connect_args(engine.url)
    return psycopg.connect(*arguments, **options, autocommit=True, application_name="boathouse-listener")
