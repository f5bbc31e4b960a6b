"""Administration of people, groups, policies and clients as functions: rights, effects, records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from boathouse.apps.tokens.admin import clients, grants, groups, policies, requests, users
from boathouse.apps.tokens.admin.desk import Actor, Desk
from boathouse.apps.tokens.passwords import Hasher
from boathouse.apps.tokens.persistence import database, schema
from boathouse.apps.tokens.persistence.store import Store
from boathouse.apps.tokens.trail import audit, history
from boathouse.apps.tokens.upstream.identities import Identities
from boathouse.apps.tokens.upstream.providers import Provider
from boathouse.errors import AuthError, ConflictError, InputError, NotFoundError
from boathouse.testing.postgres import Databases
from boathouse.testing.units import Units

OPERATOR = Actor("operator", reads=True, writes=True)
PROVIDER = Provider(name="other", title="Other", issuer="https://other.example", client_id="lake")
HASHER = Hasher(b"k" * 32)


@dataclass
class Office:
    """A database of its own, and desks in it."""

    engine: Any
    now: float = 1_000_000.0

    def do(self, work: Callable[[Desk], Any], actor: Actor = OPERATOR, reason: str = "") -> Any:
        """Work at a desk, as a request does."""
        with self.engine.begin() as connection:
            store = Store(connection, HASHER, clock=lambda: self.now)
            result = work(Desk(store, actor, reason=reason, address="127.0.0.9"))
            audit.append(connection, store.changes)
            return result

    def person(self, login: str) -> Actor:
        """Somebody who has signed in."""

        def look(desk: Desk) -> Actor:
            user = desk.store.user(users.find(desk, login).sub)
            assert user is not None
            return Actor.person(user)

        found: Actor = self.do(look)
        return found

    def records(self) -> list[tuple[str, dict[str, Any]]]:
        """All that was recorded so far."""
        with self.engine.connect() as connection:
            rows = connection.execute(text("SELECT event, detail FROM audit ORDER BY seq"))
            return [(row.event, row.detail) for row in rows]


@pytest.fixture(scope="module")
def engine(tokens_units: Units) -> Iterator[Any]:
    made = create_engine(Databases(tokens_units).make("administration", "tokens"))
    database.migrate(made)
    yield made
    made.dispose()


@pytest.fixture
def office(engine: Any) -> Office:
    """With nobody in it but Ada, who administers, Bob and Mia; and with two groups, one of them Mia's to manage."""
    with engine.begin() as connection:
        # Only the test's own superuser could empty the log: it goes on, and the tests look at what is new.
        for table in (
            *("requests", "managers", "members", "policies", "clients", "refresh_tokens", "sessions", "devices"),
            *("codes", "identities"),
        ):
            connection.execute(text(f"DELETE FROM {table}"))
        connection.execute(text("DELETE FROM groups"))
        connection.execute(text("DELETE FROM users"))
        audit.catch_up(connection)
    office = Office(engine)

    def people(desk: Desk) -> None:
        users.add(desk, "ada", admin=True)
        users.add(desk, "bob", name="Bob Beam", email="bob@example.org")
        users.add(desk, "mia")
        # The root is the facility file's.
        desk.connection.execute(text("INSERT INTO groups (name, optional) VALUES ('/vo', false)"))
        desk.changed("group.added", schema.groups, "/vo", whom="/vo")
        groups.add(desk, "/vo/cms")
        groups.add_manager(desk, "/vo/cms", "mia")

    office.do(people)
    return office


def test_every_change_is_recorded_with_who_whom_and_why(office: Office) -> None:
    before = len(office.records())
    ada = office.person("ada")
    office.do(lambda desk: groups.add_member(desk, "/vo", "bob"), ada, "new student")
    office.do(lambda desk: groups.add_member(desk, "/vo", "bob"), ada, "once more changes nothing")
    office.do(lambda desk: policies.add(desk, "PERMIT", "storage.read:/lake", group="/vo"), ada)
    office.do(lambda desk: users.disable(desk, "bob"), ada, "left")
    (added, detail), (policy, _), (disabled, last) = office.records()[before:]
    assert (added, policy, disabled) == ("member.added", "policy.added", "user.disabled")
    assert (detail["who"], detail["whom"], detail["group"], detail["reason"], detail["address"]) == (
        *("ada", "bob", "/vo", "new student", "127.0.0.9"),
    )
    assert last["state"]["row"]["suspended"]
    assert "Beam" not in str(office.records()), "names and addresses are not for ever"
    assert audit.verify(office.engine) > before


