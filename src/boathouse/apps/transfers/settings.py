"""Settings of the transfer service: one JSON file, read once."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, IPvAnyNetwork, model_validator

Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


def _key(value: str) -> str:
    try:
        raw = base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        msg = "not URL-safe base64"
        raise ValueError(msg) from error
    if len(raw) != 32:
        msg = f"must encode 32 bytes, not {len(raw)}"
        raise ValueError(msg)
    return value


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True)


class Limits(_Model):
    """How much is done at once, how long things may take, how often they are tried."""

    active: Count = 64
    """Copies that one worker runs at once."""
    per_storage: Count = 32
    """Copies into, and copies out of, one storage element at once, over all workers."""
    per_link: Count = 24
    """Copies from one storage element to one other at once, over all workers."""
    attempts: Count = 3
    """How often a file is tried when a client does not say."""
    retry_delay_s: Seconds = 2.0
    """Wait before the second attempt; four times as long before each further one."""
    connect_s: Seconds = 10.0
    """Time to open a connection to a storage element."""
    answer_s: Seconds = 60.0
    """Time in which a storage element must begin to answer; checksums of large files get more."""
    stall_s: Seconds = 60.0
    """A copy whose byte count has not grown for this long is aborted."""
    digest_from_bytes: Count = 10_000_000
    """From this size on the destination asks the source for the checksum before bytes move. A smaller file is copied as
    soon as that is asked for; the destination's own is compared at the end, whatever the size."""
    digest_to_bytes: Count = 500_000_000
    """Up to this size it does. The source of a larger one would take long for that, while the copy seems to stall."""
    copy_s: Seconds = 86400.0
    """A copy that takes longer than this is aborted."""
    settle_s: Seconds = 6.0
    """After a copy was aborted, its server may write until its next marker (5 s); nothing is touched before."""
    pause_s: Seconds = 60.0
    """Longest pause between tries of a storage element that refuses connections (1 s at first, then doubled)."""
    patience_s: Seconds = 900.0
    """How long a file waits for a storage element that cannot be reached before it fails."""
    token_margin_s: Seconds = 60.0
    """A token that has less than this left is exchanged before it is used."""
    renew_s: Seconds = 600.0
    """A token of a queued file that has less than this left is exchanged in advance."""
    keep_s: Seconds = 7 * 86400.0
    """How long ended jobs can still be asked for at ``/jobs``."""
    archive_s: Seconds = 90 * 86400.0
    """How long ended jobs can be asked for at ``/archive``, from their end."""
    clean_again_s: Seconds = 10.0
    """How long after a failed removal of a partial destination the next one is tried."""
    clean_s: Seconds = 86400.0
    """How long the removal of a partial destination is tried."""
    files_per_job: Count = 10_000
    """Most files in one job."""
    waiting: Count = 5_000_000
    """Most files that may wait or be copied; submissions beyond are refused with 503 and ``Retry-After``."""
    waiting_per_vo: Count = 2_000_000
    """Most files of one VO that may wait."""
    groups_per_vo: Count = 5_000
    """Most different activities and links that files of one VO may wait for: each claim looks at all of them."""
    body_bytes: Count = 64 * 1024 * 1024
    """Largest request body, in bytes."""
    optimize_s: Seconds = 30.0
    """How long a link is measured before its number of copies is decided anew."""
    wait_s: Seconds = 60.0
    """Longest wait of one status request."""

    @model_validator(mode="after")
    def _asked_ahead(self) -> Self:
        if self.digest_from_bytes > self.digest_to_bytes:
            msg = f"digest_from_bytes must be at most digest_to_bytes, {self.digest_to_bytes}"
            raise ValueError(msg)
        return self


class TrustedIssuer(_Model):
    """Another issuer whose people may submit transfers."""

    name: str
    """Its name in the facility; what its people are called begins with it, so that they are never taken for others."""
    url: str
    """Byte for byte the ``iss`` of its tokens."""
    ca_file: Path | None = None
    """CA bundle that verifies it; that of the host if absent."""
    vo: str
    """The VO of its people, whatever groups their tokens name."""


class StoreKind(StrEnum):
    """What a store speaks."""

    s3 = "s3"
    """Amazon's S3, opened by signed requests."""
    webdav = "webdav"
    """WebDAV without third-party copies, opened by a password or a bearer token."""


