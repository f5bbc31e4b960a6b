"""What will exist: units, files, secrets, certificates, tasks. Pure data; nothing here touches the machine.

A file's text may hold placeholders, which a runner replaces when it writes the file:

``${secret:NAME}``
    the value of a :class:`Secret`;
``${quoted-secret:NAME}``
    the same, percent-encoded for use inside a URL.

Secrets therefore never occur in a plan, and a plan can be printed, compared and rendered elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit


class SecretKind(StrEnum):
    """How the value of a secret is made when it does not exist yet."""

    password = "password"  # noqa: S105 - the name of a kind, not a password
    """32 random bytes, URL-safe base64."""
    phrase = "phrase"
    """A password that a person can type: four groups of five letters and digits."""
    uuid = "uuid"
    """A random UUID, for identifiers that must be opaque and never reassigned."""


@dataclass(frozen=True)
class Secret:
    """A value that the runner makes once, or copies at each start, and keeps in a file of mode 0600."""

    name: str
    kind: SecretKind = SecretKind.password
    source: Path | None = None
    """The operator's own file, of which it is a copy; it is not made then."""


@dataclass(frozen=True)
class Certificate:
    """A server certificate of the facility's CA; ``<pki>/<name>.pem`` (chain) and ``<pki>/<name>.key``.

    Every address is also put in as a DNS name, because XRootD clients ignore IP entries.
    """

    name: str
    addresses: tuple[str, ...]
    dns: tuple[str, ...] = ()


@dataclass(frozen=True)
class File:
    """A file that the runner writes before its unit starts; a change of content restarts the unit."""

    path: Path
    text: str
    mode: int = 0o600


class ProbeKind(StrEnum):
    """How readiness is asked for."""

    https = "https"
    """GET ``target``; ready on status 200 with the facility's CA."""
    command = "command"
    """Run ``command``; ready on exit status 0; its output is the reason otherwise."""
    report = "report"
    """Read the JSON file ``target`` that the unit rewrites at least every 10 s: ``{"ok": bool, "detail": str,
    "pid": int}``; ready when ``ok`` is true and the file is younger than 30 s. For units that serve nobody."""


@dataclass(frozen=True)
class Probe:
    """The question that tells whether a unit is ready; the answer carries a reason."""

    kind: ProbeKind
    target: str = ""
    command: tuple[str, ...] = ()
    timeout_s: float = 60.0


@dataclass(frozen=True)
class Task:
    """A one-shot command that must succeed, and that changes nothing when it runs a second time.

    ``once`` names a marker: the task is skipped when the marker exists, and the marker is written after success.
    ``inputs`` are files whose change makes the task run again in spite of its marker.
    """

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    once: bool = False
    inputs: tuple[Path, ...] = ()
    timeout_s: float = 120.0


@dataclass(frozen=True)
class Unit:
    """One supervised process."""

    name: str
    """Unique in the plan; also the name of its log file."""
    title: str
    """One line for people: what this process is."""
    command: tuple[str, ...]
    probe: Probe
    env: Mapping[str, str] = field(default_factory=dict)
    """The whole environment, but for ``PATH``, ``LANG``, ``TZ`` (UTC) and ``HOME`` that the runner sets."""
    needs: tuple[str, ...] = ()
    """Units that must be ready before this one is prepared and started."""
    directories: tuple[Path, ...] = ()
    """Directories that must exist, mode 0700."""
    files: tuple[File, ...] = ()
    """Configuration, written before the start."""
    prepare: tuple[Task, ...] = ()
    """Commands that run before the process starts (``initdb``, a configuration check)."""
    after: tuple[Task, ...] = ()
    """Commands that run once it is ready (create databases, register storage)."""
    stop_signal: str = "TERM"
    stop_timeout_s: float = 10.0
    url: str = ""
    """Where people or clients reach it; shown by ``status``."""


@dataclass(frozen=True)
class PortRequest:
    """A port that a service wants: ``key`` is unique in the facility, e.g. ``rucio`` or ``CNAF-STORM.https``."""

    key: str
    address: str
    wanted: int | None = None
    same_as: str = ""
    """Key of another request, whose port this one takes too, at its own address."""


@dataclass(frozen=True)
class Layout:
    """Where things lie. ``root`` contains no space and is short, whatever the state directory is called."""

    root: Path

    def _sub(self, name: str) -> Path:
        return self.root / name

    @property
    def data(self) -> Path:
        """What must survive: databases, stored files."""
        return self._sub("data")

    @property
    def config(self) -> Path:
        """Rendered configuration, one folder a unit."""
        return self._sub("config")

    @property
    def run(self) -> Path:
        """Sockets, pid files, key caches: worthless after ``down``."""
        return self._sub("run")

    @property
    def logs(self) -> Path:
        """One log file a unit."""
        return self._sub("logs")

    @property
    def pki(self) -> Path:
        """CA, bundle, hashed CA directory, certificates."""
        return self._sub("pki")

    @property
    def secrets(self) -> Path:
        """One file a secret, mode 0600."""
        return self._sub("secrets")

    @property
    def ca(self) -> Path:
        """The facility's CA certificate alone."""
        return self.pki / "ca.pem"

    @property
    def ca_bundle(self) -> Path:
        """The host's trusted CAs and the facility's."""
        return self.pki / "bundle.pem"

    @property
    def ca_directory(self) -> Path:
        """The CA under its OpenSSL hash name, for XRootD."""
        return self.pki / "hashed"

    @property
    def public_ca_directory(self) -> Path:
        """The host's CAs and the facility's under their OpenSSL hash names, for copies from outside."""
        return self.pki / "hashed-public"

    def certificate(self, name: str) -> Path:
        """Certificate chain of a :class:`Certificate`."""
        return self.pki / f"{name}.pem"

    def key(self, name: str) -> Path:
        """Private key of a :class:`Certificate`."""
        return self.pki / f"{name}.key"

    def secret(self, name: str) -> Path:
        """File of a :class:`Secret`."""
        return self.secrets / name