def test_what_is_recorded_is_what_is_there(office: Office) -> None:
    def everything(desk: Desk) -> None:
        users.change(desk, "bob", admin=True)
        users.disable(desk, "bob")
        users.enable(desk, "bob")
        groups.add_member(desk, "/vo", "bob", until=1_000_100)
        groups.add_member(desk, "/vo", "bob", until=1_000_200)
        groups.add_member(desk, "/vo/cms", "bob")
        groups.remove_member(desk, "/vo/cms", "bob")
        groups.change(desk, "/vo/cms", optional=True)
        groups.add(desk, "/vo/tmp")
        groups.add_member(desk, "/vo/tmp", "mia")
        policies.add(desk, "DENY", "storage.read:/lake/secret")
        policies.add(desk, "PERMIT", "storage.read:/lake/tmp", group="/vo/tmp")
        policies.add(desk, "PERMIT", "storage.read:/lake/mia", account="mia")
        groups.remove(desk, "/vo/tmp")
        users.remove(desk, "mia")
        clients.add(desk, "mover", grants=["client_credentials", "token_exchange"], scopes="storage.read:/lake")
        clients.add(desk, "cli", grants=["device_code"], scopes="openid", public=True)
        clients.allow_exchange(desk, "mover", "cli")
        clients.change(desk, "mover", audiences=["one"], scopes="storage.read:/lake/cms")
        clients.disable(desk, "cli")
        clients.remove(desk, "cli")

    office.do(everything)
    with office.engine.connect() as connection:
        assert history.replay(connection) == history.snapshot(connection)
        rows = history.snapshot(connection)
    assert [row["account"] for (table, _), row in rows.items() if table == "policies"] == [""], "policies go with them"


@pytest.mark.parametrize(
    "work",
    [
        users.list_,
        lambda desk: users.get(desk, "ada"),
        lambda desk: users.add(desk, "eve"),
        lambda desk: users.change(desk, "bob", admin=True),
        lambda desk: users.disable(desk, "ada"),
        lambda desk: users.remove(desk, "ada"),
        lambda desk: users.set_password(desk, "ada", "a new password"),
        lambda desk: groups.add(desk, "/vo/eve"),
        lambda desk: groups.remove(desk, "/vo"),
        lambda desk: groups.members(desk, "/vo/cms"),
        lambda desk: groups.add_member(desk, "/vo/cms", "bob"),
        lambda desk: groups.remove_member(desk, "/vo/cms", "mia"),
        lambda desk: groups.add_manager(desk, "/vo/cms", "bob"),
        lambda desk: groups.remove_manager(desk, "/vo/cms", "mia"),
        policies.list_,
        lambda desk: policies.add(desk, "PERMIT", "storage.read:/", account="bob"),
        lambda desk: policies.test(desk, "ada", "storage.read:/"),
        clients.list_,
        lambda desk: clients.add(desk, "mine", grants=["client_credentials"], scopes="storage.read:/"),
        lambda desk: grants.list_(desk, "ada"),
        lambda desk: grants.revoke_client(desk, "boathouse", "ada"),
    ],
)
def test_nobody_else_may(office: Office, work: Callable[[Desk], Any]) -> None:
    office.do(lambda desk: groups.add_member(desk, "/vo/cms", "mia"))
    before = office.records()
    with pytest.raises(AuthError):
        office.do(work, office.person("bob"))
    assert office.records() == before


def test_people_see_and_change_what_is_their_own(office: Office) -> None:
    office.do(lambda desk: users.set_password(desk, "bob", "the first password"))
    bob = office.person("bob")
    assert office.do(lambda desk: users.get(desk, "bob"), bob).name == "Bob Beam"
    with pytest.raises(AuthError, match="old password"):
        office.do(lambda desk: users.set_password(desk, "bob", "the next password"), bob)
    office.do(lambda desk: users.change_password(desk, "the next password"), bob)
    assert office.do(lambda desk: policies.test(desk, "bob", "storage.read:/"), bob).because == (
        "no policy permits storage.read on /",
    )
    office.do(lambda desk: groups.add_member(desk, "/vo", "bob"))
    office.do(lambda desk: groups.remove_member(desk, "/vo", "bob"), bob, "I leave")
    assert office.do(grants.list_, bob) == []


