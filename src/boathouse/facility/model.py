"""What an operator wants: the facility file as frozen models.

Every setting is described here once; the JSON Schema, the reference page and the error messages are made from
these fields. Sizes are bytes after loading, durations seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from boathouse.facility.kinds import (
    AbsolutePath,
    Address,
    Bandwidth,
    Duration,
    FederationPath,
    FederationUrl,
    GroupPath,
    IssuerUrl,
    Label,
    Name,
    Network,
    Port,
    RseName,
    ScopeName,
    SiteName,
    Size,
    StoreUrl,
)

TRANSFERS_ADDRESS = "127.0.0.2"
"""Of the transfer service, its own: Rucio asks for tokens whose audience is the host of the service's URL."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Protocol(StrEnum):
    """An access protocol of a storage element, by its scheme in the catalogue."""

    https = "https"
    """HTTP over TLS with a bearer token (WebDAV verbs); what clients use."""
    davs = "davs"
    """The same endpoint as third-party copies and deletions see it."""
    root = "root"
    """The XRootD protocol, TLS required, bearer token by ``ztn``."""


class Priorities(_Model):
    """Which protocols of a storage element do what, the first being preferred.

    What is not given follows from `protocols`.
    """

    read: tuple[Protocol, ...] | None = None
    """To read files; `https` must be among them."""
    write: tuple[Protocol, ...] | None = None
    """To bring files; an empty list keeps people from it, and leaves copies that rules ask for."""
    delete: tuple[Protocol, ...] | None = None
    """To delete files; `davs`, by which the catalogue deletes, must be among them."""
    copy_read: tuple[Protocol, ...] | None = None
    """To be the source of third-party copies: `davs`, or an empty list for none."""
    copy_write: tuple[Protocol, ...] | None = None
    """To be their destination: `davs`, or an empty list for none."""
    lan_read: tuple[Protocol, ...] | None = None
    """To read files from inside the facility, as analyses do; as `read` if that is given, else `root` first."""
    lan_write: tuple[Protocol, ...] | None = None
    """To bring files from inside the facility; as `write` if not given."""
    lan_delete: tuple[Protocol, ...] | None = None
    """To delete files from inside the facility; as `delete` if not given."""


CAPABLE: Mapping[str, tuple[Protocol, ...]] = {
    "read": (Protocol.https, Protocol.root),
    "write": (Protocol.https, Protocol.root),
    "delete": (Protocol.https, Protocol.davs, Protocol.root),
    "copy_read": (Protocol.davs,),
    "copy_write": (Protocol.davs,),
}
"""Protocols that can be chosen for an activity."""
_USUAL: Mapping[str, tuple[Protocol, ...]] = {
    **CAPABLE,
    "write": (Protocol.https,),
    "delete": (Protocol.https, Protocol.davs),
}
"""Those that do it if nothing is said."""


class Storage(_Model):
    """A storage element: one RSE of the catalogue and the server behind it."""

    qos: Label
    """Quality-of-service label; becomes the RSE attribute ``QOS``."""
    capacity: Size = 20_000_000_000
    """What the RSE may hold, in bytes."""
    deterministic: bool = True
    """Whether a file's path follows from its name (algorithm ``hash``) or is registered with the file."""
    volatile: bool = False
    """Whether replicas may vanish without breaking a rule."""
    prefix: AbsolutePath = "/lake"
    """Directory under which the RSE keeps its files; the Rucio scope is the first directory below it."""
    protocols: tuple[Protocol, ...] = (Protocol.https, Protocol.davs, Protocol.root)
    """Protocols in order of priority, the first being preferred."""
    priorities: Priorities = Priorities()
    """The order for single activities, where it is another."""
    attributes: dict[str, str] = {}
    """Further RSE attributes, free for use in RSE expressions."""
    address: Address | None = None
    """Address to listen on; by default a loopback address of its own, 127.0.1.N."""
    extra_config: str = ""
    """Raw lines appended to the XRootD configuration (escape hatch); the server reaches its own directories only."""

    def order(self, activity: str, *, lan: bool = False) -> tuple[Protocol, ...]:
        """Protocols for an activity (a key of :data:`CAPABLE`), best first.

        Args:
            activity: what is done.
            lan: whether from inside the facility.
        """
        for key in (f"lan_{activity}", activity) if lan else (activity,):
            chosen: tuple[Protocol, ...] | None = getattr(self.priorities, key, None)
            if chosen is not None:
                return chosen
        usual = tuple(protocol for protocol in self.protocols if protocol in _USUAL[activity])
        # Whoever reads many small parts of a file, as an analysis does, gets them in one question by this protocol.
        return tuple(sorted(usual, key=lambda protocol: protocol is not Protocol.root)) if lan else usual


