"""The token issuer: people, groups, clients and policies of the facility file, as its seed wants them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from boathouse.facility.model import Facility
from boathouse.plan.model import Certificate, File, PortRequest, Probe, ProbeKind, Secret, SecretKind, Unit
from boathouse.plan.service import Context, Contribution, Service
from boathouse.services import trust
from boathouse.services.postgres import database_url
from boathouse.services.rucio import LOGIN_CLIENT, login_redirect
from boathouse.services.transfers import PAGES_CLIENT, pages_redirect
from boathouse.wlcg.directories import scope_directories
from boathouse.wlcg.scopes import PROFILE

CONFIDENTIAL_CLIENTS = ("rucio", "rucio-admin", LOGIN_CLIENT, "transfers", "cache", "operator")
"""Clients with a secret, which is in ``secrets/client-<name>``."""

PEOPLE = "boathouse"
"""The public client of people's command line."""

_IDENTITY = ("openid", "profile", "email", "offline_access", *PROFILE, "wlcg.groups")
_ANYWHERE = ("storage.read:/", "storage.create:/", "storage.modify:/")
ADMINISTRATION = ("iam:admin.read", "iam:admin.write", "scim:read", "scim:write")
_JOBS = ("compute.read", "compute.create", "compute.modify", "compute.cancel")
_WRITERS = ("storage.read", "storage.create", "storage.modify", "storage.stage")
_OWNERS = ("storage.read", "storage.create", "storage.modify")
_READERS = ("storage.read",)
_ALL = ("storage.read", "storage.create", "storage.modify", "storage.stage", "storage.poll")


class TokenIssuer(Service):
    """The issuer that the whole lake trusts."""

    name: ClassVar[str] = "tokens"

    def ports(self, facility: Facility) -> tuple[PortRequest, ...]:
        """The issuer's port; none if somebody else's issuer stands for it."""
        if facility.services.issuer:
            return ()
        return (PortRequest(self.name, facility.services.address, facility.services.issuer_port),)

    def plan(self, context: Context) -> Contribution:
        """One unit with its settings and its seed; none if somebody else's issuer stands for it."""
        if context.facility.services.issuer:
            return Contribution()
        settings = File(context.config(self.name, "settings.json"), json.dumps(_settings(context), indent=2))
        seed = File(_seed_path(context), json.dumps(seed_of(context), indent=1))
        unit = Unit(
            name=self.name,
            title="token issuer",
            command=context.programs.daemon("boathouse.apps.tokens", settings.path),
            probe=Probe(ProbeKind.https, target=f"{context.issuer}/health"),
            needs=("postgres",),
            directories=(context.data(self.name), _keys(context)),
            files=(settings, seed, *_provider_files(context)),
            url=context.issuer,
        )
        count = context.facility.services.issuer_processes
        # The first one makes keys and tables; whoever asks for the port is answered by any of them.
        others = (
            replace(unit, name=f"{self.name}-{number}", title=f"token issuer, process {number}", needs=(self.name,))
            for number in range(2, count + 1)
        )
        users = context.facility.users
        return Contribution(
            units=(unit, *others),
            secrets=(
                Secret("postgres-tokens"),
                *(Secret(f"client-{client}") for client in CONFIDENTIAL_CLIENTS),
                *(Secret(f"sub-{login}", SecretKind.uuid) for login in users),
                *(Secret(f"password-{login}", SecretKind.phrase) for login in users),
                *_provider_secrets(context.facility),
                *trust.secrets(context.facility),
            ),
            certificates=(Certificate(self.name, addresses=(context.addresses[self.name],), dns=("localhost",)),),
        )


def jwks_file(context: Context) -> Path:
    """The issuer's public keys as a file, for seeding the key caches of storage servers."""
    return _keys(context) / "jwks.json"


def _keys(context: Context) -> Path:
    return context.data(TokenIssuer.name) / "keys"


def _seed_path(context: Context) -> Path:
    return context.config(TokenIssuer.name, "seed.json")