def test_managers_look_after_their_own_group_and_no_other(office: Office) -> None:
    mia = office.person("mia")
    office.do(lambda desk: groups.add_member(desk, "/vo/cms", "bob", until=1_000_010), mia)
    (member,) = office.do(lambda desk: groups.members(desk, "/vo/cms"), mia)
    assert (member.login, member.expires_at) == ("bob", 1_000_010)
    with pytest.raises(AuthError):
        office.do(lambda desk: groups.add_member(desk, "/vo", "bob"), mia)
    office.now = 1_000_010
    assert office.do(lambda desk: groups.members(desk, "/vo/cms"), mia) == []
    assert office.person("bob").user.groups == ()  # type: ignore[union-attr]
    office.do(lambda desk: groups.remove_manager(desk, "/vo/cms", "mia"))
    with pytest.raises(AuthError):
        office.do(lambda desk: groups.members(desk, "/vo/cms"), mia)


def test_requests_are_made_by_people_and_decided_by_managers(office: Office) -> None:
    bob, mia = office.person("bob"), office.person("mia")
    made = office.do(lambda desk: requests.ask(desk, "/vo/cms", notes="my thesis"), bob)
    with pytest.raises(ConflictError, match="already asked"):
        office.do(lambda desk: requests.ask(desk, "/vo/cms"), bob)
    with pytest.raises(AuthError):
        office.do(lambda desk: requests.approve(desk, made.id), bob)
    assert [one.login for one in office.do(lambda desk: requests.list_(desk, status="PENDING"), mia)] == ["bob"]
    done = office.do(lambda desk: requests.approve(desk, made.id, until=1_000_500), mia, "welcome")
    assert (done.status, done.decided_by, done.motivation) == ("APPROVED", "mia", "welcome")
    assert office.person("bob").user.groups == ("/vo/cms",)  # type: ignore[union-attr]
    with pytest.raises(ConflictError, match="already a member"):
        office.do(lambda desk: requests.ask(desk, "/vo/cms"), office.person("bob"))
    other = office.do(lambda desk: requests.ask(desk, "/vo"), office.person("bob"))
    with pytest.raises(AuthError):
        office.do(lambda desk: requests.reject(desk, other.id), mia)
    with pytest.raises(NotFoundError):
        office.do(lambda desk: requests.get(desk, other.id), mia)
    refused = office.do(lambda desk: requests.reject(desk, other.id), office.person("ada"), "not here")
    assert (refused.status, refused.motivation) == ("REJECTED", "not here")
    with pytest.raises(ConflictError, match="decided already"):
        office.do(lambda desk: requests.withdraw(desk, other.id), bob)
    events = [event for event, _ in office.records()][-5:]
    assert events == ["request.made", "member.added", "request.approved", "request.made", "request.rejected"]


