"""XRootD: one server a storage element, with TLS and WLCG tokens only.

A token decides by audience (the element's address) and by path scope; nobody is mapped to anybody. Each element
listens on two ports of its own loopback address: ``root`` for the XRootD protocol and ``https`` for WebDAV. A port that
did both would also take plain HTTP.

Beside each stands its copy door: a second server over the same files with an address, and so an audience, of its own,
for third-party copies and the catalogue's deletions. The issuer gives tokens for it to services only.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from boathouse import xrootd_versions
from boathouse.errors import HostError
from boathouse.facility.model import Facility, Storage
from boathouse.plan.addresses import addresses, copy_addresses
from boathouse.plan.model import Certificate, File, PortRequest, Probe, ProbeKind, StorageEndpoint, Unit
from boathouse.plan.service import Context, Contribution, Service

HEALTH_PATH = "/static/health"
"""Answers without a token, on the https port."""

# Every xrootd of a facility has these lines: where its state is, TLS, and who gets in.
_COMMON = """\
all.sitename {site}
all.adminpath {admin}
all.pidpath {admin}
# Address look-ups would ask the network's name server for every client.
xrd.network nodnr
xrd.port {root_port}
xrd.tls {certificate} {key}
# People and services show tokens, never certificates.
xrd.tlsca noverify
xrootd.tls all
ofs.authorize 1
{door}xrd.protocol tls XrdHttp:{https_port} libXrdHttp.so
http.staticpreload {health_path} {health}
"""

# The only way in but for caches of groups.
_TOKENS = """\
xrootd.seclib libXrdSec.so
sec.protocol ztn
sec.protbind * only ztn
ofs.authlib libXrdAccSciTokens.so config={scitokens}
http.header2cgi Authorization authz
"""

# OpenSSL would take AES-256 for every connection. AES-128 is as far beyond reach and takes a fifth less of the CPU, of
# which readers on the same cores have need. The levels are those of Debian's own file.
_OPENSSL = """\
openssl_conf = openssl
[openssl]
ssl_conf = contexts
[contexts]
system_default = every
[every]
MinProtocol = TLSv1.2
CipherString = DEFAULT@SECLEVEL=2
Ciphersuites = TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256
Options = ServerPreference
"""

_STORAGE = """\
all.export {prefix}
oss.localroot {data}
# With it on, a token that may create but not delete would delete: a refused PUT removes the file that is there.
ofs.persist off
# With fewer jobs at a time a busy server answers HEAD with 400 instead of a checksum: the transfer service has up to 32
# copies into an element, and 32 out of it.
xrootd.chksum max 64 adler32 crc32c
# Without it 6.2.0 answers a GET over TLS in whole blocks of 64 KiB: beyond the end that it announced, with whatever
# its buffer held before, and the next answer on the connection is lost.
xrootd.async nosf
"""

# What the copy door adds. XRootD 6.2.0 takes dot segments in the path of a COPY literally: a scope for one directory
# would open every other. So people do not come here: only services whose paths are checked get tokens for this address.
_COPY = """\
http.exthandler xrdtpc libXrdHttpTPC.so
# Without a file of its own every copy would load all of the host's authorities: four times the work of a small copy.
# Those of the directory XRDTPC_CADIR are looked up by name when they are needed.
http.cafile {ca}
tpc.trace error warning
tpc.timeout 60 120
# Elements of one machine copy from each other over loopback, which is refused by default.
tpc.allow local
"""

_SCITOKENS = """\
[Global]
audience = {audience}
onmissing = deny

[Issuer facility]
issuer = {issuer}
base_path = {base_path}
authorization_strategy = capability
"""

_TRUSTED = """
[Issuer {name}]
issuer = {issuer}
base_path = {base_path}
{restricted}authorization_strategy = capability
"""


def unit_name(rse: str) -> str:
    """Name of a storage element's unit, certificate and directories."""
    return f"se-{rse.lower()}"


def copy_unit_name(rse: str) -> str:
    """Name of the unit of a storage element's copy door."""
    return f"copy-{rse.lower()}"


def copy_key(rse: str) -> str:
    """What stands before ``.https`` and ``.root`` in the port keys of a storage element's copy door."""
    return f"{rse}.copy"


def files_directory(context: Context, rse: str) -> Path:
    """Where a storage element keeps its files."""
    return context.data(unit_name(rse))


def key_cache_directory(context: Context, unit: str) -> Path:
    """``XDG_CACHE_HOME`` of an XRootD unit; :mod:`boathouse.wlcg.keycache` fills it before the unit starts."""
    return context.run(unit) / "cache"


@dataclass(frozen=True)
class Door:
    """Who gets into a server, and to what."""

    lines: str
    """Of its configuration."""
    files: tuple[File, ...]
    """That these name."""


