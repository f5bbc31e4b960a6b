"""Connections to PostgreSQL: the engine, bringing the tables up to date, one transaction a request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError

from boathouse.apps.database import answering, upgrade
from boathouse.apps.tokens.settings import Settings

HEAD = "0008"
"""The version of the tables that this code works with; a test compares it with the migrations."""

_OWNER = "issuer"

T = TypeVar("T")


def connect(settings: Settings) -> Engine:
    """An engine whose database answers; waits a while for a server that is just starting.

    Raises:
        ServiceError: it does not answer.
    """
    engine = create_engine(
        settings.database_url.get_secret_value(),
        pool_size=settings.threads,
        max_overflow=4,
        pool_recycle=1800,
        connect_args={"application_name": "boathouse-tokens", "connect_timeout": 5},
    )
    return answering(engine, _OWNER)


def migrate(engine: Engine) -> None:
    """Bring the tables to :data:`HEAD`; does nothing if they are there. Several processes may call it at once.

    Raises:
        ServiceError: the database belongs to a newer Boathouse.
    """
    upgrade(engine, _OWNER, migrations=Path(__file__).with_name("migrations"), head=HEAD)


def transaction(engine: Engine, work: Callable[[Connection], T]) -> T:
    """Run ``work`` in one transaction, and once more if the server had dropped the connection before its end.

    The first attempt left nothing behind then, unless it was cut off in its commit. On an engine where each statement
    is a transaction, statements before the fault have been done and are done again: such work must bear that.
    """
    try:
        return _once(engine, work)
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        return _once(engine, work)


def _once(engine: Engine, work: Callable[[Connection], T]) -> T:
    with engine.begin() as connection:
        return work(connection)
