"""The database: the engine, and the schema brought up to date."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry

HEAD = "0001"
"""The newest migration; a test keeps it true."""
_MIGRATION_LOCK = 0x626F6174
_POOL = 6
_TRUSTED_S = 1.0


def engine(url: str) -> Engine:
    """An engine whose connections notice that the server was restarted."""
    made = create_engine(
        url,
        pool_size=_POOL,
        max_overflow=_POOL,
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

    return made


def reading(target: Engine) -> Engine:
    """The same engine for single questions, which need no transaction around them."""
    return target.execution_options(isolation_level="AUTOCOMMIT")


def migrate(target: Engine) -> None:
    """Bring the schema to :data:`HEAD`; workers that start together wait for one another.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the database cannot be reached or changed.
    """
    with target.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        try:
            if (
                inspect(connection).has_table("alembic_version")
                and connection.scalar(text("SELECT version_num FROM alembic_version")) == HEAD
            ):
                return
            connection.commit()
            _upgrade(target)
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": _MIGRATION_LOCK})
            connection.commit()


def _upgrade(target: Engine) -> None:
    # Imported here because it costs a quarter of the service's start, and is needed once in its life.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    with target.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