class CacheLevel(StrEnum):
    """Where a cache stands between a reader and the lake."""

    node = "node"
    """On the machine that reads."""
    site = "site"
    """In front of the readers of one site."""
    region = "region"
    """In front of the caches of several sites."""


class CacheMode(StrEnum):
    """Whose rights decide what a cache gives (docs/topics/caches.md)."""

    user = "user"
    """The reader's: each shows a token, which must open the file at the storage element."""
    group = "group"
    """A group's: it reads with a token of its own for what that group may read, and gives this to those it lets in."""
    translating = "translating"
    """Those of a table: it stands before a lake of somebody else's, to which it shows a credential of the facility's,
    and gives each reader what `federations.<federation>` says of the groups that their token names."""


class Cache(_Model):
    """An XCache in front of storage elements, or of another cache."""

    level: CacheLevel = CacheLevel.site
    """Where it stands between readers and the lake."""
    upstreams: tuple[RseName, ...] | Literal["lake"] = "lake"
    """The RSEs that it caches, ``lake`` meaning every one; or one other cache, of its own level or a higher one. Not in
    the mode `translating`."""
    mode: CacheMode = CacheMode.user
    """Whose rights decide."""
    group: Name | None = None
    """The group of the mode `group`."""
    networks: tuple[Network, ...] = ()
    """Mode `group`: networks (IPv4, at most 65,536 addresses, e.g. ``10.1.0.0/16``) whose machines are let in without a
    token, and no others; without any, whoever shows a token that names the group."""
    federation: Name | None = None
    """Mode `translating`: what it reads from, one of `federations`."""
    size: Size = 4_000_000_000
    """Disk that it may fill, in bytes."""
    block_size: Size = 524_288
    """Size of a cached block, in bytes; a multiple of 4096."""
    prefetch: Annotated[int, Field(ge=0, le=128)] = 0
    """Blocks read ahead of a reader; 0 reads only what is asked for."""
    memory: Size = 1_073_741_824
    """Memory for blocks in flight, in bytes; XCache wants at least 1 GiB (reserved, not resident)."""
    page_checksums: bool = False
    """Whether it keeps a checksum of every 4 KiB on its disk and compares it at each read: wrong bytes are refused.
    Costs an analysis on a warm cache a twentieth of its speed."""
    scrub_interval: Duration = 86400.0
    """How often all that it keeps whole is read and compared with the catalogue's checksums."""
    address: Address | None = None
    """Address to listen on; by default a loopback address of its own, 127.0.1.N."""
    extra_config: str = ""
    """Raw lines appended to the XRootD configuration (escape hatch); the server reaches its own directories only."""


class Site(_Model):
    """A computing centre: its storage elements and caches."""

    description: str = ""
    """One line for people."""
    storage: dict[RseName, Storage] = {}
    """Storage elements by RSE name."""
    caches: dict[RseName, Cache] = {}
    """Caches by name."""


class Distance(_Model):
    """How far two sites are from each other."""

    rtt: Duration = 0.0
    """Round-trip time, in seconds: half of it each way."""
    bandwidth: Bandwidth | None = None
    """Bits per second each way, shared by all connections between the two; without limit if not given."""


class Link(Distance):
    """The distance between two sites."""

    between: tuple[SiteName, ...]
    """The two sites."""


class WideAreaNetwork(_Model):
    """Distance between the sites, emulated on this machine (docs/topics/network.md)."""

    links: dict[Name, Link] = {}
    """Distances by a name of your choice."""
    default: Distance = Distance()
    """The distance between two sites that no link names."""
    window: Size = 4_000_000
    """Bytes that a connection may have under way unacknowledged, in each direction."""


