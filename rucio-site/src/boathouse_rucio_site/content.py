"""What a request reaches beyond the names in it: the content of collections, and registered paths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from rucio.db.sqla import models
from rucio.db.sqla.constants import DIDType
from sqlalchemy import and_, select, tuple_

from boathouse_rucio_site.paths import is_plain, scope_directories


def scopes_within(dids: Iterable[tuple[Any, str]], *, session: Any) -> set[Any]:
    """Scopes of all that collections hold, at any depth.

    Args:
        dids: internal scope and name each; files hold nothing.
        session: the database session.
    """
    held = models.DataIdentifierAssociation
    first = select(held.scope, held.name).where(tuple_(held.scope, held.name).in_(list(dids)))
    collections = first.cte("collections", recursive=True)
    # A union without duplicates: it ends where collections hold one another.
    deeper = select(held.child_scope, held.child_name).join(
        collections, and_(held.scope == collections.c.scope, held.name == collections.c.name)
    )
    collections = collections.union(deeper.where(held.child_type != DIDType.FILE))
    scopes = select(held.child_scope).join(
        collections, and_(held.scope == collections.c.scope, held.name == collections.c.name)
    )
    return set(session.execute(scopes.distinct()).scalars())


def misplaced(rse: str, files: Iterable[Mapping[str, Any]], *, session: Any) -> str | None:
    """The first registered path that lies outside of its file's scope, or ``None``.

    Rucio copies and deletes with rights of its own, so that a path is not to say more than the scope does.

    Args:
        rse: name of the RSE.
        files: ``scope`` (as clients write it) and, where one is registered, ``pfn``.
        session: the database session.
    """
    registered = [(str(file["scope"]), str(file["pfn"])) for file in files if "pfn" in file]
    if not registered:
        return None
    protocol = models.RSEProtocol
    statement = (
        select(protocol.scheme, protocol.prefix)
        .join(models.RSE, models.RSE.id == protocol.rse_id)
        .where(models.RSE.rse == rse, models.RSE.deleted.is_(False))
    )
    prefixes: dict[str, set[str]] = {}
    for scheme, prefix in session.execute(statement):
        prefixes.setdefault(scheme, set()).add("/" + f"{(prefix or '').strip('/')}/".lstrip("/"))
    return next((pfn for scope, pfn in registered if not _is_within(scope, pfn, prefixes)), None)


def _is_within(scope: str, pfn: str, prefixes: Mapping[str, set[str]]) -> bool:
    # Before it is parsed: urlsplit drops line breaks and tabs, and spaces at the ends.
    if not pfn.isprintable() or pfn != pfn.strip() or any(character in pfn for character in "%\\?#"):
        return False
    parts = urlsplit(pfn)
    # root://host:port//path: the second slash begins an absolute path.
    path = parts.path.removeprefix("/") if parts.scheme == "root" and parts.path.startswith("//") else parts.path
    directories = [
        f"{prefix}{directory}/" for prefix in prefixes.get(parts.scheme, ()) for directory in scope_directories(scope)
    ]
    return is_plain(path.removeprefix("/")) and path.startswith("/") and path.startswith(tuple(directories))