def _settings(context: Context) -> dict[str, Any]:
    return {
        "issuer": context.issuer,
        "title": context.facility.description or context.facility.name,
        "listen_address": context.addresses[TokenIssuer.name],
        "port": context.ports[TokenIssuer.name],
        "share_port": context.facility.services.issuer_processes > 1,
        "certificate": str(context.layout.certificate(TokenIssuer.name)),
        "key": str(context.layout.key(TokenIssuer.name)),
        "database_url": database_url(context, "tokens"),
        "keys_dir": str(_keys(context)),
        "seed": str(_seed_path(context)),
        # Programs that register themselves, as oidc-agent does, get no more than people's own client.
        "registration_bound": PEOPLE,
        "signing_algorithm": context.facility.services.signature_algorithm,
        "token_lifetime_s": int(context.facility.services.token_lifetime),
        "trusted": [
            {key: issuer[key] for key in ("name", "url", "ca_file", "base_path", "paths")}
            for issuer in trust.described(context)
        ],
        "key_cache": str(trust.key_cache(context)),
        "trusted_audiences": _unique(context.addresses[f"{rse}.https"] for rse in context.facility.storage),
        "providers": [_provider(context, name) for name in context.facility.identity_providers],
    }


def _provider(context: Context, name: str) -> dict[str, Any]:
    """An identity provider as the issuer wants it: groups by their full names, files where they are copied to."""
    provider = context.facility.identity_providers[name]
    root = f"/{context.facility.vo}"
    return {
        "name": name,
        "title": provider.title or name,
        "issuer": provider.url,
        "client_id": provider.client_id,
        "client_secret": f"${{secret:provider-{name}}}" if provider.client_secret_file else None,
        "ca_file": str(_provider_ca(context, name)) if provider.ca_file else None,
        "scope": " ".join(provider.scopes),
        "newcomers": provider.newcomers.value,
        "admit": [
            {"claim": rule.claim, "value": rule.value, "groups": [root, *map(context.facility.group_path, rule.groups)]}
            for rule in provider.admit.values()
        ],
    }


def _provider_ca(context: Context, name: str) -> Path:
    return context.config(TokenIssuer.name, f"provider-{name}.pem")


def _provider_files(context: Context) -> tuple[File, ...]:
    return tuple(
        File(_provider_ca(context, name), f"${{secret:provider-{name}-ca}}\n")
        for name, provider in context.facility.identity_providers.items()
        if provider.ca_file
    )


def _provider_secrets(facility: Facility) -> tuple[Secret, ...]:
    """Files of the operator, copied to where the services' user can read them."""
    files = (
        (f"provider-{name}{suffix}", path)
        for name, provider in facility.identity_providers.items()
        for suffix, path in (("", provider.client_secret_file), ("-ca", provider.ca_file))
    )
    return tuple(Secret(name, source=Path(path)) for name, path in files if path)


def seed_of(context: Context) -> dict[str, Any]:
    """Groups, people, clients and policies, with placeholders for what is secret."""
    facility = context.facility
    root = f"/{facility.vo}"
    return {
        "groups": [
            {"name": root, "description": f"everybody in {facility.vo}"},
            *(
                {"name": facility.group_path(name), "description": group.description}
                for name, group in facility.groups.items()
            ),
        ],
        "users": [
            {
                "login": login,
                "sub": f"${{secret:sub-{login}}}",
                "password": f"${{secret:password-{login}}}",
                "name": user.name,
                "email": user.email,
                "groups": [root, *map(facility.group_path, user.groups)],
                "admin": user.admin,
                "identities": [
                    {"iss": facility.identity_providers[name].url, "sub": subject}
                    for name, subject in user.identities.items()
                    if name in facility.identity_providers
                ],
            }
            for login, user in facility.users.items()
        ],
        "clients": _clients(context),
        "policies": _policies(facility),
    }


