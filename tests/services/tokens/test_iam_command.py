"""``boathouse iam …`` against a running issuer: each command twice, the second time nothing changes."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from boathouse.cli.main import build
from boathouse.errors import AuthError, CatalogueError, ConflictError, InputError, NotFoundError, StateError
from boathouse.lake.approve import approve
from boathouse.lake.http import Http
from boathouse.lake.iam import SCOPE
from boathouse.lake.tokens import Issuer as LakeIssuer
from boathouse.plan.endpoints import dumps
from boathouse.plan.model import Endpoints

from .conftest import PASSWORD, Issuer, Start

SECRET = "secret-of-operator"


class Command:
    """The command line on a state directory."""

    def __init__(self, state: Path) -> None:
        self.state = str(state)

    def run(self, *words: str, given: str | None = None) -> Result:
        return CliRunner().invoke(build(), ["iam", *words, "--state", self.state], input=given)

    def __call__(self, *words: str, given: str | None = None) -> Any:
        result = self.run(*words, "--json", given=given)
        assert result.exit_code == 0, (words, result.output, result.exception)
        return json.loads(result.stdout)

    def fails(self, error: type[Exception], *words: str) -> str:
        result = self.run(*words)
        assert isinstance(result.exception, error), (words, result.output, result.exception)
        return str(result.exception)


@pytest.fixture(scope="module")
def issuer(start_issuer: Start) -> Issuer:
    """One of this module's own, with an operator."""
    started = start_issuer()
    operator = {
        "client_id": "operator",
        "secret": SECRET,
        "grants": ["client_credentials"],
        "scopes": ["openid", *SCOPE.split()],
    }
    started.reload(lambda seed: seed["clients"].append(operator))
    return started


