"""The seed file: groups, people, clients and policies as the facility file wants them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from boathouse.apps.tokens.admin.checks import LOGIN, PRINTABLE
from boathouse.apps.tokens.persistence.records import GRANT_NAMES, GRANTS
from boathouse.errors import InputError
from boathouse.wlcg.scopes import group_name, parse


def _checked(value: str, check: Any) -> str:
    try:
        check(value)
    except InputError as error:
        message = f"{error.what}: expected {error.expected}, got {error.got}"
        raise ValueError(message) from error
    return value


def _scope(value: str) -> str:
    return _checked(value, parse)


def _group(value: str) -> str:
    return _checked(value, group_name)


def _grant(value: str) -> str:
    full = GRANT_NAMES.get(value, value)
    if full not in GRANTS:
        message = f"not a grant: {value}"
        raise ValueError(message)
    return full


ScopeText = Annotated[str, AfterValidator(_scope)]
GroupName = Annotated[str, AfterValidator(_group)]
Printable = Annotated[str, Field(pattern=f"^{PRINTABLE}$")]
Grant = Annotated[str, AfterValidator(_grant)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SeedGroup(_Entry):
    """A group; an optional one stands in a token only when it is asked for by name."""

    name: GroupName
    optional: bool = False
    description: str = ""


class SeedIdentity(_Entry):
    """What a person is at another provider."""

    iss: Printable
    sub: Annotated[str, Field(min_length=1, max_length=255)]


class SeedUser(_Entry):
    """A person who signs in with a password, or elsewhere."""

    login: Annotated[str, Field(pattern=f"^{LOGIN}$")]
    sub: Printable
    password: SecretStr
    name: str = ""
    email: str = ""
    groups: tuple[GroupName, ...] = ()
    admin: bool = False
    identities: tuple[SeedIdentity, ...] = ()


class SeedClient(_Entry):
    """A program; without a secret it is a public client, which must use PKCE or a device code."""

    client_id: Printable
    name: str = ""
    secret: SecretStr | None = None
    grants: tuple[Grant, ...]
    scopes: tuple[ScopeText, ...]
    redirect_uris: tuple[str, ...] = ()
    exchange_from: tuple[str, ...] = ()
    """Clients whose tokens it may exchange; its own it always may."""
    audiences: tuple[Printable, ...] | None = None
    """The audiences that it may ask for; any if absent."""
    trusted: bool = False
    """Whether people are spared the question for consent."""
    hands_over: bool = False
    """Whether whoever began a login gets its token; people are then asked at each login, and told so."""


class SeedPolicy(_Entry):
    """A scope policy for one account, one group, or (with neither) everybody."""

    effect: Literal["PERMIT", "DENY"]
    scopes: Annotated[tuple[ScopeText, ...], Field(min_length=1)]
    account: str = ""
    group: GroupName | Literal[""] = ""
    description: str = ""


class Seed(_Entry):
    """The whole file."""

    groups: tuple[SeedGroup, ...] = ()
    users: tuple[SeedUser, ...] = ()
    clients: tuple[SeedClient, ...] = ()
    policies: tuple[SeedPolicy, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Seed:
        groups = {group.name for group in self.groups}
        faults = [f"user {u.login}: no group {g}" for u in self.users for g in u.groups if g not in groups]
        faults += [f"policy: no group {p.group}" for p in self.policies if p.group and p.group not in groups]
        clients = [client.client_id for client in self.clients]
        for kind, names in (
            ("group", [group.name for group in self.groups]),
            ("login", [user.login for user in self.users]),
            ("subject or client", [user.sub for user in self.users] + clients),
        ):
            faults += [f"{kind} {name} occurs twice" for name in sorted({n for n in names if names.count(n) > 1})]
        if faults:
            raise ValueError("; ".join(faults))
        return self


def load(path: Path) -> Seed:
    """The seed in a file.

    Raises:
        InputError: it cannot be read or is wrong; no secret is in the message.
    """
    try:
        return Seed.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError("the seed file cannot be read", got=str(error), where=str(path)) from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise InputError("the seed file is wrong", got=faults, where=str(path)) from error