def token_door(
    context: Context, name: str, key: str, base_path: str, *, trusting: bool = True, more_issuers: str = ""
) -> Door:
    """The door for those who show a token for this server: its scopes say which paths it opens.

    Args:
        context: who the issuers are.
        name: the unit's name.
        key: what stands before ``.https`` in the port's key.
        base_path: paths, comma-separated, below which the paths in token scopes lie.
        trusting: whether it takes tokens of the other issuers that the facility trusts.
        more_issuers: sections of ``scitokens.cfg`` that it has besides.
    """
    text = _SCITOKENS.format(audience=context.addresses[f"{key}.https"], issuer=context.issuer, base_path=base_path)
    trusted = trusted_issuers(context.facility, base_path) if trusting else ""
    scitokens = File(context.config(name, "scitokens.cfg"), text + trusted + more_issuers)
    return Door(_TOKENS.format(scitokens=scitokens.path), (scitokens,))


class StorageElements(Service):
    """The storage elements of all sites."""

    name: ClassVar[str] = "se"

    def ports(self, facility: Facility) -> tuple[PortRequest, ...]:
        """An https and a root port for every element and for its copy door.

        Keys are ``<RSE>.https`` and ``<RSE>.root``, ``<RSE>.copy.https`` and ``<RSE>.copy.root``.
        """
        doors = {copy_key(rse): address for rse, address in copy_addresses(facility).items()}
        return (*port_requests(tuple(facility.storage), addresses(facility)), *port_requests(tuple(doors), doors))

    def plan(self, context: Context) -> Contribution:
        """A unit, a certificate and an endpoint for every element."""
        require_version(context)
        elements = context.facility.storage
        return Contribution(
            units=tuple(unit for rse, element in elements.items() for unit in _units(context, rse, element)),
            certificates=tuple(
                Certificate(name, addresses=(context.addresses[f"{key}.https"], *far))
                for rse in elements
                for name, key, far in (
                    (unit_name(rse), rse, context.far_hosts(rse).values()),
                    (copy_unit_name(rse), copy_key(rse), ()),
                )
            ),
            storage=tuple(
                StorageEndpoint(
                    rse=rse,
                    site=context.facility.site_of(rse),
                    qos=element.qos,
                    deterministic=element.deterministic,
                    prefix=element.prefix,
                    https=context.url(f"{rse}.https"),
                    root=context.url(f"{rse}.root", "root"),
                    audience=context.addresses[f"{rse}.https"],
                    far=context.far_hosts(rse),
                )
                for rse, element in elements.items()
            ),
        )


def _units(context: Context, rse: str, element: Storage) -> tuple[Unit, Unit]:
    """The element, and its copy door: a second server over the same files."""
    data = files_directory(context, rse)
    config = _STORAGE.format(prefix=element.prefix, data=data)
    name, copy = unit_name(rse), copy_unit_name(rse)
    server = partial(
        server_unit,
        context,
        site=context.facility.site_of(rse),
        directories=(data, data / element.prefix.lstrip("/")),
    )
    return (
        server(
            name=name,
            key=rse,
            title=f"XRootD, storage element {rse}",
            door=token_door(context, name, rse, "/"),
            config=config,
            extra_config=element.extra_config,
        ),
        server(
            name=copy,
            key=copy_key(rse),
            title=f"XRootD, copy door of {rse}, for services only",
            # Their paths are not ours to check: the transfer service exchanges tokens of other issuers.
            door=token_door(context, copy, copy_key(rse), "/", trusting=False),
            config=config + _COPY.format(ca=context.layout.ca),
            extra_config="",
        ),
    )


def server_unit(
    context: Context,
    *,
    name: str,
    key: str,
    site: str,
    title: str,
    door: Door,
    config: str,
    extra_config: str,
    directories: tuple[Path, ...],
    env: dict[str, str] | None = None,
    files: tuple[File, ...] = (),
    reads: tuple[Path, ...] = (),
) -> Unit:
    """The unit of one xrootd process, for storage elements and caches alike.

    Args:
        context: ports, paths and programs.
        name: the unit's name, also that of its certificate and directories.
        key: what stands before ``.https`` and ``.root`` in its ports' keys.
        site: where it stands.
        title: one line for people.
        door: who gets in.
        config: what this kind of server adds to the common configuration.
        extra_config: the operator's own lines; they come last, so they win.
        directories: further directories that must exist, in which it may write.
        env: further variables.
        files: further files, below its directory of configuration.
        reads: further directories from which it may read.
    """
    own = _own_lines(extra_config)
    server, *others = _server_files(context, name=name, key=key, site=site, door=door, config=config + own)
    openssl = File(context.config(name, "openssl.cnf"), _OPENSSL)
    writes = (_admin_directory(context, name), *directories)
    return Unit(
        name=name,
        title=title,
        command=(
            str(context.programs.python),
            "-m",
            "boathouse.services.listen",
            _socket(context, f"{key}.root"),
            _socket(context, f"{key}.https"),
            *_confined(context, name, reads, writes),
            "--",
            str(context.programs.xrootd_bin / "xrootd"),
            "-c",
            str(server.path),
        ),
        probe=Probe(ProbeKind.https, target=context.url(f"{key}.https") + HEALTH_PATH),
        env={
            "XDG_CACHE_HOME": str(key_cache_directory(context, name)),
            # What the certificates of sources of third-party copies must chain to, inside the lake and outside.
            "XRDTPC_CADIR": str(context.layout.public_ca_directory),
            "OPENSSL_CONF": str(openssl.path),
            **(env or {}),
        },
        needs=("keeper",),
        directories=(context.run(name), key_cache_directory(context, name), *writes),
        files=(server, *others, openssl, *files),
        url=context.url(f"{key}.https"),
    )