@pytest.fixture(scope="module")
def command(issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Command:
    state = tmp_path_factory.mktemp("state")
    endpoints = Endpoints("tokens", "escape", issuer.url, issuer.url, issuer.url, str(issuer.ca))
    (state / "endpoints.json").write_text(dumps(endpoints))
    (state / "secrets").mkdir()
    (state / "secrets" / "client-operator").write_text(SECRET)
    return Command(state)


def test_a_visitor_comes_and_goes(issuer: Issuer, command: Command) -> None:
    visitors = "/escape/visitors"
    steps: list[tuple[str, ...]] = [
        ("user", "add", "carol", "--name", "Carol Chen", "--email", "carol@example.org"),
        ("group", "add", visitors, "--description", "guests"),
        ("group", "add-manager", visitors, "alice"),
        ("group", "add-member", visitors, "carol", "--until", "2090-12-31", "--reason", "summer"),
        ("policy", "add", "permit", "storage.read:/lake/visit", "--group", visitors),
    ]
    for step in steps:
        assert command(*step)["changed"], step
        assert not command(*step)["changed"], step
    shown = command("group", "show", visitors)
    assert (shown["managers"], shown["description"]) == (["alice"], "guests")
    (member,) = shown["members"]
    assert (member["login"], member["expires_at"]) == ("carol", 3818447999)
    assert "storage.read:/lake/visit" in str(command("policy", "list", "--group", visitors))
    verdict = command.run("policy", "test", "carol", "read", "/lake/visit/file")
    assert verdict.exit_code == 0
    assert "carol may storage.read:/lake/visit/file" in verdict.stdout
    assert "PERMIT storage.read:/lake/visit for members of /escape/visitors" in verdict.stdout
    assert command.run("policy", "test", "bob", "read", "/lake/visit/file").exit_code == AuthError.exit_code

    command("user", "set-password", "carol", "--password-file", "-", given=PASSWORD)
    assert issuer.device_login("carol", scope="storage.read:/")["scope"] == "storage.read:/lake/visit"
    readers = command("audit", "who-could-read", "/lake/visit")
    assert "carol" in [one["name"] for one in readers["entitled"]]
    assert "carol" in [one["name"] for one in readers["holding"]]
    command.fails(NotFoundError, "audit", "who-could-read", "/lake/visit", "--at", "2001-01-01")

    (policy,) = command("policy", "list", "--group", visitors)
    before = time.time()
    told = command.run("user", "disable", "carol", "--reason", "to see what is said").stdout
    until = re.search(r"storage and caches take tokens that are out until (.*) UTC at the latest", told)
    assert until, told
    ends_at = datetime.fromisoformat(until[1]).replace(tzinfo=UTC).timestamp()
    assert before + 3600 <= ends_at + 1 <= time.time() + 3602
    client = LakeIssuer(issuer.url, Http(str(issuer.ca)))
    code = client.device_code("boathouse", scope="openid", audience=())
    for password, words in ((PASSWORD, "account is disabled"), ("a wrong one", "wrong password or unknown user")):
        with pytest.raises(AuthError, match=words):
            approve(client.http, code, login="carol", password=password)
    assert command("user", "enable", "carol")["changed"]
    for step in (
        ("group", "remove-member", visitors, "carol"),
        ("group", "remove-manager", visitors, "alice"),
        ("policy", "remove", str(policy["id"])),
        ("user", "disable", "carol"),
        ("user", "enable", "carol"),
        ("group", "remove", visitors),
        ("user", "remove", "carol", "--reason", "left"),
    ):
        assert command(*step)["changed"], step
        assert not command(*step)["changed"], step
    (record,) = command("audit", "list", "--event", "user.removed")
    assert (record["who"], record["whom"], record["reason"]) == ("operator", "carol", "left")
    assert command("audit", "verify")["unrecorded"] == []


def test_a_client_is_made_and_its_secret_told_once(issuer: Issuer, command: Command) -> None:
    add = ("client", "add", "mover", "--grant", "client_credentials", "--scope", "storage.read:/lake/cms")
    result = command.run(*add)
    secret = result.stdout.strip()
    form = {"grant_type": "client_credentials", "client_id": "mover", "scope": "storage.read:/"}
    assert issuer.post("/token", **form, client_secret=secret).status == 200
    again = command(*add)
    assert not again["changed"]
    assert "client_secret" not in again
    new = command("client", "new-secret", "mover")["client_secret"]
    assert issuer.post("/token", **form, client_secret=secret).status == 401
    assert issuer.post("/token", **form, client_secret=new).status == 200
    for step in (
        ("client", "allow-exchange", "mover", "boathouse"),
        ("client", "forbid-exchange", "mover", "boathouse"),
        ("client", "disable", "mover"),
        ("client", "enable", "mover"),
        ("client", "remove", "mover"),
    ):
        assert command(*step)["changed"], step
        assert not command(*step)["changed"], step


def test_requests_are_decided(issuer: Issuer, command: Command) -> None:
    token = issuer.device_login("bob", scope="openid", audience=issuer.url)["access_token"]
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    body = json.dumps({"groupName": "/escape/magic", "notes": "my thesis"})
    assert issuer.request("POST", "/iam/group_requests", headers=headers, body=body).status == 200
    (asked,) = command("group", "requests")
    assert (asked["username"], asked["notes"]) == ("bob", "my thesis")
    approve = ("group", "approve", asked["uuid"], "--until", "30 d", "--reason", "my student")
    assert command(*approve)["changed"]
    assert not command(*approve)["changed"]
    assert command("group", "requests") == []
    assert command("group", "requests", "/escape/magic", "--all")[0]["motivation"] == "my student"
    assert "bob" in [one["login"] for one in command("group", "show", "/escape/magic")["members"]]


def test_what_cannot_be_done_says_why(command: Command) -> None:
    assert "then boathouse up" in command.fails(ConflictError, "user", "remove", "bob")
    assert "then boathouse up" in command.fails(ConflictError, "user", "change", "bob", "--admin")
    assert "then boathouse up" in command.fails(ConflictError, "client", "remove", "plain")
    command.fails(NotFoundError, "user", "show", "nobody")
    command.fails(NotFoundError, "group", "approve", "nothing")
    command.fails(InputError, "policy", "add", "allow", "fts")
    command.fails(InputError, "policy", "add", "deny", "storage.read")
    command.fails(InputError, "group", "add-member", "/escape", "bob", "--until", "soon")
    assert "bob" in command.run("user", "list").stdout


def test_a_change_behind_the_issuers_back_is_found(issuer: Issuer, command: Command) -> None:
    issuer.sql("INSERT INTO policies (effect, scope) VALUES ('PERMIT', 'storage.read:/')")
    assert "policy.added" in command.fails(StateError, "audit", "verify")
    issuer.sql("DELETE FROM policies WHERE scope = 'storage.read:/'")
    assert "none tampered with" in command.run("audit", "verify").stdout


def test_a_login_that_fails_leaves_the_session_that_was_there(
    issuer: Issuer, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the issuer gives its tokens, and what stands for the catalogue does not know the path."""
    directory, secret = tmp_path / "session", tmp_path / "password"
    monkeypatch.setenv("BOATHOUSE_SESSION", str(directory))
    directory.mkdir()
    (directory / "refresh_token").write_text("of somebody")
    secret.write_text(PASSWORD)
    words = ["login", "--user", "bob", "--password-file", str(secret), "--state", command.state]
    failed = CliRunner().invoke(build(), words)
    assert isinstance(failed.exception, CatalogueError), (failed.output, failed.exception)
    assert issuer.sql("SELECT 1 FROM refresh_tokens WHERE client_id = 'boathouse'"), "the issuer's part went well"
    assert [path.name for path in directory.iterdir()] == ["refresh_token"]
    assert (directory / "refresh_token").read_text() == "of somebody"
