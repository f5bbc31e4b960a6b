"""The database: the engine, and the schema brought up to date."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry

from boathouse.apps.database import answering, upgrade

HEAD = "0006"
"""The newest migration; a test keeps it true."""
_OWNER = "transfer service"
_POOL = 6
_TRUSTED_S = 1.0


def connect(url: str) -> Engine:
    """An engine whose database answers, and whose connections notice that the server was restarted.

    Raises:
        ServiceError: the database does not answer.
    """
    made = create_engine(
        url,
        pool_size=_POOL,
        max_overflow=_POOL,
        # The connection used last has its statements prepared, and its server process has its tables at hand.
        pool_use_lifo=True,
        connect_args={"connect_timeout": 5, "options": "-c timezone=UTC -c lock_timeout=20s"},
    )

    @event.listens_for(made, "checkin")
    def rest(_: object, entry: ConnectionPoolEntry) -> None:
        entry.info["rests_since"] = time.monotonic()

    @event.listens_for(made, "checkout")
    def wake(connection: Any, entry: ConnectionPoolEntry, _: object) -> None:
        # A ping before every use would double the round trips of a busy service.
        if time.monotonic() - entry.info.get("rests_since", time.monotonic()) < _TRUSTED_S:
            return
        try:
            connection.execute("SELECT 1")
            connection.rollback()
        except connection.Error as error:
            raise DisconnectionError from error

    return answering(made, _OWNER)


def reading(target: Engine) -> Engine:
    """The same engine for single questions, which need no transaction around them."""
    return target.execution_options(isolation_level="AUTOCOMMIT")


def migrate(target: Engine) -> None:
    """Bring the schema to :data:`HEAD`; workers that start together wait for one another.

    Raises:
        ServiceError: the database belongs to a newer Boathouse.
    """
    upgrade(target, _OWNER, migrations=Path(__file__).with_name("migrations"), head=HEAD)
