"""XCache: XRootD that keeps what passes through it, in front of several storage elements.

It works as a forwarding proxy: a reader names the element in the path, ``root://cache:port//roots://element:port//path``
(see ``docs/decisions/0003-cache-routing.md``). What is kept is named by the path alone, so that all replicas of a file
share it. Nobody gets anything here that their token does not open at the element.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from boathouse.facility.model import Cache, Facility
from boathouse.plan.addresses import addresses
from boathouse.plan.model import CacheEndpoint, Certificate, File, PortRequest, Unit
from boathouse.plan.service import Context, Contribution, Service
from boathouse.services import xrootd

_PROXY = """\
{exports}
oss.localroot {data}
ofs.osslib libXrdPss.so
pss.cachelib libXrdPfc.so
pss.origin =roots,root
{permits}
pfc.ram {memory}
pfc.blocksize {block_size}
pfc.prefetch {prefetch}
# Of the file system; and of the cache's own files: purge down to, begin purging at, never beyond.
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

# Without these a read of something not kept hangs for minutes when its element is down.
_TIMEOUTS = {
    "XRD_CONNECTIONWINDOW": "5",
    "XRD_CONNECTIONRETRY": "1",
    "XRD_REQUESTTIMEOUT": "30",
    "XRD_STREAMERRORWINDOW": "5",
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
    """The token with which a cache reads from storage elements; the keeper writes and renews it.

    It needs the scope ``storage.read:/`` and, as audiences, :func:`upstream_audiences`.
    """
    return context.run(unit_name(cache)) / "token"


def upstream_audiences(context: Context, cache: str) -> tuple[str, ...]:
    """Audiences of the storage elements behind a cache."""
    return tuple(context.addresses[f"{rse}.root"] for rse in context.facility.upstreams_of(cache))


def _upstream_addresses(context: Context, cache: str) -> tuple[str, ...]:
    keys = [key for rse in context.facility.upstreams_of(cache) for key in _keys(context, cache, rse)]
    return tuple(dict.fromkeys(context.addresses[key] for key in keys))


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
                    origins={rse: _origins(context, name, rse)[0] for rse in context.facility.upstreams_of(name)},
                    far=context.far_hosts(name),
                )
                for name, cache in caches.items()
            ),
        )

    @staticmethod
    def _unit(context: Context, name: str, cache: Cache) -> Unit:
        unit = unit_name(name)
        data = context.data(unit)
        upstreams = context.facility.upstreams_of(name)
        paths = [path for rse in upstreams for path in _origin_paths(context, name, rse)]
        prefix_of = {rse: element.prefix.rstrip("/") for rse, element in context.facility.storage.items()}
        exports = [path + prefix_of[rse] for rse in upstreams for path in _origin_paths(context, name, rse)]
        # A star stands for a name, never for a slash (fnmatch with FNM_PATHNAME).
        not_kept = File(
            context.config(unit, "not-kept"), "".join("/*" * depth + f"/{_RECORDS}\n" for depth in range(_DEEPEST))
        )
        prefixes = list(dict.fromkeys(prefix_of[rse] for rse in upstreams))
        config = _PROXY.format(
            data=data,
            not_kept=not_kept.path,
            # Read only: else a DELETE would go through to the element.
            exports="\n".join(f"all.export {path} r/o" for path in (*exports, *prefixes)),
            permits="\n".join(f"pss.permit {address}" for address in _upstream_addresses(context, name)),
            memory=_kibibytes(cache.memory),
            block_size=_kibibytes(cache.block_size),
            prefetch=cache.prefetch,
            purge_to=_kibibytes(cache.size * _PURGE_TO),
            purge_at=_kibibytes(cache.size * _PURGE_AT),
            size=_kibibytes(cache.size),
            page_checksums="cache" if cache.page_checksums else "off",
            stream=context.ports[stream_key(name)],
        )
        return xrootd.server_unit(
            context,
            name=unit,
            key=name,
            site=context.facility.site_of(name),
            title=f"XCache {name}, in front of {', '.join(upstreams)}",
            config=config,
            extra_config=cache.extra_config,
            base_path=", ".join(paths),
            more_issuers=_CARE.format(url=context.url(CARE), prefixes=", ".join(prefixes)),
            directories=(data,),
            env={
                "X509_CERT_DIR": str(context.layout.ca_directory),
                "X509_CERT_FILE": str(context.layout.ca),
                "XrdSecPROTOCOL": "ztn",
                "BEARER_TOKEN_FILE": str(token_file(context, name)),
                **_TIMEOUTS,
            },
            files=(not_kept,),
        )


def _keys(context: Context, cache: str, rse: str) -> tuple[str, ...]:
    """Port keys by which a cache reaches an element: as its site sees it, which comes first, and the element's own."""
    seen = context.seen_from(context.facility.site_of(cache), rse)
    return tuple(dict.fromkeys((f"{seen}.root", f"{rse}.root")))


def _origins(context: Context, cache: str, rse: str) -> tuple[str, ...]:
    """What may stand for an element in the path of a request: each ``host:port`` that the cache connects to."""
    return tuple(f"{context.addresses[key]}:{context.ports[key]}" for key in _keys(context, cache, rse))


def _origin_paths(context: Context, cache: str, rse: str) -> tuple[str, ...]:
    """What a path through the cache begins with; XRootD has made one slash of two.

    ``root:`` is what Rucio puts before a cache's clients; the connection is encrypted all the same, since the
    element insists on it.
    """
    return tuple(f"/{scheme}:/{origin}" for origin in _origins(context, cache, rse) for scheme in ("roots", "root"))


def _kibibytes(size_bytes: float) -> str:
    # A plain number would be read as a fraction of the disk.
    return f"{max(1, int(size_bytes) // 1024)}k"