def test_what_belongs_to_the_facility_file_stays(office: Office) -> None:
    with office.engine.begin() as connection:
        for table in ("users", "groups", "policies", "clients", "members"):
            connection.execute(text(f"UPDATE {table} SET owner = 'seed'"))
    office.do(lambda desk: groups.add(desk, "/vo/ours"))

    def make(desk: Desk) -> None:
        groups.add_member(desk, "/vo/cms", "bob")
        groups.add_member(desk, "/vo/ours", "bob")
        clients.add(desk, "theirs", grants=["client_credentials"], scopes="openid")
        policies.add(desk, "PERMIT", "storage.read:/lake", group="/vo")

    office.do(make)
    with office.engine.begin() as connection:
        connection.execute(text("UPDATE members SET owner = 'seed' WHERE grp = '/vo/cms'"))
        connection.execute(text("UPDATE clients SET owner = 'seed'"))
        connection.execute(text("UPDATE policies SET owner = 'seed'"))
    (policy,) = office.do(policies.list_)
    for work in (
        lambda desk: users.change(desk, "bob", admin=True),
        lambda desk: users.remove(desk, "bob"),
        lambda desk: groups.remove(desk, "/vo"),
        lambda desk: groups.change(desk, "/vo", optional=True),
        lambda desk: groups.remove_member(desk, "/vo/cms", "bob"),
        lambda desk: groups.add_member(desk, "/vo/cms", "bob", until=1_000_100),
        lambda desk: clients.change(desk, "theirs", trusted=True),
        lambda desk: clients.remove(desk, "theirs"),
        lambda desk: clients.new_secret(desk, "theirs"),
        lambda desk: clients.allow_exchange(desk, "theirs", "theirs"),
        lambda desk: policies.remove(desk, policy.id),
    ):
        with pytest.raises(ConflictError, match="facility file") as refusal:
            office.do(work)
        assert refusal.value.remedy == "change the facility file, then boathouse up"
    # What is a matter of minutes works, and the facility file does not undo it.
    assert not office.do(lambda desk: users.disable(desk, "bob")).active
    assert not office.do(lambda desk: clients.disable(desk, "theirs")).active


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (lambda desk: users.add(desk, "Eve"), "not a login"),
        (lambda desk: users.add(desk, "eve", name="E\nve"), "not a name"),
        (lambda desk: users.add(desk, "eve", password="short"), "not a password"),
        (lambda desk: groups.add(desk, "vo"), "not a group"),
        (lambda desk: groups.add(desk, "/other"), "outside of the VO"),
        (lambda desk: groups.add(desk, "/other/cms"), "outside of the VO"),
        (lambda desk: groups.add(desk, "/vo/none/cms"), "below a group that is not there"),
        (lambda desk: groups.add_member(desk, "/vo", "bob", until=999_999), "cannot end then"),
        (lambda desk: policies.add(desk, "ALLOW", "fts"), "unknown effect"),
        (lambda desk: policies.add(desk, "DENY", "storage.read"), "without a path"),
        (lambda desk: policies.add(desk, "DENY", "fts", account="bob", group="/vo"), "on an account and on a group"),
        (lambda desk: policies.add(desk, "DENY", " "), "no scope"),
        (lambda desk: policies.add(desk, "DENY", "storage.rd:/lake"), "no policy speaks of this scope"),
        (lambda desk: policies.test(desk, "bob", "storage.fly:/lake"), "no policy speaks of this scope"),
        (lambda desk: clients.add(desk, "a b", grants=["client_credentials"], scopes="openid"), "not a client"),
        (lambda desk: clients.add(desk, "a", grants=["password"], scopes="openid"), "not a grant"),
        *(
            (
                lambda desk, uri=uri: clients.add(
                    desk, "a", grants=["authorization_code"], scopes="openid", redirect_uris=[uri]
                ),
                "not a redirect URI",
            )
            for uri in ("http://example.org/", "https:///x", "/path", "https://a/#x", "javascript:x", "https://*.a/")
        ),
    ],
)
def test_malformed_values_are_named(office: Office, work: Callable[[Desk], Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        office.do(work)


@pytest.mark.parametrize(
    "work",
    [
        lambda desk: users.get(desk, "nobody"),
        lambda desk: users.disable(desk, "nobody"),
        lambda desk: groups.get(desk, "/nowhere"),
        lambda desk: groups.add_member(desk, "/vo", "nobody"),
        lambda desk: policies.add(desk, "DENY", "fts", account="nobody"),
        lambda desk: policies.add(desk, "DENY", "fts", group="/nowhere"),
        lambda desk: policies.remove(desk, 1 << 70),
        lambda desk: clients.get(desk, "nobody"),
        lambda desk: requests.get(desk, "nothing"),
        lambda desk: grants.revoke(desk, "nothing"),
    ],
)
def test_what_is_not_there_is_named(office: Office, work: Callable[[Desk], Any]) -> None:
    with pytest.raises(NotFoundError):
        office.do(work)


def test_a_disabled_person_is_nobody_and_their_logins_have_ended(office: Office) -> None:
    sub = office.do(lambda desk: users.get(desk, "bob")).sub
    ada = office.person("ada")
    live(office, sub)
    before = len(office.records())
    assert [grant.family for grant in office.do(lambda desk: grants.list_(desk, "bob"), ada)] == ["f"]
    office.do(lambda desk: users.disable(desk, "bob"), ada)
    office.do(lambda desk: users.disable(desk, "bob"), ada)
    assert office.do(lambda desk: desk.store.user(sub)) is None
    office.do(lambda desk: users.enable(desk, "bob"), ada)
    assert office.do(lambda desk: desk.store.user(sub)).login == "bob"
    assert all(office.do(ended))
    events = [event for event, _ in office.records()[before:]]
    assert events == ["user.disabled", "user.enabled"]


def live(office: Office, sub: str) -> None:
    """A browser, a program that renews itself, and one that is about to get its tokens."""

    def begin(desk: Desk) -> None:
        desk.store.add_session(b"session", sub, 2_000_000)
        desk.store.add_refresh_token(
            hash=b"token", family="f", client_id="cli", sub=sub, scope="openid", issued_at=1, expires_at=2_000_000
        )
        usual = {"client_id": "cli", "scope": "openid", "expires_at": 2_000_000, "sub": sub}
        desk.store.add_device(**usual, hash=b"device", user_code="A", interval_s=1, status="approved")
        desk.store.add_code(**usual, hash=b"code", auth_time=1, family="f")

    office.do(begin)


def ended(desk: Desk) -> list[bool]:
    token = desk.store.refresh_token(b"token")
    assert token
    there = (desk.store.session(b"session"), desk.store.device(b"device"), desk.store.code(b"code"))
    return [token.revoked, *(one is None for one in there)]


def test_a_password_that_an_administrator_sets_ends_every_login(office: Office) -> None:
    sub = office.do(lambda desk: users.get(desk, "bob")).sub
    live(office, sub)
    assert not any(office.do(ended))
    office.do(lambda desk: users.set_password(desk, "bob", "a long first one"), office.person("ada"))
    assert all(office.do(ended))
    with pytest.raises(AuthError, match="the old password is needed"):
        office.do(lambda desk: users.set_password(desk, "ada", "a long first one"), office.person("ada"))


def test_who_was_refused_does_not_wait_any_more(office: Office) -> None:
    """A rule of the provider lets in who waits: not who was refused, and not who was let in and then disabled."""

    def stranger(desk: Desk) -> tuple[str, str]:
        links = Identities(desk.connection, desk.store.now)
        return links.make(PROVIDER, {"sub": "them"}, active=False)

    def waits(desk: Desk) -> bool:
        found = Identities(desk.connection, desk.store.now).find(PROVIDER.issuer, "them")
        assert found
        return found.waiting

    sub, _ = office.do(stranger)
    person = office.do(lambda desk: users.get(desk, sub))
    assert (person.active, person.waiting) == (False, True)
    before = len(office.records())
    assert not office.do(lambda desk: users.disable(desk, sub)).waiting
    assert not office.do(waits)
    office.do(lambda desk: users.disable(desk, sub))
    assert office.do(lambda desk: users.enable(desk, sub)).active
    assert not office.do(lambda desk: users.disable(desk, sub)).active
    assert not office.do(waits)
    events = [event for event, _ in office.records()[before:]]
    assert events == ["user.disabled", "user.enabled", "user.disabled"]


def test_a_login_that_was_removed_is_free_and_brings_nothing_along(office: Office) -> None:
    office.do(lambda desk: policies.add(desk, "PERMIT", "storage.read:/lake/bob", account="bob"))
    first = office.do(lambda desk: users.get(desk, "bob")).sub
    office.do(lambda desk: users.remove(desk, "bob"))
    again = office.do(lambda desk: users.add(desk, "bob"))
    assert again.sub != first
    assert not office.do(lambda desk: policies.test(desk, "bob", "storage.read:/lake/bob")).allowed


def test_a_client_gets_a_secret_that_is_kept_as_a_hash(office: Office) -> None:
    registration, secret = office.do(
        lambda desk: clients.add(desk, "mover", grants=["client_credentials"], scopes="storage.read:/lake")
    )
    assert not registration.public
    assert office.do(lambda desk: desk.store.client("mover")).check_client_secret(secret)
    again = office.do(lambda desk: clients.new_secret(desk, "mover"))
    found = office.do(lambda desk: desk.store.client("mover"))
    assert found.check_client_secret(again)
    assert not found.check_client_secret(secret)
    assert secret not in str(office.records())
    assert again not in str(office.records())
    office.do(lambda desk: clients.remove(desk, "mover"))
    with pytest.raises(ConflictError, match="taken"):
        office.do(lambda desk: clients.add(desk, "mover", grants=["client_credentials"], scopes="openid"))