class Group(_Model):
    """A group of the VO; its name in tokens is ``/<vo>/<group>``."""

    description: str = ""
    """One line for people."""
    embargoed: bool = False
    """Whether the group's scopes may be read by its members only."""


class User(_Model):
    """A person with an account in the catalogue and a login at the issuer."""

    name: str = ""
    """Full name."""
    email: str = ""
    """Address for notifications."""
    groups: tuple[Name, ...] = ()
    """Groups that the user belongs to."""
    admin: bool = False
    """Whether the user may administer the lake."""
    identities: dict[Name, str] = {}
    """The user's subject (`sub`) elsewhere, by the name of the issuer or identity provider."""


class Scope(_Model):
    """A Rucio scope: a name space of DIDs, which is also a directory on every storage element."""

    group: Name
    """The group whose members may write here."""
    description: str = ""
    """One line for people."""


class Issuer(_Model):
    """Another token issuer whose tokens the facility accepts beside its own, for the paths named here."""

    url: IssuerUrl
    """Its URL, byte for byte the `iss` of its tokens."""
    vo: Name | None = None
    """The VO that it speaks for, the root of its groups; the facility's own if not given."""
    ca_file: AbsolutePath | None = None
    """CAs that its certificate must chain to, PEM; those of the host if not given."""
    paths: Annotated[tuple[AbsolutePath, ...], Field(min_length=1)]
    """What its tokens may open, whatever their scopes say: directories of scopes, or below them."""
    base_path: AbsolutePath = "/"
    """Where the paths in its scopes begin: with `/lake`, its `storage.read:/x` means `/lake/x`."""
    groups_claim: str = "wlcg.groups"
    """The claim that names groups."""
    accounts: dict[GroupPath, Name] = {}
    """Account in the catalogue (a group or a user) of those whom no user's `identities` name, by group of theirs; the
    first that fits."""
    key_refresh: Duration = 300.0
    """How often its keys are asked for, in seconds."""
    client_id: str | None = None
    """The public client with which people log in there by device code: `boathouse login --issuer <name>`."""


class Newcomers(StrEnum):
    """What happens to a person whom an identity provider knows and the facility does not."""

    refuse = "refuse"
    """No account."""
    approve = "approve"
    """An account that waits until an administrator opens it."""


class Admission(_Model):
    """Whom of an identity provider's people gets an account at the first sign-in: those with this claim."""

    claim: str
    """Name of the claim, e.g. `eduperson_entitlement`."""
    value: str
    """Its value, or one of its values; for `email`, `@domain` stands for every verified address there."""
    groups: tuple[Name, ...] = ()
    """Groups that follow from it, given and taken at each sign-in."""


class IdentityProvider(_Model):
    """An OpenID provider that people may sign in with at the facility's own issuer."""

    url: IssuerUrl
    """Its issuer URL, byte for byte as in its discovery document."""
    client_id: str
    """The facility's name there; its redirect URI is `<issuer>/login/with/<name>/callback`."""
    title: str = ""
    """What the button on the sign-in page says; its name if not given."""
    client_secret_file: AbsolutePath | None = None
    """File with the secret of that registration; a public client if not given."""
    ca_file: AbsolutePath | None = None
    """CAs that its certificate must chain to, PEM; those of the host if not given."""
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    """What it is asked for."""
    newcomers: Newcomers = Newcomers.refuse
    """What happens to people whom neither a user's `identities` nor a rule of `admit` names."""
    admit: dict[Name, Admission] = {}
    """Rules that let people in, by a name of your choice."""


class Store(_Model):
    """Storage of somebody else's that the transfer service copies from and to: an S3 bucket, or a WebDAV server."""

    url: StoreUrl
    """Where its files lie, without user and password: `s3s://host:port/bucket/prefix`, or `davs://host:port/path` of a
    WebDAV server."""
    user: str | None = None
    """Access key of an S3 store, or user name at a WebDAV server; without one, `secret_file` holds a bearer token."""
    secret_file: AbsolutePath | None = None
    """File with the secret key, password or token; without one, only who brings a signed URL or a token gets in."""
    region: Annotated[str, Field(min_length=1, max_length=64)] = "us-east-1"
    """Region that signatures for an S3 store name."""
    write: bool = False
    """Whether files may be copied into it."""
    groups: tuple[Name, ...] = ()
    """Groups whose members use the store with the facility's secret, besides administrators and the catalogue."""


