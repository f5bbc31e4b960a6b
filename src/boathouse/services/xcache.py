"""XCache: XRootD that keeps what passes through it, in front of several storage elements.

It works as a forwarding proxy: a reader names the element in the path, ``root://cache:port//roots://element:port//path``
(see ``docs/decisions/0003-cache-routing.md``). What is kept is named by the path alone, so that all replicas of a file
share it. Nobody gets anything here that their token does not open at the element; but a cache of a group gives what the
group may read (:mod:`boathouse.services.groupcache`).

A cache may also stand before a lake of somebody else's (:mod:`boathouse.services.federated`).

A cache may stand before another one: node, site, region (``docs/decisions/0009-chained-caches.md``). It then has that
one as its only origin and hands the path on as it is, so a file has the same path, and a token the same meaning, at
every layer. There what is kept is named by the whole path, with the element in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from boathouse.facility.model import Cache, CacheMode, Facility
from boathouse.plan.addresses import addresses
from boathouse.plan.model import CacheEndpoint, Certificate, File, PortRequest, Unit
from boathouse.plan.service import Context, Contribution, Service
from boathouse.services import federated, groupcache, xrootd

_PROXY = """\
{exports}
oss.localroot {data}
ofs.osslib libXrdPss.so
pss.cachelib libXrdPfc.so
{origin}
pfc.ram {memory}
pfc.blocksize {block_size}
pfc.prefetch {prefetch}
# How much of one read is fetched at a time: by itself XRootD has 512 KiB of it under way, or 2 MiB over https, and a
# stream over a distance waits for every block. What buffers hold beyond 256 MiB is given back every five minutes.
xrootd.async maxsegs 8 segsize 512k
xrd.buffers maxbsz 8m 256m 300s
# Of the file system; and of the files: purge down to, begin at, count as full. Once a minute, so no bound holds.
pfc.diskusage 0.97 0.98 files {purge_to} {purge_at} {size} purgeinterval 60s
pfc.cschk {page_checksums}
# Its errors name URLs with the reader's token in them, when a file cannot be kept.
pfc.trace none
# Beside a file X lies X.cinfo, which says what of it is there. Kept under that name, a file of somebody's own would be
# taken for this record, and X would be given with holes.
pfc.decisionlib libXrdBlacklistDecision.so {not_kept}
ofs.ckslib * libXrdPss.so
xrootd.chksum max 32 adler32
# What happened to each file, told within a second to the care of caches.
xrootd.mongstream pfc use flush 1s maxlen 32k send json dflthdr noident 127.0.0.1:{stream}
"""

# The care of caches may make this one forget files (see boathouse.apps.caches.evictor); nothing is read by these paths.
_CARE = """
[Issuer care]
issuer = {url}
base_path = {prefixes}
authorization_strategy = capability
"""

# Without the first four a read of something not kept hangs for minutes when its element is down.
_TIMEOUTS = {
    "XRD_CONNECTIONWINDOW": "5",
    "XRD_CONNECTIONRETRY": "1",
    "XRD_REQUESTTIMEOUT": "30",
    "XRD_STREAMERRORWINDOW": "5",
    # A connection keeps the token of its login, and is worth nothing when that has ended: idle ones go soon.
    "XRD_DATASERVERTTL": "20",
    "XRD_LOADBALANCERTTL": "20",
}

_PURGE_AT, _PURGE_TO = 0.95, 0.85

_RECORDS = "*.cinfo"
_DEEPEST = 150
"""Names in a path; those of the catalogue have fewer."""


CARE = "caches"
"""Name of the unit that cares for caches, and key of its port."""


def stream_key(cache: str) -> str:
    """Key of the port, on loopback, at which the care of caches hears of one."""
    return f"{cache}.stream"


def unit_name(cache: str) -> str:
    """Name of a cache's unit, certificate and directories."""
    return f"cache-{cache.lower()}"


def token_file(context: Context, cache: str) -> Path:
    """The token with which a cache reads; the keeper writes and renews it.

    It needs the scope :func:`token_scope` and, as audiences, :func:`upstream_audiences`. That of a cache before a
    federation is the federation's.
    """
    return context.run(unit_name(cache)) / "token"


def token_scope(context: Context, cache: str) -> str:
    """What the token of a cache opens: everything, or what the group may read whose cache it is."""
    return " ".join(f"storage.read:{path}" for path in _paths(context, context.facility.caches[cache]) or ("/",))


