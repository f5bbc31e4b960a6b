"""Where the files of a Rucio scope lie on storage: what the paths in token scopes are made of."""

from __future__ import annotations

_FOLDED = ("user", "group")


def scope_directories(scope: str) -> tuple[str, ...]:
    """Directories below an RSE's prefix where a Rucio scope's files may lie, without slashes at their ends.

    Rucio's path algorithm makes directories of the dots in names that begin with ``user`` or ``group``:
    ``user.alice`` lies in ``user/alice``, which comes first. Files with registered paths lie where they were put, by
    the scope's name.
    """
    folded = scope.replace(".", "/") if scope.startswith(_FOLDED) else scope
    return (folded,) if folded == scope else (folded, scope)