class FederationClient(_Model):
    """A client at the issuer whose tokens a federation takes."""

    issuer: IssuerUrl
    """URL of that issuer, byte for byte as in its discovery document."""
    ca_file: AbsolutePath | None = None
    """CAs that its certificate must chain to, PEM; those of the host if not given."""
    id: Annotated[str, Field(min_length=1)]
    """The facility's name there; it gets tokens with client credentials."""
    secret_file: AbsolutePath
    """File with its secret."""
    audience: str
    """What the federation's servers want as audience; several with spaces between."""
    scope: str = "storage.read:/"
    """What is asked for; several with spaces between."""


class Federation(_Model):
    """A lake of somebody else's: XRootD servers that take another credential than this facility's tokens.

    Caches of the mode `translating` stand before it.
    """

    url: FederationUrl
    """Its server, or the redirector that knows its servers."""
    ca_file: AbsolutePath | None = None
    """CAs that its servers' certificates must chain to, PEM; those of the host if not given."""
    ca_directory: AbsolutePath | None = None
    """In place of `ca_file`: a directory of CAs by their hash names, as `/etc/grid-security/certificates`."""
    client: FederationClient | None = None
    """Where the token comes from that the caches show it."""
    token_file: AbsolutePath | None = None
    """In place of `client`: a file with that token, which somebody else renews and the services' user can read."""
    proxy_file: AbsolutePath | None = None
    """In place of either, where it takes no tokens: a file with the X.509 proxy of a service (RFC 3820), which somebody
    else renews and the services' user can read; it wants `ca_directory`."""
    rights: dict[Name, tuple[FederationPath, ...]] = {}
    """Directories there that the members of each group may read."""
    everybody: tuple[FederationPath, ...] = ()
    """Directories there that everybody in the VO may read."""


class ServiceClient(_Model):
    """A service's client at an issuer that somebody else runs."""

    id: str
    """Its name there."""
    secret_file: AbsolutePath
    """File with its secret."""


class ExternalIssuer(_Model):
    """An issuer that somebody else runs, in place of the facility's own, which then does not run.

    It must give tokens with the audiences of copy doors to the clients of services only (docs/topics/issuers.md).
    """

    url: IssuerUrl
    """Its URL, byte for byte the `iss` of its tokens."""
    ca_file: AbsolutePath | None = None
    """CAs that its certificate must chain to, PEM; they join the facility's bundle. Those of the host if not given."""
    client_id: str
    """The public client with which people log in by device code."""
    rucio: ServiceClient
    """The catalogue's client: client credentials for `fts` and storage scopes."""
    transfers: ServiceClient
    """The transfer service's client: token exchange for all the others' tokens."""
    cache: ServiceClient
    """The caches' client: client credentials for `storage.read:/`."""
    operator: ServiceClient
    """The operator's client: client credentials for everything; it is root in the catalogue."""
    key_refresh: Duration = 300.0
    """How often its keys are asked for, in seconds."""


class Embedded(_Model):
    """Settings of the services that Boathouse runs itself."""

    address: Address = "127.0.0.1"
    """Address on which issuer, catalogue and transfer service listen."""
    issuer_port: Port | None = None
    """Port of the token issuer; chosen once and kept if not given."""
    catalogue_port: Port | None = None
    """Port of the Rucio server; chosen once and kept if not given."""
    transfers_port: Port | None = None
    """Port of the transfer service; chosen once and kept if not given."""
    copy_from: tuple[Network, ...] = ()
    """Networks of private addresses, e.g. ``10.0.0.0/8``, from which storage elements may fetch what users name.
    Public addresses and the facility's own elements are always allowed."""
    issuer: ExternalIssuer | None = None
    """An issuer to use instead of the facility's own; users are told by `identities.issuer`."""
    login_at: Name | None = None
    """The issuer in `issuers` at which `boathouse login` logs people in; the facility's own if not given."""
    issuer_processes: Annotated[int, Field(ge=1, le=16)] = 1
    """Processes of the token issuer; they share its port, its database and its keys."""
    signature_algorithm: Literal["ES256", "RS256"] = "ES256"
    """Algorithm of tokens' signatures; after a change, new tokens have it two days later, and old ones stay good."""
    token_lifetime: Duration = 3600.0
    """Life of an access token, in seconds (WLCG profile 4.3.1: 15 min to 6 h)."""
    certificate_lifetime: Duration = 90 * 86400.0
    """Life of a server certificate, in seconds; renewed when a third of it is left."""
    disk_reserve: Size = 1_000_000_000
    """Free disk below which writers are stopped, in bytes."""
    rucio_extra_config: str = ""
    """Raw lines appended to ``rucio.cfg`` (escape hatch)."""
    postgres_extra_config: str = ""
    """Raw lines appended to ``postgresql.conf`` (escape hatch)."""


