"""How many files wait, are copied, or left something to be removed: as exact as the queue, whatever its length.

Triggers of the table ``files`` write each statement's changes as rows of their own, so that no two transactions wait
for one counter. The sum is the count; :func:`merge` keeps it short.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, text

WaitsFor = tuple[str, str, str]
"""Activity, and hosts of source and destination."""

_BY_LINK = text("""
    SELECT source_host, dest_host, state AS file_state, sum(files)::bigint AS count FROM file_counts
    WHERE CAST(:vo AS text) IS NULL OR vo = :vo
    GROUP BY source_host, dest_host, state HAVING sum(files) > 0
    ORDER BY source_host, dest_host, state""")
_BY_ACTIVITY = text("""
    SELECT vo AS vo_name, activity, state AS file_state, sum(files)::bigint AS count FROM file_counts
    WHERE state <> 'UNCLEAN' AND (CAST(:vo AS text) IS NULL OR vo = :vo)
    GROUP BY vo, activity, state HAVING sum(files) > 0
    ORDER BY vo, activity, state""")
_WAITING = text("""
    SELECT coalesce(sum(files), 0)::bigint, coalesce(sum(files) FILTER (WHERE vo = :vo), 0)::bigint,
      coalesce(sum(files) FILTER (WHERE vo = :vo AND owner = :owner), 0)::bigint
    FROM file_counts WHERE state <> 'UNCLEAN'""")
_GROUPS = text("""
    SELECT activity, source_host, dest_host, coalesce(sum(files) FILTER (WHERE owner = :owner), 0) > 0 AS own
    FROM file_counts WHERE vo = :vo AND state <> 'UNCLEAN'
    GROUP BY activity, source_host, dest_host HAVING sum(files) > 0""")
_MERGE = text("""
    WITH gone AS (DELETE FROM file_counts RETURNING *)
    INSERT INTO file_counts (owner, vo, activity, source_host, dest_host, state, files)
    SELECT owner, vo, activity, source_host, dest_host, state, sum(files) FROM gone
    GROUP BY owner, vo, activity, source_host, dest_host, state HAVING sum(files) <> 0""")


def by_link(connection: Connection, vo: str | None = None) -> list[dict[str, Any]]:
    """Files by link and state: SUBMITTED, ACTIVE, or UNCLEAN, whose copy may have left something; of one VO, or all."""
    return [dict(row) for row in connection.execute(_BY_LINK, {"vo": vo}).mappings()]


def by_activity(connection: Connection, vo: str | None = None) -> list[dict[str, Any]]:
    """Files that wait or are copied, by VO, activity and state; of one VO, or all."""
    return [dict(row) for row in connection.execute(_BY_ACTIVITY, {"vo": vo}).mappings()]


def waiting(connection: Connection, vo: str, owner: str) -> tuple[int, int, int]:
    """How many files have not ended: of all VOs, of this one, and of this owner in it."""
    total, of_vo, own = connection.execute(_WAITING, {"vo": vo, "owner": owner}).one()
    return int(total), int(of_vo), int(own)


def groups(connection: Connection, vo: str, owner: str) -> tuple[frozenset[WaitsFor], frozenset[WaitsFor]]:
    """What the files of a VO wait for, and those of this owner in it."""
    rows = connection.execute(_GROUPS, {"vo": vo, "owner": owner}).all()
    of_vo = frozenset((row.activity, row.source_host, row.dest_host) for row in rows)
    return of_vo, frozenset((row.activity, row.source_host, row.dest_host) for row in rows if row.own)


def merge(connection: Connection) -> None:
    """Replace changes by their sums. Any worker may, at any time: each row is taken by one of them only."""
    connection.execute(_MERGE)