def _confined(context: Context, name: str, more: tuple[Path, ...], writes: tuple[Path, ...]) -> tuple[str, ...]:
    """All that a server may touch, as options of :mod:`boathouse.services.listen`.

    Its key cache and a cache's token are written by the keeper: who could change the keys could make tokens.
    """
    layout = context.layout
    reads = (
        context.run(name),
        layout.config / name,
        layout.certificate(name),
        layout.key(name),
        layout.ca,
        layout.ca_directory,
        layout.public_ca_directory,
        *more,
    )
    # The private tree; or /usr, or with /bin as its name no more than what every program may use.
    tree = context.programs.xrootd_bin.parent
    return (
        *((f"--run={tree}",) if tree.name else ()),
        *(f"--read={path}" for path in reads),
        *(f"--write={path}" for path in writes),
    )


def _admin_directory(context: Context, name: str) -> Path:
    """Where a server makes its socket, whose whole path ends at 107 characters: short, however long the name is."""
    return context.run(hashlib.sha256(name.encode()).hexdigest()[:8])


def _server_files(context: Context, *, name: str, key: str, site: str, door: Door, config: str) -> tuple[File, ...]:
    """The configuration of a server, then the files that it names."""
    health = context.config(name, "health.json")
    common = _COMMON.format(
        site=site,
        admin=_admin_directory(context, name),
        root_port=context.ports[f"{key}.root"],
        https_port=context.ports[f"{key}.https"],
        certificate=context.layout.certificate(name),
        key=context.layout.key(name),
        door=door.lines,
        health=health,
        health_path=HEALTH_PATH,
    )
    return (
        File(context.config(name, "xrootd.cfg"), common + config),
        *door.files,
        File(health, '{"status": "ok"}\n'),
    )


def trusted_issuers(facility: Facility, base_path: str) -> str:
    """The sections of ``scitokens.cfg`` for other issuers, each confined to its paths.

    Args:
        facility: whom it trusts.
        base_path: paths, comma-separated, below which a token's paths lie for the facility's own issuer.
    """
    sections = []
    for name, issuer in facility.issuers.items():
        begins = issuer.base_path.rstrip("/")
        # XRootD compares what a scope names with these before it puts the base path in front.
        inside = [path.removeprefix(begins) or "/" for path in issuer.paths]
        sections.append(
            _TRUSTED.format(
                # No name of the facility file has two dashes, so it cannot be taken for the section above.
                name=f"trusted--{name}",
                issuer=issuer.url,
                base_path=", ".join(path.strip().rstrip("/") + begins or "/" for path in base_path.split(",")),
                restricted="" if "/" in inside else f"restricted_path = {', '.join(inside)}\n",
            )
        )
    return "".join(sections)


def port_requests(names: tuple[str, ...], address_of: dict[str, str]) -> tuple[PortRequest, ...]:
    """An https and a root port for every name."""
    return tuple(
        PortRequest(f"{name}.{protocol}", address_of[name]) for name in names for protocol in ("https", "root")
    )


def require_version(context: Context) -> None:
    """Refuse a server whose token checks are known to have holes.

    Raises:
        HostError: it is older than `xrootd_versions.OLDEST`.
    """
    problem = xrootd_versions.unsafe(context.programs.xrootd_version)
    if problem:
        raise HostError(
            "this XRootD must not guard a storage that decides by tokens alone",
            expected=".".join(map(str, xrootd_versions.OLDEST)) + " or later",
            got=problem,
            where=str(context.programs.xrootd_bin / "xrootd"),
            remedy="make install",
        )


def _socket(context: Context, key: str) -> str:
    address = context.addresses[key]
    return f"[{address}]:{context.ports[key]}" if ":" in address else f"{address}:{context.ports[key]}"


def _own_lines(text: str) -> str:
    return f"# From extra_config in the facility file.\n{text.rstrip()}\n" if text.strip() else ""