class Facility(_Model):
    """A whole facility: sites with storage and caches, people, groups and name spaces."""

    version: Literal[1] = 1
    """Version of this file's format."""
    name: Name
    """Short name of the facility."""
    description: str = ""
    """One line for people."""
    vo: Name
    """The virtual organisation; root of all group names."""
    sites: Annotated[dict[SiteName, Site], Field(min_length=1)]
    """Computing centres by name."""
    network: WideAreaNetwork | None = None
    """Distance between the sites; without it they are next to each other."""
    groups: dict[Name, Group] = {}
    """Groups of the VO by name."""
    users: dict[Name, User] = {}
    """People by login name."""
    scopes: dict[ScopeName, Scope] = {}
    """Shared Rucio scopes by name; every user also has ``user.<login>``."""
    issuers: dict[Name, Issuer] = {}
    """Other token issuers that the facility trusts, by a name of your choice."""
    identity_providers: dict[Name, IdentityProvider] = {}
    """Where else people may sign in, by a name of your choice."""
    stores: dict[Name, Store] = {}
    """Storage of others' to copy from and to, by a name of your choice."""
    federations: dict[Name, Federation] = {}
    """Lakes of others' that caches stand before, by a name of your choice."""
    services: Embedded = Embedded()
    """Settings of the embedded services."""

    @property
    def storage(self) -> dict[str, Storage]:
        """All storage elements by RSE name, in file order."""
        return {rse: element for site in self.sites.values() for rse, element in site.storage.items()}

    @property
    def caches(self) -> dict[str, Cache]:
        """All caches by name, in file order."""
        return {name: cache for site in self.sites.values() for name, cache in site.caches.items()}

    def site_of(self, element: str) -> str:
        """The site of a storage element or cache.

        Raises:
            KeyError: there is none of that name.
        """
        for name, site in self.sites.items():
            if element in site.storage or element in site.caches:
                return name
        raise KeyError(element)

    def distance(self, one: str, other: str) -> Distance | None:
        """How far two sites are from each other; None if nothing lies between them."""
        if self.network is None or one == other:
            return None
        links = (link for link in self.network.links.values() if {one, other} == set(link.between))
        found = next(links, self.network.default)
        return found if found.rtt or found.bandwidth else None

    def chain_of(self, cache: str) -> tuple[str, ...]:
        """A cache and those behind it, from the reader's side to the lake's.

        Raises:
            KeyError: there is no cache of that name.
        """
        caches = self.caches
        chain, behind = [cache], caches[cache].upstreams
        while len(behind) == 1 and behind[0] in caches and behind[0] not in chain:
            chain.append(behind[0])
            behind = caches[behind[0]].upstreams
        return tuple(chain)

    def parent_of(self, cache: str) -> str | None:
        """The cache that a cache reads from; None if it reads from storage elements.

        Raises:
            KeyError: there is no cache of that name.
        """
        return next(iter(self.chain_of(cache)[1:]), None)

    def upstreams_of(self, cache: str) -> tuple[str, ...]:
        """RSE names behind a cache, or behind the last one of its chain, in file order; none before a federation.

        Raises:
            KeyError: there is no cache of that name.
        """
        last = self.caches[self.chain_of(cache)[-1]]
        if last.mode is CacheMode.translating:
            return ()
        return tuple(self.storage) if last.upstreams == "lake" else last.upstreams

    def group_path(self, group: str) -> str:
        """A group's name in tokens (WLCG profile 2.2.2)."""
        return f"/{self.vo}/{group}"