def _clients(context: Context) -> list[dict[str, Any]]:
    return [
        {
            "client_id": PEOPLE,
            "name": "Boathouse on your computer",
            "grants": ["device_code", "refresh_token"],
            "scopes": [*_IDENTITY, "fts", *_ANYWHERE, "storage.stage:/", *_JOBS],
            "audiences": _for_people(context),
        },
        _confidential(
            "rucio",
            "the catalogue (Rucio)",
            grants=["client_credentials", "token_exchange"],
            scopes=[*_IDENTITY, "fts", *_ANYWHERE],
            exchange_from=["boathouse"],
        ),
        _confidential(
            LOGIN_CLIENT,
            "a login to the catalogue (Rucio)",
            # Whoever starts such a login is unknown: it gives no more than the catalogue, and nothing that renews.
            grants=["authorization_code"],
            scopes=["openid", "profile"],
            audiences=["rucio"],
            redirect_uris=[login_redirect(context)],
            hands_over=True,
        ),
        _confidential("rucio-admin", "the catalogue's list of people", scopes=["scim:read"]),
        _confidential(
            "transfers",
            "the transfer service",
            grants=["client_credentials", "token_exchange"],
            scopes=["openid", "offline_access", *_ANYWHERE, "storage.stage:/"],
            # Tokens of queued transfers are renewed by exchange: those that Rucio, people and operators submit with.
            exchange_from=["rucio", "boathouse", "operator", *(f"issuer:{name}" for name in context.facility.issuers)],
        ),
        {
            "client_id": PAGES_CLIENT,
            "name": "the transfer service's pages",
            "grants": ["authorization_code"],
            "scopes": ["openid", "profile", "wlcg.groups", "fts"],
            "audiences": [context.addresses["transfers"]],
            "redirect_uris": [pages_redirect(context)],
            # It is the facility's own, and its token opens nothing but the list of transfers.
            "trusted": True,
        },
        _confidential(
            "cache",
            "the caches",
            scopes=["storage.read:/"],
            # Of elements, and of caches that others read from.
            audiences=_unique(context.addresses[f"{name}.https"] for name in _read_by_caches(context.facility)),
        ),
        _confidential("operator", "the operator", scopes=["openid", "profile", "fts", *_ANYWHERE, *ADMINISTRATION]),
    ]


def _read_by_caches(facility: Facility) -> tuple[str, ...]:
    """Names of what caches read from: elements, and caches behind others."""
    return (*facility.storage, *(parent for name in facility.caches if (parent := facility.parent_of(name))))


def _for_people(context: Context) -> list[str]:
    """Audiences of people's tokens: what people speak with themselves.

    The doors for third-party copies are not among them: XRootD's COPY does not refuse paths with dot segments, so
    only services, which check the paths, get tokens for them.
    """
    doors = (context.addresses[f"{name}.https"] for name in (*context.facility.storage, *context.facility.caches))
    return _unique(["rucio", context.addresses["transfers"], *doors, context.issuer])


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _confidential(client: str, name: str, *, scopes: list[str], **more: Any) -> dict[str, Any]:
    return {
        "client_id": client,
        "name": name,
        "secret": f"${{secret:client-{client}}}",
        "grants": ["client_credentials"],
        "scopes": scopes,
        **more,
    }


def _policies(facility: Facility) -> list[dict[str, Any]]:
    """A Rucio scope is a directory below each prefix: what holds for the scope holds for these paths."""
    prefixes = sorted({element.prefix.rstrip("/") for element in facility.storage.values()}) or ["/lake"]

    def paths(scope: str) -> list[str]:
        return [f"{prefix}/{directory}" for prefix in prefixes for directory in scope_directories(scope)]

    policies: list[dict[str, Any]] = []
    for scope, owner in facility.scopes.items():
        policies.append(_permit(_WRITERS, paths(scope), group=facility.group_path(owner.group)))
        if facility.groups[owner.group].embargoed:
            # Nobody else may by default either; this holds when somebody later permits a wider path to everybody.
            policies.append({"effect": "DENY", "scopes": _below(_ALL, paths(scope)), "description": "embargo"})
        else:
            policies.append(_permit(_READERS, paths(scope), group=f"/{facility.vo}"))
    own = (_permit(_OWNERS, paths(f"user.{login}"), account=login) for login in facility.users)
    return [*policies, *own]


def _permit(capabilities: Iterable[str], paths: list[str], **whom: str) -> dict[str, Any]:
    return {"effect": "PERMIT", "scopes": _below(capabilities, paths), **whom}


def _below(capabilities: Iterable[str], paths: list[str]) -> list[str]:
    return [f"{capability}:{path}" for path in paths for capability in capabilities]
