"""Connections to PostgreSQL: the engine, bringing the tables up to date, one transaction a request."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError, OperationalError

from boathouse.apps.tokens.settings import Settings
from boathouse.errors import ServiceError

HEAD = "0002"
"""The version of the tables that this code works with; a test compares it with the migrations."""

_MIGRATION_LOCK = 0x626F6174
_PATIENCE_S = 20.0

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
    deadline = time.monotonic() + _PATIENCE_S
    pause_s = 0.05
    while True:
        try:
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except OperationalError as error:
            if time.monotonic() > deadline:
                raise ServiceError(
                    "the issuer's database does not answer",
                    got=str(error.orig).strip(),
                    where=engine.url.render_as_string(hide_password=True),
                ) from error
            time.sleep(pause_s)
            pause_s = min(1.0, pause_s * 2)
        else:
            return engine


def migrate(engine: Engine) -> None:
    """Bring the tables to :data:`HEAD`; does nothing if they are there. Several processes may call it at once.

    Raises:
        ServiceError: the database belongs to a newer Boathouse.
    """
    with engine.connect() as connection:
        if _version(connection) == HEAD:
            return
    # Imported here because it costs a fifth of a start that needs none of it.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise ServiceError(
                "the issuer's database has an unknown version",
                expected=HEAD,
                got=str(_version(connection)),
                remedy="run the Boathouse that wrote it, or a newer one",
            ) from error


def _version(connection: Connection) -> str | None:
    if connection.scalar(text("SELECT to_regclass('alembic_version')")) is None:
        return None
    version = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return str(version) if version else None


def transaction(engine: Engine, work: Callable[[Connection], T]) -> T:
    """Run ``work`` in one transaction, and once more if the server had dropped the connection before its end.

    The first attempt left nothing behind then: it was never committed.
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
