"""From a DID to URLs that open: the nearest cache first, then the replicas, all with the reader's own token."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import urlsplit

from boathouse.errors import NotFoundError
from boathouse.lake.catalogue import Catalogue, Replicas
from boathouse.lake.names import Did
from boathouse.lake.routing import Router
from boathouse.plan.model import Endpoints

Prefer = Literal["cache", "replica"]


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
        prefer: ``cache`` lets readers go through caches; ``replica`` leaves caches out.
        site: the reader's site; from it follows the order (:mod:`boathouse.lake.routing`), and all URLs are as they are
            seen from there.

    Raises:
        NotFoundError: a DID does not exist, or a file has no replica that can be read now.
    """
    wanted = list(dids)
    router = Router(endpoints if prefer == "cache" else replace(endpoints, caches=()), site)
    found: dict[Did, LakeFile] = {}
    # Whoever reads through caches reads from inside the facility, and parts of files; the others fetch them.
    for replicas in catalogue.replicas(wanted, schemes=("root", "https", "davs"), lan=prefer == "cache"):
        found[replicas.did] = _file(replicas, router)
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


def _file(replicas: Replicas, router: Router) -> LakeFile:
    return LakeFile(
        did=replicas.did,
        size_bytes=replicas.size_bytes,
        adler32=replicas.adler32,
        urls=router.ways({absolute(url): rse for url, rse in replicas.pfns.items()}, str(replicas.did)),
        rses=tuple(sorted(rse for rse, state in replicas.states.items() if state == "AVAILABLE"))
        or tuple(sorted(set(replicas.pfns.values()))),
    )


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