def upstream_audiences(context: Context, cache: str) -> tuple[str, ...]:
    """Audiences of what a cache reads from: its storage elements, or the one cache behind it."""
    parent = context.facility.parent_of(cache)
    behind = (parent,) if parent else context.facility.upstreams_of(cache)
    return tuple(context.addresses[f"{name}.root"] for name in behind)


def origins(context: Context, cache: str) -> dict[str, tuple[str, ...]]:
    """By RSE, each ``host:port`` that may stand for an element in the path of a request; the usual one comes first.

    They are what the last cache of the chain connects to, and the same at every layer of the chain.
    """
    last = context.facility.chain_of(cache)[-1]
    return {rse: _hosts(context, last, rse) for rse in context.facility.upstreams_of(cache)}


class Caches(Service):
    """The caches of all sites."""

    name: ClassVar[str] = "cache"

    def ports(self, facility: Facility) -> tuple[PortRequest, ...]:
        """An https and a root port for every cache, keyed ``<NAME>.https`` and ``<NAME>.root``.

        And those of their care: its own, and one for each cache, over which that tells what happened.
        """
        caches = tuple(facility.caches)
        return (
            *xrootd.port_requests(caches, addresses(facility)),
            *(PortRequest(stream_key(name), "127.0.0.1") for name in caches),
            *((PortRequest(CARE, facility.services.address),) if caches else ()),
        )

    def plan(self, context: Context) -> Contribution:
        """A unit, a certificate and an endpoint for every cache."""
        xrootd.require_version(context)
        caches = context.facility.caches
        return Contribution(
            units=tuple(self._unit(context, name, cache) for name, cache in caches.items()),
            certificates=tuple(
                Certificate(
                    unit_name(name),
                    addresses=(context.addresses[f"{name}.https"], *context.far_hosts(name).values()),
                )
                for name in caches
            ),
            caches=tuple(
                CacheEndpoint(
                    name=name,
                    site=context.facility.site_of(name),
                    level=cache.level.value,
                    https=context.url(f"{name}.https"),
                    root=context.url(f"{name}.root", "root"),
                    audience=context.addresses[f"{name}.https"],
                    upstreams=context.facility.upstreams_of(name),
                    origins={rse: hosts[0] for rse, hosts in origins(context, name).items()},
                    parent=context.facility.parent_of(name) or "",
                    mode=cache.mode.value,
                    paths=_paths(context, cache),
                    schemes=("root", "https") if cache.mode is CacheMode.user or cache.networks else ("root",),
                    far=context.far_hosts(name),
                    federation=cache.federation or "",
                )
                for name, cache in caches.items()
            ),
            secrets=federated.secrets(context.facility),
        )

    @staticmethod
    def _unit(context: Context, name: str, cache: Cache) -> Unit:
        unit = unit_name(name)
        data = context.data(unit)
        exports = _exports(context, name, cache)
        shown = dict.fromkeys((*exports, *_cared(context, name, cache)))
        # A star stands for a name, never for a slash (fnmatch with FNM_PATHNAME).
        not_kept = File(
            context.config(unit, "not-kept"), "".join("/*" * depth + f"/{_RECORDS}\n" for depth in range(_DEEPEST))
        )
        config = _PROXY.format(
            data=data,
            not_kept=not_kept.path,
            # Read only: else a DELETE would go through to the element.
            exports="\n".join(f"all.export {path} r/o" for path in shown),
            origin="\n".join(_origin_lines(context, name)),
            memory=_kibibytes(cache.memory),
            block_size=_kibibytes(cache.block_size),
            prefetch=cache.prefetch,
            purge_to=_kibibytes(cache.size * _PURGE_TO),
            purge_at=_kibibytes(cache.size * _PURGE_AT),
            size=_kibibytes(cache.size),
            page_checksums="cache" if cache.page_checksums else "off",
            stream=context.ports[stream_key(name)],
        )
        facility = context.facility
        behind = cache.federation or facility.parent_of(name) or ", ".join(facility.upstreams_of(name))
        return xrootd.server_unit(
            context,
            name=unit,
            key=name,
            site=context.facility.site_of(name),
            title=f"XCache {name}, in front of {behind}",
            door=_door(context, name, cache, exports),
            config=config,
            extra_config=cache.extra_config,
            directories=(data,),
            env={
                **_variables(context, name, cache),
                **_TIMEOUTS,
            },
            reads=federated.reads(context, cache),
            files=(not_kept, *federated.files(context, unit, cache)),
        )


