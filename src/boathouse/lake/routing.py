"""In which order a reader tries the places that have a file: the nearest cache layer, then the replicas.

Near is, for a reader at a site: the cache of its machine, its site's, storage of its own site, the regions' caches
behind its site's, then storage elsewhere. Rucio's own sorting of replicas does not serve here: it places readers by the
geography of their public addresses, and knows of no caches (``docs/decisions/0009-chained-caches.md``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from urllib.parse import urlsplit

from boathouse.plan.model import CacheEndpoint, Endpoints


class Distance(IntEnum):
    """How far a way to a file is from its reader, the nearest first."""

    node = 0
    site = 1
    own_storage = 2
    way_out = 3
    """A cache of the own site for which the file would come from elsewhere, although the site has it."""
    own_region = 4
    """A region's cache that one of the own site reads from."""
    other_region = 5
    storage = 6
    other_site = 7
    """Another site's cache: it may have kept what has been lost since."""


class Router:
    """Ways to files for the readers of one site."""

    def __init__(self, endpoints: Endpoints, site: str | None) -> None:
        """Make a router.

        Args:
            endpoints: caches and storage elements.
            site: the readers' site; without it, every cache counts as one of theirs.
        """
        seen = endpoints.seen_from(site)
        self._site = site
        self._moved = {
            urlsplit(own).netloc: urlsplit(far).netloc
            for one, other in zip(endpoints.storage, seen.storage, strict=True)
            for own, far in ((one.https, other.https), (one.root, other.root))
        }
        self._site_of = {storage.rse: storage.site for storage in endpoints.storage}
        own = [cache for cache in endpoints.caches if site in (None, cache.site)]
        behind = {cache.name: _behind(cache, endpoints.caches) for cache in endpoints.caches}
        used = {each.name for cache in own for each in behind[cache.name]}
        self._caches = [
            _Way(
                cache,
                distance,
                leaves=any(each.site != site for each in behind[cache.name]),
                elements=_elements(cache, endpoints),
            )
            for cache in sorted(seen.caches, key=lambda each: each.name)
            if (distance := _distance(cache, site, used)) is not None
        ]

    def ways(self, replicas: Mapping[str, str], name: str) -> tuple[str, ...]:
        """All URLs by which a reader may get a file, best first.

        Args:
            replicas: RSE by URL of each replica, as the catalogue names it; those of one RSE in the order of the
                priorities of their protocols.
            name: the file's. Replicas that are equally far are ordered by it: all readers take the same one, which
                caches then keep once, and files are spread over elements.
        """
        here = {rse for rse in replicas.values() if self._site is not None and self._site_of.get(rse) == self._site}
        orders: dict[str, list[str]] = {}
        for url, rse in replicas.items():
            orders.setdefault(rse, []).append(url)
        found: list[tuple[tuple[int, str, bool, bytes, int], str]] = []
        for url, rse in replicas.items():
            order = _order(orders[rse])
            away = rse not in here
            weight = hashlib.blake2b(f"{name} {rse}".encode(), digest_size=8).digest()
            direct = Distance.storage if away else Distance.own_storage
            found.append(((direct, "", away, weight, order(url)), self._seen(url)))
            for way in self._caches:
                distance = way.distance_with(away=away, local=bool(here))
                found += [((distance, way.cache.name, away, weight, order(each)), each) for each in way.through(url)]
        return tuple(url for _, url in sorted(found))

    def _seen(self, url: str) -> str:
        """A replica's URL as its reader sees the element; those of strangers stay as they are."""
        parts = urlsplit(url)
        return parts._replace(netloc=self._moved.get(parts.netloc, parts.netloc)).geturl()


class _Way:
    """A cache as the readers of a site see it."""

    def __init__(self, cache: CacheEndpoint, distance: Distance, *, leaves: bool, elements: Mapping[str, str]) -> None:
        self.cache = cache
        self._distance = distance
        self._leaves = leaves
        self._elements = elements

    def distance_with(self, *, away: bool, local: bool) -> Distance:
        """How far it is for a replica, which is ``away`` from the readers' site, when there is another that is not."""
        out = local and self._distance < Distance.own_storage and (away or self._leaves)
        return Distance.way_out if out else self._distance

    def through(self, url: str) -> list[str]:
        """URLs by which it gives a replica; none if it does not serve that element, or not that directory of it."""
        parts = urlsplit(url)
        if parts.scheme != "root" or parts.netloc not in self._elements or not self._gives(parts.path):
            return []
        rest = f"//roots://{self._elements[parts.netloc]}{parts.path}"
        return [own + rest for own in (self.cache.root, self.cache.https) if urlsplit(own).scheme in self.cache.schemes]

    def _gives(self, path: str) -> bool:
        paths = self.cache.paths
        return not paths or any(path.startswith(f"/{each}/") for each in paths)


def through_cache(cache: CacheEndpoint, urls: Sequence[str], endpoints: Endpoints) -> list[str]:
    """URLs by which a cache gives the same file; none if it does not serve those storage elements.

    The cache is a forwarding proxy: the element's URL follows the cache's own, with the host by which the cache knows
    the element (``docs/decisions/0003-cache-routing.md``).
    """
    way = _Way(cache, Distance.site, leaves=False, elements=_elements(cache, endpoints))
    return sorted((each for url in urls for each in way.through(url)), key=_order(urls))


def _elements(cache: CacheEndpoint, endpoints: Endpoints) -> dict[str, str]:
    """Hosts of elements, as their own URLs have them and as a path through the cache does."""
    return {
        urlsplit(storage.root).netloc: cache.origins[storage.rse]
        for storage in endpoints.storage
        if storage.rse in cache.origins
    }


def _distance(cache: CacheEndpoint, site: str | None, used: Iterable[str]) -> Distance | None:
    """How far a cache is from the readers of a site; None if they cannot use it."""
    if site in (None, cache.site):
        return {"node": Distance.node, "site": Distance.site, "region": Distance.own_region}[cache.level]
    region = Distance.own_region if cache.name in used else Distance.other_region
    return {"node": None, "site": Distance.other_site, "region": region}[cache.level]


def _behind(cache: CacheEndpoint, caches: Iterable[CacheEndpoint]) -> list[CacheEndpoint]:
    """The caches that a cache reads through."""
    by_name = {each.name: each for each in caches}
    found: list[CacheEndpoint] = []
    while (parent := by_name.get(cache.parent)) is not None and parent not in found:
        found.append(parent)
        cache = parent
    return found


def _order(urls: Iterable[str]) -> Callable[[str], int]:
    """Where a URL stands by its protocol, in the order in which URLs name protocols; others come last."""
    schemes = list(dict.fromkeys(urlsplit(url).scheme for url in urls))
    return lambda url: (*schemes, urlsplit(url).scheme).index(urlsplit(url).scheme)
