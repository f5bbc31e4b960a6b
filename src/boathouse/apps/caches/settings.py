"""The service's settings: a JSON file that the driver renders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Port = Annotated[int, Field(ge=1, le=65535)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Cache(_Model):
    """A cache that is cared for."""

    name: str
    """Its name in the facility."""
    site: str
    """Where it stands."""
    level: str
    """Between which readers and the lake: ``node``, ``site`` or ``region``."""
    address: str
    """Where it listens; also the audience of tokens for it."""
    far: tuple[str, ...] = ()
    """Further addresses, by which other sites know it."""
    root_port: Port
    """Where it speaks the XRootD protocol."""
    stream_port: Port
    """Port of 127.0.0.1 to which it sends its g-stream."""
    data: Path
    """Directory of what it keeps."""
    key_cache: Path
    """Its ``XDG_CACHE_HOME``, in which it looks for issuers' keys."""
    size_bytes: Annotated[int, Field(gt=0)]
    """What it may fill."""
    scrub_interval_s: Annotated[float, Field(gt=0)]
    """How often all that it keeps whole is read and compared with the catalogue."""
    of_lake: bool = True
    """Whether its files are the lake's; those of a federation, which the catalogue does not know, are counted only."""


class Settings(_Model):
    """Everything that the service must know."""

    listen_address: str
    """Address to listen on."""
    port: Port
    """Port to listen on."""
    url: str
    """Where caches and clients know it; the issuer of the tokens with which it speaks to caches."""
    certificate: Path
    """Certificate chain of the server, PEM."""
    key: Path
    """Its private key, PEM."""
    database: Path
    """SQLite file of what was counted."""
    issuer: str
    """URL of the token issuer, byte for byte the ``iss`` of its tokens."""
    ca_file: Path
    """CA bundle that verifies the issuer and the catalogue."""
    cache_ca_directory: Path
    """Hashed directory of the CA that verifies the caches."""
    service_key_cache: Path
    """Key cache that the facility's keeper fills, for when the issuer does not answer."""
    operators: tuple[str, ...] = ()
    """Subjects that may evict and scrub everything."""
    prefixes: tuple[str, ...]
    """Directories of storage below which scopes begin."""
    caches: tuple[Cache, ...]
    """All of them."""
    xrdfs: Path
    """The XRootD client that asks a cache to forget a file."""
    catalogue: str
    """URL of the Rucio server."""
    client_id: str
    """The operator's client at the issuer, with which checksums are asked for."""
    client_secret: str = Field(repr=False)
    """Secret of that client."""

    @property
    def lake_caches(self) -> tuple[Cache, ...]:
        """Those before this facility's own lake."""
        return tuple(cache for cache in self.caches if cache.of_lake)

    @property
    def doors(self) -> frozenset[str]:
        """``host:port`` of the caches, to tell them from elements among the origins of a file."""
        return frozenset(f"{host}:{cache.root_port}" for cache in self.caches for host in (cache.address, *cache.far))