class Store(_Model):
    """Storage of somebody else's that files may be copied from and to."""

    name: str
    """Its name in the facility."""
    kind: StoreKind
    """What it speaks."""
    host: str
    """``host:port``; without port 443."""
    path: str = ""
    """Where its files lie: for S3 the bucket, and a prefix."""
    region: str = "us-east-1"
    """Region that signatures name."""
    user: str = ""
    """Access key, or user name."""
    secret: str = Field("", repr=False)
    """Secret key, password, or bearer token if there is no user; without it the store is not opened for anybody."""
    write: bool = False
    """Whether files may be copied into it."""
    groups: tuple[str, ...] = ()
    """Groups, ``/vo/group``, whose members use the secret, besides operators."""
    subjects: tuple[str, ...] = ()
    """Subjects that use the secret as well."""

    def holds(self, host: str, path: str) -> bool:
        """Whether a URL's host and path are those of a file in it."""
        return host == self.host and path.startswith(f"{self.path}/")


class Pages(_Model):
    """Pages for people."""

    url: str = Field(pattern=r"^https://[^/]+$")
    """Of the service, as browsers reach it; ``/pages/done`` below it is the client's redirect URI."""
    client_id: str
    """A public client of the issuer with the grant ``authorization_code``."""


class Settings(_Model):
    """Everything that the service must know."""

    listen_address: str
    """Address to listen on."""
    port: Annotated[int, Field(ge=1, le=65535)]
    """Port to listen on."""
    certificate: Path
    """Certificate chain of the server, PEM."""
    key: Path
    """Its private key, PEM."""
    database_url: str = Field(repr=False, pattern=r"^postgresql\+psycopg://")
    """SQLAlchemy URL of the database, ``postgresql+psycopg://role:password@/database?host=/socket/directory``."""
    issuer: str
    """URL of the token issuer, byte for byte the ``iss`` of its tokens."""
    ca_file: Path
    """CA bundle that verifies the issuer and all storage elements."""
    key_cache: Path | None = None
    """Key cache that the facility's keeper fills, for when an issuer does not answer."""
    audience: str
    """The ``aud`` that a client's token must name."""
    vo: str
    """The VO of tokens that name no group."""
    client_id: str
    """The service's own client at the issuer; it exchanges tokens that would run out."""
    client_secret: str = Field(repr=False)
    """Secret of that client."""
    store_key: Annotated[str, AfterValidator(_key)] = Field(repr=False)
    """Key under which tokens lie in the database: 32 bytes in URL-safe base64."""
    doors: Mapping[str, str] = {}
    """Copy door of a storage element, ``host:port``, by the ``host:port`` at which people reach it. Copies into the
    element are asked of the door, with a token for the door's host, for which the caller's own token is exchanged."""
    https_of: Mapping[str, str] = {}
    """Where an element or a copy door speaks https, ``host:port``, by the ``host:port`` at which it speaks the XRootD
    protocol. What a client names ``root://`` is copied over https."""
    far: Mapping[str, Mapping[str, str]] = {}
    """Where a copy door sees elements over a distance: ``host:port`` by that of the door, then by the element's own."""
    destinations: tuple[str, ...] = ()
    """Storage elements, ``host:port``, that may be copied into besides those of ``doors``."""
    copy_from: tuple[IPvAnyNetwork, ...] = ()
    """Networks of private addresses that may be copied from, besides the elements of ``doors``."""
    stores: tuple[Store, ...] = ()
    """Storage of others' to copy from and to."""
    operators: tuple[str, ...] = ()
    """Subjects that may see and cancel everybody's jobs."""
    services: tuple[str, ...] = ()
    """Subjects of the facility's own services, which submit for many people and may have more waiting than one."""
    trusted: tuple[TrustedIssuer, ...] = ()
    """Other issuers whose tokens are accepted. They are exchanged at ``issuer``, which must trust them too."""
    pages: Pages | None = None
    """Pages for people; without it there are none."""
    limits: Limits = Limits()
    """How much, how long, how often."""

    @property
    def elements(self) -> frozenset[str]:
        """All storage elements that are known, and their copy doors, ``host:port``."""
        return frozenset((*self.doors, *self.doors.values(), *self.destinations))
