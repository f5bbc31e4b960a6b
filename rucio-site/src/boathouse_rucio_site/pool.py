"""Connections that the database server has closed are noticed before they are used."""

from __future__ import annotations

import select
from typing import Any

from rucio.db.sqla.session import get_engine
from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError


def watch() -> None:
    """Have the pool look at each connection before it gives it out; a dead one is replaced.

    An idle connection has nothing to read but the news of its end, so a look at the socket tells, without asking the
    server. After a restart of the database no request fails.
    """
    event.listen(get_engine(), "checkout", _refuse_dead)


def _refuse_dead(connection: Any, _record: object, _proxy: object) -> None:
    if connection.closed or select.select([connection.fileno()], [], [], 0)[0]:
        raise DisconnectionError
