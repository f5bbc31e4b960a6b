"""Rules of whom else the facility trusts: token issuers, identity providers, and people who are known there."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from boathouse.facility.faults import Fault, unknown
from boathouse.facility.model import Facility
from boathouse.wlcg.directories import scope_directories

OWN = "issuer"
"""Stands in a user's identities for ``services.issuer``."""

UNSET_PATH = "/unset"
"""Stands for the paths of an issuer that names none; that fault is told already."""


def elsewhere(facility: Facility) -> Iterator[Fault]:
    """An issuer and an identity provider of one name are one party, and no two names stand for one party."""
    for key in ("issuers", "identity_providers"):
        if OWN in getattr(facility, key):
            yield Fault(
                (key, OWN),
                f"'{OWN}' cannot be a name in {key}",
                expected="another name: in identities it stands for services.issuer",
                got=OWN,
                remedy="rename it",
            )
    for name, issuer in facility.issuers.items():
        provider = facility.identity_providers.get(name)
        if provider is not None and provider.url != issuer.url:
            yield Fault(
                ("identity_providers", name, "url"),
                f"'{name}' is two parties",
                expected=f"{issuer.url}, as in issuers.{name}: a user's identity is told by the name",
                got=provider.url,
                remedy="rename one",
            )
    urls = {
        "issuers": {name: issuer.url for name, issuer in facility.issuers.items()},
        "identity_providers": {name: provider.url for name, provider in facility.identity_providers.items()},
    }
    for key, named in urls.items():
        first: dict[str, str] = {}
        for name, url in named.items():
            other = first.setdefault(url, name)
            if other != name:
                yield Fault(
                    (key, name, "url"),
                    f"{other} and {name} have one URL",
                    expected="one entry for it",
                    got=url,
                    remedy="remove one",
                )


def known_elsewhere(facility: Facility) -> Iterator[Fault]:
    """A user's identities are at parties that the file names, and nobody else's."""
    parties = {name: issuer.url for name, issuer in facility.issuers.items()}
    if facility.services.issuer is not None:
        parties[OWN] = facility.services.issuer.url
    parties |= {name: provider.url for name, provider in facility.identity_providers.items()}
    first: dict[tuple[str, str], str] = {}
    for login, user in facility.users.items():
        for name, subject in user.identities.items():
            place = ("users", login, "identities", name)
            if name not in parties:
                yield unknown(place, "issuer or identity provider", name, parties)
                continue
            other = first.setdefault((parties[name], subject), login)
            if other != login:
                yield Fault(
                    place,
                    f"{other} and {login} are one person there",
                    expected="each subject once",
                    got=subject,
                    remedy="remove one",
                )


def external_issuer(facility: Facility) -> Iterator[Fault]:
    """With an issuer of somebody else's, nothing is asked for that only the facility's own does."""
    external = facility.services.issuer
    if external is None:
        return
    for key, what in (
        ("issuers", "its exchange of other issuers' tokens"),
        ("identity_providers", "its sign-in page"),
    ):
        if getattr(facility, key):
            yield Fault(
                (key,),
                f"{key} want {what}, and services.issuer stands for the facility's own issuer",
                expected="one of them",
                got=", ".join(getattr(facility, key)),
                remedy=f"remove {key}, or services.issuer",
            )
    for login, user in facility.users.items():
        if OWN not in user.identities:
            yield Fault(
                ("users", login),
                f"nobody knows who {login} is at the issuer",
                expected="the subject there",
                got="no identities.issuer",
                remedy=f"users.{login}.identities: {{issuer: SUBJECT}}",
            )
    if facility.services.issuer_port is not None:
        yield Fault(
            ("services", "issuer_port"),
            "no issuer of the facility's own listens",
            expected="issuer or issuer_port",
            got=str(facility.services.issuer_port),
            remedy="remove issuer_port",
        )


