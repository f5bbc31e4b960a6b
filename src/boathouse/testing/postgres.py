"""The databases of a facility's PostgreSQL, as its administrator sees them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import sql

from boathouse.testing.units import Units


class Databases:
    """What a test asks of the running unit ``postgres``."""

    def __init__(self, units: Units) -> None:
        self._units = units
        self._socket = units.context.run("postgres")

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        """A connection in which every statement is a transaction."""
        password = self._units.values["postgres-postgres"]
        return psycopg.connect(
            host=str(self._socket), dbname=database, user="postgres", password=password, autocommit=True
        )

    def rows(self, database: str, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """What a statement gives; nothing if it gives no rows."""
        with self.connect(database) as connection:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def make(self, name: str, owner: str) -> str:
        """Make an empty database for a service's role; its SQLAlchemy URL for that role."""
        with self.connect() as connection:
            command = sql.SQL("CREATE DATABASE {} OWNER {}")
            connection.execute(command.format(sql.Identifier(name), sql.Identifier(owner)))
        password = quote(self._units.values[f"postgres-{owner}"], safe="")
        return f"postgresql+psycopg://{owner}:{password}@/{name}?host={self._socket}"
