"""From a DID to URLs that open: the nearest cache first, then the replicas, all with the reader's own token."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from boathouse.errors import NotFoundError
from boathouse.lake.catalogue import Catalogue, Replicas
from boathouse.lake.names import Did
from boathouse.plan.model import CacheEndpoint, Endpoints

Prefer = Literal["cache", "replica"]

_LEVELS = ("node", "site", "region")


@dataclass(frozen=True)
class LakeFile:
    """A file of the lake and where it can be read."""

    did: Did
    size_bytes: int
    adler32: str
    urls: tuple[str, ...]
    """Best first."""
    rses: tuple[str, ...] = ()
    """RSEs that hold it now."""


def files(
    catalogue: Catalogue,
    endpoints: Endpoints,
    dids: Iterable[Did],
    *,
    prefer: Prefer = "cache",
    site: str | None = None,
) -> tuple[LakeFile, ...]:
    """All files at or below the DIDs, sorted by DID.

    Args:
        catalogue: asked for replicas that can be read now.
        endpoints: tells of caches.
        dids: files, datasets or containers.
        prefer: ``cache`` puts the caches' URLs before those of the replicas; ``replica`` leaves caches out.
        site: the reader's site; its caches come first, and all URLs are as they are seen from there.

    Raises:
        NotFoundError: a DID does not exist, or a file has no replica that can be read now.
    """
    wanted = list(dids)
    found: dict[Did, LakeFile] = {}
    for replicas in catalogue.replicas(wanted, schemes=("root", "https", "davs")):
        found[replicas.did] = _file(replicas, endpoints, prefer, site)
    if not found:
        for did in wanted:
            catalogue.did(did)
    lost = [file.did for file in found.values() if not file.urls]
    if lost:
        raise NotFoundError(
            f"{len(lost)} of {len(found)} files have no replica that can be read now",
            got=", ".join(str(did) for did in lost[:5]) + (" …" if len(lost) > 5 else ""),
            remedy="boathouse ls --replicas DID, boathouse rule list DID",
        )
    return tuple(found[did] for did in sorted(found))


def _file(replicas: Replicas, endpoints: Endpoints, prefer: Prefer, site: str | None) -> LakeFile:
    direct = [absolute(url) for url in replicas.pfns]
    direct.sort(key=lambda url: not url.startswith("root:"))
    seen = endpoints.seen_from(site)
    through: list[str] = []
    if prefer == "cache":
        for cache in nearest(seen.caches, site):
            through += through_cache(cache, direct, endpoints)
    direct = [_moved(url, endpoints, seen) for url in direct]
    return LakeFile(
        did=replicas.did,
        size_bytes=replicas.size_bytes,
        adler32=replicas.adler32,
        urls=tuple(dict.fromkeys(through + direct)),
        rses=tuple(sorted(rse for rse, state in replicas.states.items() if state == "AVAILABLE"))
        or tuple(sorted(set(replicas.pfns.values()))),
    )


def nearest(caches: Iterable[CacheEndpoint], site: str | None) -> list[CacheEndpoint]:
    """Caches in the order in which a reader of a site should try them."""
    return sorted(
        caches, key=lambda cache: (site is not None and cache.site != site, _LEVELS.index(cache.level), cache.name)
    )


def through_cache(cache: CacheEndpoint, urls: Iterable[str], endpoints: Endpoints) -> list[str]:
    """URLs by which a cache gives the same file; none if it does not serve those storage elements.

    The cache is a forwarding proxy: the element's URL follows the cache's own, with the host by which the cache knows
    the element (``docs/decisions/0003-cache-routing.md``).
    """
    origins = {
        urlsplit(storage.root).netloc: cache.origins[storage.rse]
        for storage in endpoints.storage
        if storage.rse in cache.origins
    }
    found = []
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme == "root" and parts.netloc in origins:
            found += [f"{own}//roots://{origins[parts.netloc]}{parts.path}" for own in (cache.root, cache.https)]
    return sorted(found, key=lambda url: not url.startswith("root:"))


def _moved(url: str, endpoints: Endpoints, seen: Endpoints) -> str:
    """A replica's URL as its reader sees the element; those of strangers stay as they are."""
    parts = urlsplit(url)
    for near, far in zip(endpoints.storage, seen.storage, strict=True):
        for base, new in ((near.https, far.https), (near.root, far.root)):
            if parts.netloc == urlsplit(base).netloc:
                return parts._replace(netloc=urlsplit(new).netloc).geturl()
    return url


def absolute(url: str) -> str:
    """A replica's URL as clients open it: davs is https, and the path of a root URL begins with two slashes."""
    parts = urlsplit(url)
    path = "/" + parts.path.lstrip("/")
    if parts.scheme in ("root", "roots", "xroot"):
        return f"root://{parts.netloc}/{_single(path)}"
    scheme = "https" if parts.scheme in ("davs", "https") else parts.scheme
    return f"{scheme}://{parts.netloc}{path}"


def _single(path: str) -> str:
    while "//" in path:
        path = path.replace("//", "/")
    return path