def accounts(facility: Facility) -> Iterator[Fault]:
    """Accounts that groups of an issuer stand for exist, and the groups are those of its VO."""
    known = [*facility.groups, *facility.users]
    for name, issuer in facility.issuers.items():
        root = f"/{issuer.vo or facility.vo}"
        for group, account in issuer.accounts.items():
            place = ("issuers", name, "accounts", group)
            if account not in known:
                yield unknown(place, "group or user", account, known)
            if group != root and not group.startswith(f"{root}/"):
                yield Fault(
                    place,
                    f"{group} is no group of {name}'s VO",
                    expected=f"{root} or a group below it",
                    got=group,
                    remedy=f"issuers.{name}.vo: {group.split('/')[1]}",
                )


def paths(facility: Facility) -> Iterator[Fault]:
    """What an issuer may open lies in scopes that the file names: never in people's own ones by a wide path."""
    prefixes = {element.prefix.rstrip("/") for element in facility.storage.values()}
    directories = [
        f"{prefix}/{directory}"
        for prefix in sorted(prefixes)
        for scope in facility.scopes
        for directory in scope_directories(scope)
    ]
    for name, issuer in facility.issuers.items():
        for index, path in enumerate(issuer.paths):
            place = ("issuers", name, "paths", index)
            if path != UNSET_PATH and not any(_within(path, directory) for directory in directories):
                yield Fault(
                    place,
                    f"{path} is not in the directory of a scope",
                    expected=f"one of {', '.join(directories)}, or below" if directories else "a scope in scopes:",
                    got=path,
                    remedy="name the scope's directory",
                )
            if not _within(path, issuer.base_path) and path != UNSET_PATH:
                yield Fault(
                    place,
                    f"{path} cannot be told by {name}'s scopes",
                    expected=f"a path in its base_path {issuer.base_path}",
                    got=path,
                    remedy=f"issuers.{name}.base_path: /",
                )


def _within(path: str, directory: str) -> bool:
    return directory in ("/", path) or path.startswith(f"{directory}/")


def admitted_groups(facility: Facility) -> Iterator[Fault]:
    """Rules of identity providers give groups that exist."""
    for name, provider in facility.identity_providers.items():
        for rule, admission in provider.admit.items():
            for index, group in enumerate(admission.groups):
                if group not in facility.groups:
                    place = ("identity_providers", name, "admit", rule, "groups", index)
                    yield unknown(place, "group", group, facility.groups)
        if "openid" not in provider.scopes:
            yield Fault(
                ("identity_providers", name, "scopes"),
                f"{name} is not asked who signs in",
                expected="openid among the scopes",
                got=", ".join(provider.scopes) or "an empty list",
                remedy="leave it out",
            )


def key_refresh(facility: Facility) -> Iterator[Fault]:
    """Keys are asked for neither all the time nor too late for a rotation."""
    wanted: dict[tuple[str, ...], float] = {
        ("issuers", name, "key_refresh"): issuer.key_refresh for name, issuer in facility.issuers.items()
    }
    if facility.services.issuer is not None:
        wanted["services", "issuer", "key_refresh"] = facility.services.issuer.key_refresh
    for place, refresh_s in wanted.items():
        if not 1 <= refresh_s <= 6 * 3600:
            yield Fault(
                place,
                "key_refresh is out of bounds",
                expected="1 s to 6 h (WLCG profile 4.3.1)",
                got=f"{refresh_s:g} s",
                remedy="leave it out",
            )


def login_issuer(facility: Facility) -> Iterator[Fault]:
    """People can log in where they are sent."""
    name = facility.services.login_at
    if name is None:
        return
    if name not in facility.issuers:
        yield unknown(("services", "login_at"), "issuer", name, facility.issuers)
    elif not facility.issuers[name].client_id:
        yield Fault(
            ("services", "login_at"),
            f"nobody can log in at {name}",
            expected="an issuer with a client_id, a public client for the device code grant",
            got=name,
            remedy=f"issuers.{name}.client_id: NAME",
        )


RULES: tuple[Callable[[Facility], Iterator[Fault]], ...] = (
    elsewhere,
    known_elsewhere,
    accounts,
    paths,
    admitted_groups,
    key_refresh,
    login_issuer,
    external_issuer,
)
