"""How many files may start on which link: a pure decision, taken anew at every claim."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from boathouse.apps.transfers.settings import Limits

Link = tuple[str, str]
"""Source host and destination host."""


def slots(
    links: Iterable[Link], active: Mapping[Link, int], unreachable: Mapping[str, bool], *, limits: Limits, free: int
) -> dict[Link, int]:
    """Free slots of each link that has files waiting.

    They are dealt round by round, the least busy link first, so that no link starves the others.

    Args:
        links: links with waiting files.
        active: copies that run now, over all workers.
        unreachable: hosts that could not be reached, and whether their pause goes on. When it is over, one copy at
            a time may try whether the host is back.
        limits: the limits.
        free: copies that this worker can still start.

    Returns:
        Slots by link; links without one are left out.
    """
    out: Counter[str] = Counter()
    into: Counter[str] = Counter()
    for (source, destination), count in active.items():
        out[source] += count
        into[destination] += count

    def has_room(host: str, load: int) -> bool:
        if host in unreachable:
            return not unreachable[host] and load == 0
        return load < limits.per_storage

    given: Counter[Link] = Counter()
    waiting = sorted(set(links), key=lambda link: (active.get(link, 0), link))
    while free > 0 and waiting:
        still_open = []
        for link in waiting:
            source, destination = link
            on_link = active.get(link, 0) + given[link]
            if (
                free > 0
                and on_link < limits.per_link
                and has_room(source, out[source])
                and has_room(destination, into[destination])
            ):
                given[link] += 1
                out[source] += 1
                into[destination] += 1
                free -= 1
                still_open.append(link)
        waiting = still_open
    return dict(given)
