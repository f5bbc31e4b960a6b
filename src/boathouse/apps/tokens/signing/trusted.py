"""Tokens of other issuers that the facility trusts: they can be exchanged, for what the facility lets them open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from boathouse.errors import AuthError
from boathouse.wlcg.scopes import STORAGE, Scope, format_scopes, narrow
from boathouse.wlcg.verify import Claims, Verifier, issuer_of


class TrustedIssuer(BaseModel):
    """Another issuer."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    """Its name in the facility."""
    url: str
    """Byte for byte the ``iss`` of its tokens."""
    ca_file: Path | None = None
    """CAs that its certificate must chain to, PEM; those of the host if absent."""
    base_path: str = "/"
    """Where the paths of its scopes begin."""
    paths: tuple[str, ...]
    """What its tokens may open at most."""

    def scopes(self, given: Iterable[Scope]) -> tuple[Scope, ...]:
        """What scopes of its tokens mean here: storage below its base path, within its paths; nothing else."""
        begins = self.base_path.rstrip("/")
        meant = [Scope(one.name, (begins + (one.path or "/")).rstrip("/") or "/") for one in given if one.is_storage]
        allowed = [Scope(name, path) for name in sorted(STORAGE) for path in self.paths]
        return narrow(allowed, meant)


class Trusted:
    """All of them; shared between threads.

    Args:
        issuers: from the settings.
        audiences: the storage elements; a token that is for none of them cannot be exchanged.
        key_cache: that of the facility's keeper, for when one of them does not answer.
    """

    def __init__(
        self, issuers: Iterable[TrustedIssuer], audiences: Iterable[str], key_cache: Path | None = None
    ) -> None:
        self._issuers = {one.url: one for one in issuers}
        known = tuple(audiences)
        self._verifiers = {
            url: Verifier(url, known, one.ca_file, seeded=key_cache) for url, one in self._issuers.items()
        }

    def read(self, token: str) -> Mapping[str, Any] | None:
        """The claims of another issuer's living token as if it were ours; None for anything else.

        The subject has the issuer's name in front, so that it is nobody's here; the client is ``issuer:<name>``, which
        clients that may exchange such tokens have in their registration.

        Raises:
            ServiceError: its keys are not at hand and cannot be had.
        """
        url = issuer_of(token)
        if url not in self._issuers:
            return None
        try:
            claims: Claims = self._verifiers[url].verify(token)
        except AuthError:
            return None
        issuer = self._issuers[url]
        return {
            "sub": f"{issuer.name}:{claims.sub}",
            "client_id": f"issuer:{issuer.name}",
            "scope": format_scopes(issuer.scopes(claims.scopes)),
        }
