"""The seed that the driver makes of a facility file, read by the issuer's own model and policies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from boathouse.apps.tokens.persistence.seedfile import Seed
from boathouse.apps.tokens.rights.policies import Effect, Policy, allowed
from boathouse.apps.tokens.settings import Settings
from boathouse.facility.model import Facility
from boathouse.plan.model import Layout
from boathouse.plan.service import Context, Programs
from boathouse.run.local.secrets import fill
from boathouse.services.tokens import TokenIssuer, jwks_file
from boathouse.wlcg.scopes import format_scopes, parse

FACILITY = Facility.model_validate(
    {
        "name": "laptop",
        "vo": "escape",
        "sites": {
            "CNAF": {"storage": {"CNAF-STORM": {"qos": "FAST"}}},
            "DESY": {
                "storage": {"DESY-DCACHE": {"qos": "SAFE", "prefix": "/pnfs/lake"}},
                "caches": {"DESY-XCACHE": {}},
            },
        },
        "groups": {"cms": {}, "magic": {"embargoed": True}},
        "users": {"alice": {"name": "Alice", "groups": ["cms", "magic"]}, "bob": {"groups": ["cms"]}, "carl": {}},
        "scopes": {"cms": {"group": "cms"}, "magic": {"group": "magic"}},
    }
)


@pytest.fixture(scope="module")
def context() -> Context:
    nowhere = Path("/nowhere")
    return Context(
        facility=FACILITY,
        layout=Layout(Path("/state")),
        programs=Programs(Path("/bin/python3"), nowhere, nowhere, nowhere, nowhere, "6.2.0"),
        ports={"tokens": 20000, "rucio": 20001, "transfers": 20002},
        addresses={
            "tokens": "127.0.0.1",
            "rucio": "127.0.0.1",
            "transfers": "127.0.0.2",
            "CNAF-STORM.https": "127.0.1.11",
            "CNAF-STORM.copy": "127.0.2.11",
            "DESY-DCACHE.https": "127.0.1.12",
            "DESY-DCACHE.copy": "127.0.2.12",
            "DESY-XCACHE.https": "127.0.1.13",
        },
    )


def filled(context: Context, name: str) -> str:
    contribution = TokenIssuer().plan(context)
    secrets = {secret.name: f"value-of-{secret.name}" for secret in contribution.secrets}
    (text,) = (file.text for file in contribution.units[0].files if file.path.name == name)
    return fill(text, secrets)


@pytest.fixture(scope="module")
def seed(context: Context) -> Seed:
    return Seed.model_validate_json(filled(context, "seed.json"))


def may(seed: Seed, login: str, wanted: str) -> str:
    (user,) = (user for user in seed.users if user.login == login)
    rules = [Policy(Effect(p.effect), parse(" ".join(p.scopes)), p.account, p.group) for p in seed.policies]
    issued = allowed(parse(wanted), account=login, groups=user.groups, admin=user.admin, policies=rules)
    return format_scopes(issued)


def test_settings_are_those_of_the_issuer(context: Context) -> None:
    settings = Settings.model_validate(json.loads(filled(context, "settings.json")))
    assert settings.issuer == "https://localhost:20000"
    assert "value-of-postgres-tokens" in settings.database_url.get_secret_value()
    assert settings.keys_dir / "jwks.json" == jwks_file(context)
    assert settings.token_lifetime_s == 3600


def test_no_secret_is_in_the_plan(context: Context) -> None:
    for file in TokenIssuer().plan(context).units[0].files:
        assert file.mode == 0o600
        assert "${secret:" in file.text or "${quoted-secret:" in file.text


def test_every_placeholder_has_its_secret(seed: Seed) -> None:
    assert {client.client_id for client in seed.clients} == {
        "boathouse",
        "rucio",
        "rucio-admin",
        "rucio-login",
        "transfers",
        "transfers-pages",
        "cache",
        "operator",
    }
    public = [client.client_id for client in seed.clients if client.secret is None]
    assert public == ["boathouse", "transfers-pages"]
    assert {user.sub for user in seed.users} == {"value-of-sub-alice", "value-of-sub-bob", "value-of-sub-carl"}


def test_people_get_no_tokens_for_the_doors_of_copies(context: Context, seed: Seed) -> None:
    audiences = {client.client_id: client.audiences for client in seed.clients}
    elements = ("127.0.1.11", "127.0.1.12")
    assert audiences["boathouse"] == ("rucio", "127.0.0.2", *elements, "127.0.1.13", context.issuer)
    assert audiences["cache"] == elements
    assert [client for client, names in audiences.items() if names is None] == [
        *("rucio", "rucio-admin", "transfers", "operator")
    ]


def test_the_pages_of_the_transfer_service_get_tokens_for_nothing_else(seed: Seed) -> None:
    (client,) = (client for client in seed.clients if client.client_id == "transfers-pages")
    assert client.secret is None, "a public client must prove itself by PKCE"
    assert list(client.redirect_uris) == ["https://127.0.0.2:20002/pages/done"]
    assert (list(client.audiences or ()), list(client.grants)) == (["127.0.0.2"], ["authorization_code"])
    assert not any(scope.startswith(("storage", "offline")) for scope in client.scopes)


def test_the_browser_login_gives_the_catalogue_and_nothing_that_lasts(seed: Seed) -> None:
    (client,) = (client for client in seed.clients if client.client_id == "rucio-login")
    assert client.client_id == "rucio-login"
    assert client.grants == ("authorization_code",)
    assert client.scopes == ("openid", "profile")
    assert client.audiences == ("rucio",)
    assert client.hands_over
    assert not client.trusted
    by_code = [other.client_id for other in seed.clients if "authorization_code" in other.grants]
    assert by_code == ["rucio-login", "transfers-pages"]


def scopes(capability: str, *paths: str) -> str:
    return " ".join(f"storage.{capability}:{path}" for path in paths)


@pytest.mark.parametrize(
    ("login", "wanted", "issued"),
    [
        (
            "alice",
            "storage.read:/",
            scopes(
                "read",
                *(
                    f"{prefix}/{place}"
                    for prefix in ("/lake", "/pnfs/lake")
                    for place in ("cms", "magic", "user.alice", "user/alice")
                ),
            ),
        ),
        ("bob", "storage.modify:/lake", scopes("modify", "/lake/cms", "/lake/user.bob", "/lake/user/bob")),
        ("carl", "storage.modify:/lake", scopes("modify", "/lake/user.carl", "/lake/user/carl")),
        ("carl", "storage.read:/lake", scopes("read", "/lake/cms", "/lake/user.carl", "/lake/user/carl")),
        ("bob", "storage.read:/lake/magic storage.read:/lake/magic/run1 storage.stage:/lake/magic", ""),
        ("bob", "storage.read:/lake/user/alice", ""),
        ("bob", "storage.read:/lake/cmsx", ""),
        ("carl", "storage.create:/lake/cms", ""),
        ("bob", "storage.create:/lake/cms/run1", "storage.create:/lake/cms/run1"),
    ],
)
def test_who_may_what(seed: Seed, login: str, wanted: str, issued: str) -> None:
    assert may(seed, login, wanted) == issued
