"""Where else people may sign in, and who of them is let in: settings and decisions, no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode

from pydantic import BaseModel, ConfigDict, Field, SecretStr

PATH = "/login/with"
_LOGIN_LENGTH = 20
"""Longest login, so that the scope ``user.<login>`` fits the catalogue."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Rule(_Entry):
    """Whom a provider's claim lets in without asking anybody, and into which groups."""

    claim: str
    """Name of the claim, in the identity token or at the userinfo endpoint."""
    value: str
    """Its value, or one of its values; for ``email``, ``@domain`` stands for every verified address there."""
    groups: tuple[str, ...] = ()
    """Groups that follow from it, by their full names; they are given and taken at each sign-in."""


class Provider(_Entry):
    """An OpenID provider that people may sign in with; the issuer is its client (a relying party)."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_\-]{0,24}$")]
    """Short name; part of the redirect URI, so that each provider has its own."""
    title: str
    """What stands on the button."""
    issuer: Annotated[str, Field(pattern=r"^https://[^\s?#]+$")]
    """Its issuer URL, byte for byte as in its discovery document."""
    client_id: str
    """The name under which this issuer is registered there."""
    client_secret: SecretStr | None = None
    """The secret of that registration; none for a public client."""
    ca_file: Path | None = None
    """CAs that its certificate must chain to, PEM; those of the host if absent."""
    scope: str = "openid profile email"
    """What it is asked for."""
    newcomers: Literal["refuse", "approve"] = "refuse"
    """What happens to somebody whom nobody knows and no rule admits: turned away, or an account that waits."""
    admit: tuple[Rule, ...] = ()
    """Who gets an account at the first sign-in."""

    @property
    def start(self) -> str:
        """Path where a sign-in begins."""
        return f"{PATH}/{quote(self.name)}"

    @property
    def callback(self) -> str:
        """Path of the redirect URI."""
        return f"{self.start}/callback"


@dataclass(frozen=True)
class Admission:
    """What a provider's rules say of a person."""

    admitted: bool
    groups: tuple[str, ...]


def admission(rules: Iterable[Rule], claims: Mapping[str, Any]) -> Admission:
    """Whether a person is let in by a rule, and the groups of all rules that fit, each once."""
    fitting = [rule for rule in rules if _fits(rule, claims)]
    return Admission(bool(fitting), tuple(dict.fromkeys(group for rule in fitting for group in rule.groups)))


def _fits(rule: Rule, claims: Mapping[str, Any]) -> bool:
    said = claims.get(rule.claim)
    values = said if isinstance(said, list) else [said]
    if rule.claim == "email":
        # An address that the provider has not verified may be anybody's (OpenID Connect Core 5.7).
        if claims.get("email_verified") is not True:
            return False
        if rule.value.startswith("@"):
            return any(isinstance(one, str) and one.lower().endswith(rule.value.lower()) for one in values)
    return any(isinstance(one, str) and one == rule.value for one in values)


def login_for(provider: Provider, claims: Mapping[str, Any], taken: Iterable[str]) -> str:
    """A login for somebody new: what the provider calls the person, and the provider's name, never one that is taken.

    A name from elsewhere proves nothing: it must not become that of somebody here.
    """
    said = claims.get("preferred_username") or str(claims.get("email", "")).partition("@")[0]
    word = re.sub(r"[^a-z0-9_]+", "-", str(said).lower()).strip("-_")
    word = word if word[:1].isalpha() else f"u{word}"
    known = set(taken)
    tail = f"-{provider.name}"[: _LOGIN_LENGTH - 2]
    for number in range(1, len(known) + 2):
        end = tail if number == 1 else f"{tail}{number}"
        login = word[: max(1, _LOGIN_LENGTH - len(end))].rstrip("-_") + end
        if login not in known:
            break
    return login


@dataclass(frozen=True)
class Button:
    """A way to sign in, as the sign-in page shows it."""

    title: str
    href: str


def buttons(providers: Iterable[Provider], there: str) -> list[Button]:
    """The buttons of the sign-in page.

    Args:
        providers: in the order of the settings.
        there: the local page that the person comes from.
    """
    return [Button(provider.title, f"{provider.start}?{urlencode({'next': there})}") for provider in providers]
