"""Which groups a token names, and in which order (WLCG profile 3.1)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from boathouse.wlcg.scopes import GROUPS, Scope


def select(scopes: Iterable[Scope], memberships: Sequence[str], optional: Collection[str]) -> tuple[str, ...]:
    """Groups for the claim ``wlcg.groups``, in the order in which they were asked for.

    The plain scope stands for all default groups and is added at the end when only named groups are asked for;
    nothing is given when no group scope is asked for.

    Args:
        scopes: the granted scopes in order.
        memberships: groups of the person, in the order of the VO.
        optional: groups that are given only when they are asked for by name.
    """
    asked = [scope.path for scope in scopes if scope.name == GROUPS]
    if not asked:
        return ()
    if None not in asked:
        asked.append(None)
    default = [group for group in memberships if group not in optional]
    result: dict[str, None] = {}
    for group in asked:
        if group is None:
            result.update(dict.fromkeys(default))
        elif group in memberships:
            result[group] = None
    return tuple(result)
