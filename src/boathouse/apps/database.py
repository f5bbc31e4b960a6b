"""What each daemon does with its database before it serves: wait for it, and bring its tables up to date."""

from __future__ import annotations

import time
from pathlib import Path

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from boathouse.errors import ServiceError

_MIGRATION_LOCK = 0x626F6174
_PATIENCE_S = 20.0


def answering(engine: Engine, owner: str) -> Engine:
    """The engine, once its database answers; waits a while for a server that is just starting.

    Args:
        engine: of the daemon.
        owner: whose database it is, for the error.

    Raises:
        ServiceError: it does not answer.
    """
    deadline = time.monotonic() + _PATIENCE_S
    pause_s = 0.05
    while True:
        try:
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except OperationalError as error:
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"the {owner}'s database does not answer",
                    got=str(error.orig).strip(),
                    where=engine.url.render_as_string(hide_password=True),
                ) from error
            time.sleep(pause_s)
            pause_s = min(1.0, pause_s * 2)
        else:
            return engine


def upgrade(engine: Engine, owner: str, *, migrations: Path, head: str) -> None:
    """Bring the tables to a version; does nothing if they are there. Several processes may call it at once.

    Args:
        engine: of the daemon.
        owner: whose database it is, for the error.
        migrations: directory of Alembic's scripts, which take the connection from ``config.attributes``.
        head: the newest of them.

    Raises:
        ServiceError: the database belongs to a newer Boathouse.
    """
    with engine.connect() as connection:
        if _version(connection) == head:
            return
    # Imported here because it costs a fifth of a start that needs none of it.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise ServiceError(
                f"the {owner}'s database has an unknown version",
                expected=head,
                got=str(_version(connection)),
                remedy="run the Boathouse that wrote it, or a newer one",
            ) from error


def _version(connection: Connection) -> str | None:
    if connection.scalar(text("SELECT to_regclass('alembic_version')")) is None:
        return None
    version = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return str(version) if version else None
