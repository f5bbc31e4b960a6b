"""Settings of the issuer: one JSON file, read once, unknown keys refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from boathouse.apps.tokens.signing.trusted import TrustedIssuer
from boathouse.apps.tokens.upstream.providers import Provider
from boathouse.errors import InputError


def _issuer(value: str) -> str:
    # Clients disagree on how to join a path or a slash to an issuer: it has neither.
    if not re.fullmatch(r"https://[A-Za-z0-9.\-]+(:[0-9]{1,5})?", value):
        msg = "an issuer is https://host[:port], without path and slash"
        raise ValueError(msg)
    return value


Seconds = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """Everything that the issuer is told; durations in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    issuer: Annotated[str, AfterValidator(_issuer)]
    """The issuer's URL, byte for byte as it stands in tokens."""
    title: str = "Boathouse"
    """Name of the facility on the pages."""
    listen_address: str
    """Address to listen on."""
    port: int
    """Port to listen on."""
    share_port: bool = False
    """Whether other processes of this issuer may listen on the same port; the kernel shares out connections."""
    certificate: Path
    """Certificate chain of the server, PEM."""
    key: Path
    """Private key of the server, PEM."""
    database_url: SecretStr
    """SQLAlchemy URL of a PostgreSQL database that belongs to the issuer."""
    keys_dir: Path
    """Directory of the signature keys; ``jwks.json`` in it holds the public ones."""
    seed: Path | None = None
    """File of groups, users, clients and policies that are applied at every start and on SIGHUP."""
    signing_algorithm: Literal["ES256", "RS256"] = "ES256"
    """Algorithm of signatures; after a change, a key of the new one is published and takes over as in a rotation."""
    token_lifetime_s: Annotated[int, Field(ge=1, le=6 * 3600)] = 3600
    """Life of access and identity tokens (WLCG profile 4.3.1: at most 6 h)."""
    refresh_lifetime_s: Annotated[int, Field(ge=1, le=400 * 86400)] = 30 * 86400
    """Life of a refresh token, counted anew at each rotation (WLCG profile 4.3.1: at most 400 d)."""
    refresh_grace_s: Annotated[int, Field(ge=0)] = 86400
    """How long a refresh token that was rotated still works (WLCG profile 4.3.2)."""
    code_lifetime_s: Annotated[int, Field(ge=1, le=600)] = 120
    """Life of an authorization code."""
    device_lifetime_s: Seconds = 600
    """Life of a device code."""
    device_interval_s: Annotated[int, Field(ge=0)] = 2
    """Least time between two polls with a device code."""
    device_codes_at_most: Annotated[int, Field(ge=1)] = 10_000
    """Live device codes of all clients; more are refused until some expire."""
    device_codes_per_client: Annotated[int, Field(ge=1)] = 5_000
    """Live device codes of one client."""
    registration_bound: str = ""
    """Client whose scopes and audiences bound those of clients that register themselves; empty: nobody may."""
    registration_unused_s: Seconds = 86400
    """After what time a registration is forgotten that got no token."""
    registration_idle_s: Seconds = 400 * 86400
    """After what time a registration is forgotten that got no more tokens."""
    registrations_unused_at_most: Annotated[int, Field(ge=1)] = 1_000
    """Registrations that got no token yet; more are refused until some expire."""
    registrations_per_hour: Annotated[int, Field(ge=1)] = 60
    """Registrations of one address in an hour; all people of a machine share its loopback addresses."""
    session_lifetime_s: Seconds = 8 * 3600
    """How long a browser stays signed in."""
    key_activation_s: Annotated[int, Field(ge=0)] = 2 * 86400
    """How long a new key is published before it signs (WLCG profile 4.3.1: at least the key caches' expiry)."""
    key_lifetime_s: Seconds = 182 * 86400
    """How long a key signs before the next one takes over by itself (WLCG profile 4.3.1: 6 months)."""
    login_attempts: Seconds = 5
    """Wrong passwords in a row after which a login is locked for the address that they came from."""
    login_lock_s: Seconds = 30
    """First such lock; doubled at each further wrong password, up to 15 minutes."""
    sweep_s: Seconds = 60
    """How often what has expired is deleted."""
    threads: Annotated[int, Field(ge=1, le=64)] = 12
    """Requests that are worked on at once."""
    providers: tuple[Provider, ...] = ()
    """Where else people may sign in."""
    trusted: tuple[TrustedIssuer, ...] = ()
    """Other issuers whose tokens may be exchanged."""
    trusted_audiences: tuple[str, ...] = ()
    """Audiences, one of which such a token must name."""
    key_cache: Path | None = None
    """Key cache that the facility's keeper fills, for when another issuer does not answer."""

    @model_validator(mode="after")
    def _keys_live_longer_than_they_wait(self) -> Self:
        if self.key_lifetime_s <= self.key_activation_s:
            msg = "key_lifetime_s must be longer than key_activation_s"
            raise ValueError(msg)
        return self


def load(path: Path) -> Settings:
    """The settings in a file.

    Raises:
        InputError: the file cannot be read, is not JSON, or holds a wrong or unknown setting.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError("the issuer's settings cannot be read", got=str(error), where=str(path)) from error
    try:
        return Settings.model_validate(document)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise InputError("the issuer's settings are wrong", got=faults, where=str(path)) from error
