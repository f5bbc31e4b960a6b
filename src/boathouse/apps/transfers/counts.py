"""How many files wait, are copied, or left something to be removed: as exact as the queue, whatever its length.

Triggers of the table ``files`` write each statement's changes as rows of their own, so that no two transactions wait
for one counter. The sum is the count; :func:`merge` keeps it short.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, text

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
    SELECT coalesce(sum(files), 0)::bigint, coalesce(sum(files) FILTER (WHERE vo = :vo), 0)::bigint
    FROM file_counts WHERE state <> 'UNCLEAN'""")
_GROUPS = text("""
    SELECT activity, source_host, dest_host FROM file_counts WHERE vo = :vo AND state <> 'UNCLEAN'
    GROUP BY activity, source_host, dest_host HAVING sum(files) > 0""")
_MERGE = text("""
    WITH gone AS (DELETE FROM file_counts RETURNING *)
    INSERT INTO file_counts (vo, activity, source_host, dest_host, state, files)
    SELECT vo, activity, source_host, dest_host, state, sum(files) FROM gone
    GROUP BY vo, activity, source_host, dest_host, state HAVING sum(files) <> 0""")


def by_link(connection: Connection, vo: str | None = None) -> list[dict[str, Any]]:
    """Files by link and state: SUBMITTED, ACTIVE, or UNCLEAN, whose copy may have left something; of one VO, or all."""
    return [dict(row) for row in connection.execute(_BY_LINK, {"vo": vo}).mappings()]


def by_activity(connection: Connection, vo: str | None = None) -> list[dict[str, Any]]:
    """Files that wait or are copied, by VO, activity and state; of one VO, or all."""
    return [dict(row) for row in connection.execute(_BY_ACTIVITY, {"vo": vo}).mappings()]


def waiting(connection: Connection, vo: str) -> tuple[int, int]:
    """How many files have not ended: of all VOs, and of this one."""
    total, own = connection.execute(_WAITING, {"vo": vo}).one()
    return int(total), int(own)


def groups(connection: Connection, vo: str) -> frozenset[tuple[str, str, str]]:
    """What the files of a VO wait for: activity, and hosts of source and destination."""
    return frozenset((row[0], row[1], row[2]) for row in connection.execute(_GROUPS, {"vo": vo}))


def merge(connection: Connection) -> None:
    """Replace changes by their sums. Any worker may, at any time: each row is taken by one of them only."""
    connection.execute(_MERGE)
