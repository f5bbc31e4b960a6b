"""Credentials that caches show to lakes of somebody else's: fetched or copied, renewed, and given to nobody else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from boathouse.errors import InputError
from boathouse.run.local.account import Account
from boathouse.run.local.state import write_atomically
from boathouse.wlcg.clientcred import ClientCredentials
from boathouse.wlcg.verify import issuer_of

CONNECTED = 0.5
"""Part of a token's life that caches have left when they get it: they show it once a connection, which then lasts."""


@dataclass(frozen=True)
class ForeignClient:
    """The facility's client at an issuer that a federation trusts."""

    issuer: str
    client_id: str
    secret: Path
    ca_file: Path | None
    audience: str
    scope: str


@dataclass(frozen=True)
class Credential:
    """The credential of one federation."""

    federation: str
    paths: tuple[Path, ...]
    """Where caches look for it."""
    source: ForeignClient | Path
    """Where it comes from: an issuer, or a file that somebody else renews."""
    is_proxy: bool = False
    """Whether it is an X.509 proxy, not a token."""

    @classmethod
    def load(cls, raw: Mapping[str, Any]) -> Credential:
        """From the keeper's configuration."""
        client = raw.get("client")
        source: ForeignClient | Path = Path(raw["file"]) if client is None else _client(client)
        paths = tuple(Path(path) for path in raw["paths"])
        return cls(raw["federation"], paths, source, is_proxy=bool(raw.get("proxy")))


class CredentialKeeper:
    """Keeps the credential of one federation fresh.

    Args:
        credential: which.
        own_issuer: the facility's, whose tokens are shown to no federation.
        account: who owns the caches' files.
    """

    def __init__(self, credential: Credential, own_issuer: str, account: Account) -> None:
        self._credential, self._own_issuer, self._account = credential, own_issuer, account
        self._fetch = _fetcher(credential)

    @property
    def duty(self) -> str:
        """What this keeps, for people."""
        return f"credential of {self._credential.federation}"

    def keep(self) -> None:
        """Do what is due now; called once a second. What was there before stays when there is nothing newer.

        Raises:
            BoathouseError: there is no credential to be had now, or it is one of this facility.
            OSError: a cache's file cannot be written.
        """
        text = self._fetch()
        if issuer_of(text) == self._own_issuer:
            raise InputError(
                "a token of this facility is no credential for a federation",
                expected="a token of another issuer",
                got=self._own_issuer,
                where=f"federations.{self._credential.federation}",
                remedy="a cache of the mode user stands before the own lake",
            )
        for path in self._credential.paths:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                write_atomically(path, text, self._account, mode=0o600)


def _fetcher(credential: Credential) -> Callable[[], str]:
    """What gives the credential of now."""
    source = credential.source
    if isinstance(source, Path):
        return partial(_read, source, is_proxy=credential.is_proxy)
    secret = source.secret.read_text(encoding="utf-8").strip()
    client = ClientCredentials(source.issuer, source.client_id, secret, source.ca_file, left=CONNECTED)
    return partial(client.token, source.audience, source.scope)


def _read(source: Path, *, is_proxy: bool) -> str:
    try:
        text = source.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "the credential for a federation cannot be read",
            expected="a file that the services' user can read",
            got=getattr(error, "strerror", None) or str(error),
            where=str(source),
            remedy="give the services' user the right to read it",
        ) from error
    if is_proxy:
        # Its certificate, its key, and the certificate that signed it.
        if text.count("BEGIN CERTIFICATE") < 2 or "PRIVATE KEY" not in text:
            raise InputError("not an X.509 proxy", expected="its chain and its key, PEM", where=str(source))
        return f"{text}\n"
    if len(text.split()) != 1:
        raise InputError("not a token for a federation", expected="one token and nothing else", where=str(source))
    return text


def _client(raw: Mapping[str, Any]) -> ForeignClient:
    ca_file = raw["ca_file"]
    return ForeignClient(
        issuer=raw["issuer"],
        client_id=raw["id"],
        secret=Path(raw["secret"]),
        ca_file=Path(ca_file) if ca_file else None,
        audience=raw["audience"],
        scope=raw["scope"],
    )
