"""Other issuers that the facility trusts, as the services are told of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from boathouse.facility.model import Facility
from boathouse.facility.trust import OWN
from boathouse.plan.model import Secret, SecretKind
from boathouse.plan.service import Context


def client_secret(facility: Facility, service: str) -> Secret:
    """The secret of a service's client at the issuer: ours to make, or the operator's."""
    external = facility.services.issuer
    source = Path(getattr(external, service).secret_file) if external else None
    return Secret(f"client-{service}", source=source)


def administrators(context: Context) -> list[str]:
    """Subjects of people who administer the facility; secrets of :func:`subjects` where its own issuer makes them."""
    external = context.facility.services.issuer
    return [
        user.identities[OWN] if external else f"${{secret:sub-{login}}}"
        for login, user in context.facility.users.items()
        if user.admin
    ]


def subjects(facility: Facility) -> tuple[Secret, ...]:
    """The secrets that hold the subjects of administrators."""
    if facility.services.issuer:
        return ()
    return tuple(Secret(f"sub-{login}", SecretKind.uuid) for login, user in facility.users.items() if user.admin)


def needs_issuer(facility: Facility) -> tuple[str, ...]:
    """The unit of the issuer, if the facility runs it."""
    return () if facility.services.issuer else ("tokens",)


def secrets(facility: Facility) -> tuple[Secret, ...]:
    """Copies of the operator's CA files, which the services' user can read."""
    return tuple(
        Secret(_ca_name(name), source=Path(issuer.ca_file))
        for name, issuer in facility.issuers.items()
        if issuer.ca_file
    )


def ca_path(context: Context, name: str) -> str | None:
    """Path of the CAs that an issuer's certificate must chain to; None for those of the host."""
    return str(context.layout.secret(_ca_name(name))) if context.facility.issuers[name].ca_file else None


def key_cache(context: Context) -> Path:
    """The key cache of all services but storage, which has caches of its own: the keeper fills all of them."""
    return context.data("keeper") / "key-cache"


def described(context: Context) -> list[dict[str, Any]]:
    """The issuers with all that a service may ask: URL, CAs, VO, paths, groups and the accounts of these."""
    return [
        {
            "name": name,
            "url": issuer.url,
            "ca_file": ca_path(context, name),
            "vo": issuer.vo or context.facility.vo,
            "paths": list(issuer.paths),
            "base_path": issuer.base_path,
            "groups_claim": issuer.groups_claim,
            "accounts": [[group, account] for group, account in issuer.accounts.items()],
        }
        for name, issuer in context.facility.issuers.items()
    ]


def _ca_name(name: str) -> str:
    return f"issuer-{name}-ca"