@dataclass(frozen=True)
class Plan:
    """Everything that a runner needs to make a facility true."""

    facility: str
    layout: Layout
    units: tuple[Unit, ...]
    """In start order: each unit comes after all that it needs."""
    secrets: tuple[Secret, ...]
    certificates: tuple[Certificate, ...]
    certificate_lifetime_s: float
    endpoints: Endpoints
    authorities: tuple[Path, ...] = ()
    """Files of the operator with further CAs for the bundle."""

    def unit(self, name: str) -> Unit:
        """A unit by name.

        Raises:
            KeyError: there is none.
        """
        for unit in self.units:
            if unit.name == name:
                return unit
        raise KeyError(name)


@dataclass(frozen=True)
class StorageEndpoint:
    """A storage element as clients see it."""

    rse: str
    site: str
    qos: str
    deterministic: bool
    prefix: str
    https: str
    """``https://address:port``, no path."""
    root: str
    """``root://address:port``, no path."""
    audience: str
    far: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Host by site, for sites that see the element over a distance; ports and audience are the same."""


@dataclass(frozen=True)
class CacheEndpoint:
    """A cache as clients see it."""

    name: str
    site: str
    level: str
    https: str
    root: str
    audience: str
    upstreams: tuple[str, ...]
    """RSE names that it serves."""
    origins: Mapping[str, str] = field(default_factory=dict, hash=False)
    """By RSE, the ``host:port`` that stands for the element in a path through this cache
    (``docs/decisions/0003-cache-routing.md``)."""
    far: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Host by site, for sites that see the cache over a distance; ports and audience are the same."""
    parent: str = ""
    """The cache that it reads from; empty if it reads from the storage elements themselves."""
    mode: str = "user"
    """Whose rights decide: each reader's (``user``), those of one group (``group``), or a table's (``translating``)."""
    paths: tuple[str, ...] = ()
    """Directories at the elements, or of the federation, that it gives, without slashes at their ends; empty for all
    that a reader's token opens."""
    schemes: tuple[str, ...] = ("root", "https")
    """Protocols by which it gives files."""
    federation: str = ""
    """The lake of somebody else's that it stands before; empty for this facility's own."""


Placed = TypeVar("Placed", StorageEndpoint, CacheEndpoint)


@dataclass(frozen=True)
class LoginEndpoint:
    """Another issuer at which people may log in."""

    name: str
    issuer: str
    """Its URL, byte for byte the ``iss`` of its tokens."""
    client_id: str
    """The public client for the device code grant."""
    ca_file: str
    """CAs that verify it; empty for those of ``ca_bundle``, which holds the host's."""


@dataclass(frozen=True)
class Endpoints:
    """All that a client needs to know of a facility; the one object that the lake client takes.

    Published as ``endpoints.json`` in the state directory after every port is bound. Readers ignore keys that they
    do not know.
    """

    facility: str
    vo: str
    issuer: str
    """Issuer URL, byte for byte the ``iss`` of its tokens."""
    catalogue: str
    """URL of the Rucio server."""
    transfers: str
    """URL of the transfer service (FTS3 REST)."""
    ca_bundle: str
    """Path of the CA bundle that verifies every server."""
    client_id: str = "boathouse"
    """The public client with which people log in by device code."""
    operator_id: str = "operator"
    """The client with which the facility looks after itself."""
    catalogue_audience: str = "rucio"
    transfers_audience: str = ""
    storage: tuple[StorageEndpoint, ...] = ()
    caches: tuple[CacheEndpoint, ...] = ()
    logins: tuple[LoginEndpoint, ...] = ()
    """Other issuers at which people may log in."""
    care: str = ""
    """URL of the care of caches; empty where there are none."""
    login_at: str = ""
    """The one of them that is meant when none is named; empty for ``issuer``."""

    def seen_from(self, site: str | None) -> Endpoints:
        """The same as clients at a site see it: what is far from there stands at the address of the network's relay."""
        return replace(
            self,
            storage=tuple(_seen_from(site, each) for each in self.storage),
            caches=tuple(_seen_from(site, each) for each in self.caches),
        )


def _seen_from(site: str | None, endpoint: Placed) -> Placed:
    host = endpoint.far.get(site or "")
    if host is None:
        return endpoint
    https, root = (f"{url.scheme}://{host}:{url.port}" for url in map(urlsplit, (endpoint.https, endpoint.root)))
    return replace(endpoint, https=https, root=root)