def _variables(context: Context, name: str, cache: Cache) -> dict[str, str]:
    """What a cache shows to what it reads from, and whose certificates it takes there."""
    token = token_file(context, name)
    if cache.mode is CacheMode.translating:
        return federated.variables(context, unit_name(name), cache, token)
    return {
        "X509_CERT_DIR": str(context.layout.ca_directory),
        "X509_CERT_FILE": str(context.layout.ca),
        "XrdSecPROTOCOL": "ztn",
        "BEARER_TOKEN_FILE": str(token),
    }


def _paths(context: Context, cache: Cache) -> tuple[str, ...]:
    """Directories that a cache with rights of its own gives; none if it gives whatever a reader's token opens."""
    if cache.mode is CacheMode.user:
        return ()
    if cache.mode is CacheMode.translating:
        return federated.directories(context, cache)
    return tuple(dict.fromkeys(path for each in groupcache.paths_at_elements(context, cache).values() for path in each))


def _door(context: Context, name: str, cache: Cache, exports: tuple[str, ...]) -> xrootd.Door:
    if cache.mode is CacheMode.translating:
        return groupcache.claim_door(context, unit_name(name), name, federated.readers(context, cache))
    care = _CARE.format(url=context.url(CARE), prefixes=", ".join(_cared(context, name, cache)))
    if cache.mode is CacheMode.group:
        return groupcache.door(context, unit_name(name), name, exports=exports, care=care)
    elements = ", ".join(path for hosts in origins(context, name).values() for path in _origin_paths(hosts))
    return xrootd.token_door(context, unit_name(name), name, elements, more_issuers=care)


def _exports(context: Context, name: str, cache: Cache) -> tuple[str, ...]:
    """All that readers find at a cache: directories at its elements, the elements' names before them.

    At a cache before a federation, that one's directories, by their own names.
    """
    if cache.mode is CacheMode.translating:
        return federated.directories(context, cache)
    below = _directories(context, cache)
    return tuple(
        path + directory
        for rse, hosts in origins(context, name).items()
        for path in _origin_paths(hosts)
        for directory in below[rse]
    )


def _cared(context: Context, name: str, cache: Cache) -> tuple[str, ...]:
    """Directories of what a cache keeps, as it names them; no reader finds anything there unless the two agree."""
    if context.facility.parent_of(name):
        return _exports(context, name, cache)
    if cache.networks or cache.federation:
        return ()
    below = _directories(context, cache)
    return tuple(dict.fromkeys(each for rse in context.facility.upstreams_of(name) for each in below[rse]))


def _directories(context: Context, cache: Cache) -> dict[str, tuple[str, ...]]:
    """By RSE, the directories of an element that a cache gives."""
    if cache.mode is CacheMode.group:
        return groupcache.paths_at_elements(context, cache)
    return {rse: (element.prefix.rstrip("/"),) for rse, element in context.facility.storage.items()}


def _origin_lines(context: Context, cache: str) -> list[str]:
    """Where a cache reads: from the elements that requests name, or from what is behind it and nowhere else."""
    federation = context.facility.caches[cache].federation
    if federation:
        return [f"pss.origin {federated.origin(context, federation)}"]
    parent = context.facility.parent_of(cache)
    if parent:
        return [f"pss.origin roots://{_hosts(context, cache, parent)[0]}"]
    hosts = dict.fromkeys(host.rpartition(":")[0] for each in origins(context, cache).values() for host in each)
    return ["pss.origin =roots,root", *(f"pss.permit {address}" for address in hosts)]


def _hosts(context: Context, cache: str, name: str) -> tuple[str, ...]:
    """Each ``host:port`` by which a cache reaches a server: as its site sees it, which comes first, and its own."""
    keys = dict.fromkeys((context.seen_from(context.facility.site_of(cache), name), name))
    return tuple(f"{context.addresses[f'{key}.root']}:{context.ports[f'{key}.root']}" for key in keys)


def _origin_paths(hosts: tuple[str, ...]) -> tuple[str, ...]:
    """What a path through the cache begins with; XRootD has made one slash of two.

    ``root:`` is what Rucio puts before a cache's clients; the connection is encrypted all the same, since the
    element insists on it.
    """
    return tuple(f"/{scheme}:/{host}" for host in hosts for scheme in ("roots", "root"))


def _kibibytes(size_bytes: float) -> str:
    # A plain number would be read as a fraction of the disk.
    return f"{max(1, int(size_bytes) // 1024)}k"
