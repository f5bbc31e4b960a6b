"""Rucio's database: made when it is empty, refused when it belongs to another version of Rucio."""

from __future__ import annotations

import logging
import threading
import time
from importlib import metadata
from typing import Any

from rucio import alembicrevision
from rucio.common.constants import DEFAULT_VO
from rucio.common.types import InternalAccount
from rucio.db.sqla import models
from rucio.db.sqla.constants import AccountStatus, AccountType
from rucio.db.sqla.session import get_engine, get_session
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, OperationalError

from boathouse_rucio_site import RUCIO_VERSION, events
from boathouse_rucio_site.errors import SiteError

_log = logging.getLogger(__name__)

WAIT_S = 0.1
"""Between two looks at a database that is not ready."""

PATIENCE_S = 150.0
"""How long a server waits for its database to take connections, before it ends and says why."""

_STATE = """CREATE TABLE IF NOT EXISTS boathouse_state (
    id integer PRIMARY KEY CHECK (id = 1),
    rucio_version text NOT NULL,
    site_version text NOT NULL,
    lake text NOT NULL DEFAULT '{}',
    changed_at timestamptz NOT NULL DEFAULT now())"""

# Two bootstraps at once would make everything twice.
_LOCK = "SELECT pg_advisory_xact_lock(7262391)"


def ensure() -> bool:
    """Make tables, triggers, the VO and the root account where they are missing.

    Returns:
        Whether the database was empty.

    Raises:
        SiteError: the database was made by another version of Rucio.
    """
    engine = get_engine()
    with engine.begin() as connection:
        connection.execute(text(_LOCK))
        found = _revision(connection)
        if found is not None and found != alembicrevision.ALEMBIC_REVISION:
            made_by = _recorded_version(connection)
            raise SiteError(
                f"the database is of Rucio {made_by or 'an unknown version'} (schema {found}), this is Rucio "
                f"{RUCIO_VERSION} (schema {alembicrevision.ALEMBIC_REVISION}). Start the version of Boathouse that "
                "made it, or move its data with that version's export"
            )
        new = found is None
        if new:
            _log.info("the database is empty: making the tables of Rucio %s", RUCIO_VERSION)
            # In one transaction with all that follows: a bootstrap that is cut short leaves nothing behind.
            models.BASE.metadata.create_all(connection)
            connection.execute(
                text("INSERT INTO alembic_version (version_num) VALUES (:revision)"),
                {"revision": alembicrevision.ALEMBIC_REVISION},
            )
        connection.execute(text(_STATE))
        connection.execute(
            text(
                "INSERT INTO boathouse_state (id, rucio_version, site_version) VALUES (1, :rucio, :site) "
                "ON CONFLICT (id) DO UPDATE SET rucio_version = :rucio, site_version = :site"
            ),
            {"rucio": RUCIO_VERSION, "site": metadata.version("boathouse-rucio-site")},
        )
        for statement in events.statements():
            connection.execute(text(statement))
    _ensure_root()
    return new


def wait_until_reachable() -> None:
    """Wait until the database server takes connections: a restart of both does not depend on their order.

    Raises:
        SiteError: it takes none for :data:`PATIENCE_S`.
    """
    deadline, said = time.monotonic() + PATIENCE_S, ""
    while True:
        try:
            get_engine().connect().close()
        except OperationalError as error:
            reason = str(error.orig)
            if time.monotonic() > deadline:
                raise SiteError(f"the database takes no connection: {reason}") from error
            if reason != said:
                _log.warning("waiting for the database: %s", reason)
                said = reason
            time.sleep(WAIT_S)
        else:
            return


def wait_until_made(stop: threading.Event) -> bool:
    """Wait until a bootstrap of this version has made the database ready.

    So the daemons can be started, which takes a while, before it has.

    Returns:
        Whether it is ready; if not, ``stop`` was set.
    """
    waited = False
    while not stop.is_set():
        try:
            with get_engine().connect() as connection:
                if _recorded_version(connection) == RUCIO_VERSION:
                    return True
            reason = "it is not made yet"
        except DBAPIError as error:
            reason = str(error.orig)
        if not waited:
            _log.info("waiting for the database: %s", reason)
            waited = True
        stop.wait(WAIT_S)
    return False


def applied_lake() -> str:
    """The description of the lake that was applied last, as JSON text; ``{}`` if none was."""
    with get_engine().connect() as connection:
        return str(connection.execute(text("SELECT lake FROM boathouse_state WHERE id = 1")).scalar_one())


def record_lake(document: str, *, session: Any) -> None:
    """Note what has been applied, in the transaction that applies it."""
    session.execute(
        text("UPDATE boathouse_state SET lake = :lake, changed_at = now() WHERE id = 1 AND lake <> :lake"),
        {"lake": document},
    )


def _revision(connection: Connection) -> str | None:
    present = connection.execute(text("SELECT to_regclass('alembic_version')")).scalar()
    if present is None:
        return None
    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if revision is None else str(revision)


def _recorded_version(connection: Connection) -> str | None:
    if connection.execute(text("SELECT to_regclass('boathouse_state')")).scalar() is None:
        return None
    return connection.execute(text("SELECT rucio_version FROM boathouse_state")).scalar()


def _ensure_root() -> None:
    """The VO and the root account, without the identities that Rucio's own set-up would give it."""
    session = get_session()()
    try:
        with session.begin():
            if session.get(models.VO, DEFAULT_VO) is None:
                session.add(models.VO(vo=DEFAULT_VO, description="Default base VO", email="N/A"))
            root = InternalAccount("root", vo=DEFAULT_VO)
            if session.get(models.Account, root) is None:
                session.add(models.Account(account=root, account_type=AccountType.SERVICE, status=AccountStatus.ACTIVE))
    finally:
        session.close()
