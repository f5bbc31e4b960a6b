"""Every question to the database, and every change of it, on one connection. SQL only; decides nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, RowMapping, and_, bindparam, case, delete, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import aggregate_order_by, insert

from boathouse.apps.tokens.passwords import Hasher
from boathouse.apps.tokens.persistence import schema as t
from boathouse.apps.tokens.persistence.records import (
    Client,
    Code,
    Credential,
    Device,
    RefreshToken,
    Registration,
    User,
)
from boathouse.apps.tokens.rights.policies import Effect, Policy
from boathouse.apps.tokens.trail import history
from boathouse.wlcg.scopes import narrow, parse

LONGEST_LIFE_S = 6 * 3600
"""No access token lives longer (WLCG profile 4.3.1)."""

# Statements are built once: what a request costs is the database's work, not SQLAlchemy's.
_CLIENT = select(t.clients).where(t.clients.c.client_id == bindparam("key"), t.clients.c.active, ~t.clients.c.suspended)
_MEMBERSHIPS = (
    select(
        func.array_agg(aggregate_order_by(t.groups.c.name, t.members.c.position, t.groups.c.name)).label("names"),
        func.array_agg(aggregate_order_by(t.groups.c.optional, t.members.c.position, t.groups.c.name)).label(
            "optional"
        ),
    )
    .select_from(t.members.join(t.groups, t.members.c.grp == t.groups.c.name))
    .where(
        t.members.c.sub == t.users.c.sub,
        or_(t.members.c.expires_at.is_(None), t.members.c.expires_at > bindparam("now")),
    )
    .lateral("memberships")
)
_USER_COLUMNS = (t.users.c.sub, t.users.c.login, t.users.c.name, t.users.c.email, t.users.c.admin)
USERS = select(*_USER_COLUMNS, _MEMBERSHIPS.c.names, _MEMBERSHIPS.c.optional).where(
    t.users.c.active, ~t.users.c.suspended
)
"""Active people, with the memberships that have not ended at ``now``; :func:`user_of` reads a row."""
_USER_BY_SUB = USERS.where(t.users.c.sub == bindparam("key"))
_CREDENTIAL = select(t.users.c.sub, t.users.c.password, t.users.c.suspended).where(
    t.users.c.login == bindparam("key"), t.users.c.active
)
POLICY_COLUMNS = (t.policies.c.effect, t.policies.c.scope, t.policies.c.account, t.policies.c.grp)
"""What :func:`policy_of` reads."""
_POLICIES = select(*POLICY_COLUMNS).where(
    or_(
        t.policies.c.account == bindparam("account"),
        and_(t.policies.c.account == "", t.policies.c.grp.in_(bindparam("groups", expanding=True))),
    )
)
_REFRESH = select(t.refresh_tokens).where(t.refresh_tokens.c.hash == bindparam("key")).with_for_update()
_CODE = select(t.codes).where(t.codes.c.hash == bindparam("key")).with_for_update()
_DEVICE = select(t.devices).where(t.devices.c.hash == bindparam("key")).with_for_update()
_DEVICE_BY_USER_CODE = select(t.devices).where(t.devices.c.user_code == bindparam("key")).with_for_update()
_DENIED = select(t.denials.c.id).where(
    t.denials.c.issued_until >= bindparam("issued_at"),
    or_(
        and_(t.denials.c.kind == "token", t.denials.c.key == bindparam("jti")),
        and_(t.denials.c.kind == "subject", t.denials.c.key == bindparam("sub")),
        and_(t.denials.c.kind == "client", t.denials.c.key.in_([bindparam("sub"), bindparam("client_id")])),
        and_(t.denials.c.kind == "grant", t.denials.c.key == bindparam("grant")),
    ),
)
_DENIALS = (
    select(t.denials.c.id, t.denials.c.kind, t.denials.c.key, t.denials.c.issued_until, t.denials.c.expires_at)
    .where(t.denials.c.id > bindparam("after"), t.denials.c.expires_at > bindparam("now"))
    .order_by(t.denials.c.id)
)
# A table that was made anew begins to count anew: who waits for a number beyond its last one gets all of it.
_LAST_DENIAL = text("SELECT last_value FROM denials_id_seq")
_SESSION = select(t.sessions.c.sub, t.sessions.c.auth_time).where(
    t.sessions.c.hash == bindparam("key"), t.sessions.c.expires_at > bindparam("now")
)
_REGISTRATION = (
    select(
        *(t.registrations.c[name] for name in ("client_id", "token_hash", "metadata", "registered_at", "used_at")),
    )
    .select_from(t.registrations.join(t.clients, t.registrations.c.client_id == t.clients.c.client_id))
    .where(t.registrations.c.client_id == bindparam("key"), t.clients.c.active)
    .with_for_update(of=t.registrations)
)
_PING = select(1)
_LOCK = text("SELECT pg_advisory_xact_lock(:key)")


def user_of(row: RowMapping | Mapping[str, Any]) -> User:
    """A person from a row of :data:`USERS`."""
    names, optional = row["names"] or (), row["optional"] or ()
    return User(
        **{column.name: row[column.name] for column in _USER_COLUMNS},
        groups=tuple(names),
        optional=frozenset(name for name, rare in zip(names, optional, strict=True) if rare),
    )


def policy_of(row: Row[*tuple[Any, ...]]) -> Policy:
    """A policy from a row of :data:`POLICY_COLUMNS`."""
    return Policy(Effect(row.effect), parse(row.scope), row.account, row.grp)


class Store:
    """The issuer's database as seen by one transaction.

    Args:
        connection: with a transaction open on it.
        hasher: hashes client secrets.
        clock: seconds since the epoch.
    """

    def __init__(self, connection: Connection, hasher: Hasher, *, clock: Callable[[], float] = time.time) -> None:
        self._connection = connection
        self._hasher = hasher
        self.changes: list[tuple[str, dict[str, Any]]] = []
        """Events and details of what was changed; they go into the audit log with the end of the transaction."""
        self.now = int(clock())

    @property
    def connection(self) -> Connection:
        """The connection with the transaction, for whole sets of questions that lie in modules of their own."""
        return self._connection

    @property
    def hasher(self) -> Hasher:
        """Hashes client secrets."""
        return self._hasher

    def _one(self, statement: Any, **values: Any) -> dict[str, Any] | None:
        row = self._connection.execute(statement, values).mappings().one_or_none()
        return dict(row) if row is not None else None

    def ping(self) -> None:
        """Ask the database for a sign of life."""
        self._connection.execute(_PING)

    def lock_changes(self) -> None:
        """Let changes of people, groups, policies and clients follow each other until the end of the transaction."""
        self._connection.execute(_LOCK, {"key": history.CHANGE_LOCK})

    # Who is known

    def client(self, client_id: str) -> Client | None:
        """An active client by name; of one that registered itself, what its bound leaves of it now."""
        row = self._one(_CLIENT, key=client_id)
        if row is None:
            return None
        client = Client(
            client_id=row["client_id"],
            name=row["name"] or row["client_id"],
            secret_hash=row["secret_hash"],
            grants=tuple(row["grants"]),
            scopes=parse(row["scope"]),
            redirect_uris=tuple(row["redirect_uris"]),
            exchange_from=tuple(row["exchange_from"]),
            audiences=None if row["audiences"] is None else frozenset(row["audiences"]),
            trusted=row["trusted"],
            hands_over=row["hands_over"],
            bounded_by=row["bounded_by"],
            hasher=self._hasher,
        )
        if not client.registered:
            return client
        bound = self.client(client.bounded_by)
        if bound is None:
            return None
        return replace(client, scopes=narrow(bound.scopes, client.scopes), audiences=bound.audiences)

    # Clients that registered themselves

    def register_client(self, row: Mapping[str, Any], **values: Any) -> None:
        """Keep a client that registered itself: its row, and the values of its registration."""
        owned = {**row, "exchange_from": [], "active": True, "owner": "registered"}
        self._connection.execute(insert(t.clients), owned)
        registration = {"client_id": row["client_id"], "registered_at": self.now, **values}
        self._connection.execute(insert(t.registrations), registration)

    def registration(self, client_id: str) -> Registration | None:
        """The registration of an active client, locked until the end of the transaction."""
        row = self._one(_REGISTRATION, key=client_id)
        return Registration(**row) if row else None

    def update_registration(self, row: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        """Replace what a client says of itself."""
        key = row["client_id"]
        self._connection.execute(update(t.clients).where(t.clients.c.client_id == key).values(**row))
        changed = update(t.registrations).where(t.registrations.c.client_id == key).values(metadata=metadata)
        self._connection.execute(changed)

    def unregister_client(self, client_id: str, gone_at: int) -> None:
        """Switch a client off for good; it counts for the limits until it is gone."""
        self._connection.execute(update(t.clients).where(t.clients.c.client_id == client_id).values(active=False))
        table = t.registrations
        self._connection.execute(update(table).where(table.c.client_id == client_id).values(expires_at=gone_at))
        self._connection.execute(
            update(t.refresh_tokens).where(t.refresh_tokens.c.client_id == client_id).values(revoked=True)
        )

    def use_registration(self, client_id: str, expires_at: int) -> None:
        """Note that a registration is used; at most once a day, for it is told at each token."""
        table = t.registrations
        stale = or_(table.c.used_at.is_(None), table.c.used_at < self.now - 86400)
        self._connection.execute(
            update(table).where(table.c.client_id == client_id, stale).values(used_at=self.now, expires_at=expires_at)
        )

    def count_registrations(self, address: str) -> tuple[int, int]:
        """Live registrations that got no token yet, and all of one address in the last hour."""
        table = t.registrations
        unused = func.count().filter(table.c.used_at.is_(None), table.c.expires_at > self.now)
        recent = func.count().filter(table.c.address == address, table.c.registered_at > self.now - 3600)
        row = self._connection.execute(select(unused, recent).select_from(table)).one()
        return int(row[0]), int(row[1])

    def is_vouched_name(self, name: str) -> bool:
        """Whether a client that did not register itself has this name, whatever the letters' case."""
        table = t.clients
        either = or_(func.lower(table.c.name) == name.lower(), func.lower(table.c.client_id) == name.lower())
        return self._connection.execute(select(table).where(table.c.bounded_by == "", either)).first() is not None

    def user(self, sub: str) -> User | None:
        """An active person by subject, with the memberships that have not ended."""
        row = self._one(_USER_BY_SUB, key=sub, now=self.now)
        return user_of(row) if row else None

    def credential(self, login: str) -> Credential | None:
        """What somebody signs in with, by login; also of who is switched off."""
        row = self._one(_CREDENTIAL, key=login)
        return Credential(row["sub"], row["password"], row["suspended"]) if row else None

    def policies(self, user: User) -> tuple[Policy, ...]:
        """The policies that concern a person."""
        rows = self._connection.execute(_POLICIES, {"account": user.login, "groups": ["", *user.groups]})
        return tuple(policy_of(row) for row in rows)

    # Authorization codes

    def add_code(self, **values: Any) -> None:
        """Keep an authorization code."""
        self._connection.execute(insert(t.codes), values)

    def code(self, key: bytes) -> Code | None:
        """A code by its fingerprint, locked until the end of the transaction."""
        row = self._one(_CODE, key=key)
        return Code(**row) if row else None

    def use_code(self, key: bytes) -> None:
        """Mark a code as used."""
        self._connection.execute(update(t.codes).where(t.codes.c.hash == key).values(used=True))

    # Device codes

    def add_device(self, **values: Any) -> None:
        """Keep a device code."""
        self._connection.execute(insert(t.devices), values)

    def count_devices(self, client_id: str) -> tuple[int, int]:
        """Live device codes: of all clients, and of this one."""
        table = t.devices
        counts = select(func.count(), func.count().filter(table.c.client_id == client_id)).select_from(table)
        row = self._connection.execute(counts.where(table.c.expires_at > self.now)).one()
        return int(row[0]), int(row[1])

    def device(self, key: bytes) -> Device | None:
        """A device code by its fingerprint, locked until the end of the transaction."""
        row = self._one(_DEVICE, key=key)
        return Device(**row, now=self.now) if row else None

    def device_by_user_code(self, user_code: str) -> Device | None:
        """A device code by what the person types, locked until the end of the transaction."""
        row = self._one(_DEVICE_BY_USER_CODE, key=user_code)
        return Device(**row, now=self.now) if row else None

    def update_device(self, key: bytes, **values: Any) -> None:
        """Change a device code."""
        self._connection.execute(update(t.devices).where(t.devices.c.hash == key).values(**values))

    def delete_device(self, key: bytes) -> None:
        """Forget a device code."""
        self._connection.execute(delete(t.devices).where(t.devices.c.hash == key))

    # Refresh tokens and revocation

    def add_refresh_token(self, **values: Any) -> None:
        """Keep a refresh token."""
        self._connection.execute(insert(t.refresh_tokens), values)

    def refresh_token(self, key: bytes) -> RefreshToken | None:
        """A refresh token by its fingerprint, locked until the end of the transaction."""
        row = self._one(_REFRESH, key=key)
        return RefreshToken(**row) if row else None

    def rotate_refresh_token(self, key: bytes) -> None:
        """Mark a refresh token as replaced by a younger one."""
        table = t.refresh_tokens
        self._connection.execute(
            update(table).where(table.c.hash == key, table.c.rotated_at.is_(None)).values(rotated_at=self.now)
        )

    def revoke_family(self, family: str) -> None:
        """Revoke all refresh tokens that stem from one login."""
        table = t.refresh_tokens
        self._connection.execute(update(table).where(table.c.family == family).values(revoked=True))

    def revoke_stolen(self, family: str, sub: str, client_id: str) -> None:
        """Revoke a family of which a token is in wrong hands, and the access tokens that came of it."""
        self.revoke_family(family)
        self.deny("grant", f"{sub} {client_id}", for_s=LONGEST_LIFE_S)

    def revoke_consent(self, sub: str, client_id: str) -> None:
        """Revoke all that a client holds of a person, the remembered consent too."""
        for table in (t.refresh_tokens, t.consents):
            whose = and_(table.c.sub == sub, table.c.client_id == client_id)
            change = delete(table) if table is t.consents else update(table).values(revoked=True)
            self._connection.execute(change.where(whose))
        self.deny("grant", f"{sub} {client_id}", for_s=LONGEST_LIFE_S)

    def revoke_access_token(self, jti: str, expires_at: int) -> None:
        """Put an access token on the list of revoked ones until its end."""
        self._connection.execute(
            insert(t.revoked_tokens).values(jti=jti, expires_at=expires_at).on_conflict_do_nothing()
        )

    def is_denied(self, claims: Mapping[str, Any]) -> bool:
        """Whether an access token was revoked, by itself or with all that its owner or its client held."""
        sub, client_id = claims["sub"], claims["client_id"]
        values = {"issued_at": claims["iat"], "jti": claims["jti"], "sub": sub, "client_id": client_id}
        found = self._connection.execute(_DENIED, {**values, "grant": f"{sub} {client_id}"})
        return found.first() is not None

    def deny(self, kind: str, key: str, *, for_s: int, issued_until: int | None = None) -> None:
        """Refuse all tokens of one kind that were issued until now.

        Args:
            kind: ``grant`` (what a client holds of a person, ``key`` is both with a space between) or ``key`` (what a
                signature key has signed, ``key`` is its name).
            key: of what.
            for_s: after how many seconds none of them can be alive anyway.
            issued_until: issued until then, seconds since the epoch; until now if None.
        """
        # As in the triggers: who read the database a moment ago may still sign.
        until = self.now + 1 if issued_until is None else issued_until
        self._connection.execute(
            insert(t.denials).values(kind=kind, key=key, issued_until=until, expires_at=self.now + for_s)
        )

    def denials(self, after: int) -> tuple[int, list[dict[str, Any]]]:
        """What was denied after an entry, and the number of the last one."""
        if after > int(self._connection.execute(_LAST_DENIAL).scalar_one()):
            after = 0
        found = [dict(row) for row in self._connection.execute(_DENIALS, {"after": after, "now": self.now}).mappings()]
        return max((entry.pop("id") for entry in found), default=after), found

    # Consents and sessions

    def consent(self, sub: str, client_id: str) -> str:
        """The scope that a person consented to before; empty if none."""
        row = self._one(select(t.consents.c.scope).where(t.consents.c.sub == sub, t.consents.c.client_id == client_id))
        return str(row["scope"]) if row else ""

    def remember_consent(self, sub: str, client_id: str, scope: str) -> None:
        """Remember a consent in place of the former one."""
        values = {"scope": scope, "given_at": self.now}
        self._connection.execute(
            insert(t.consents)
            .values(sub=sub, client_id=client_id, **values)
            .on_conflict_do_update(index_elements=["sub", "client_id"], set_=values)
        )

    def add_session(self, key: bytes, sub: str, expires_at: int) -> None:
        """Keep a browser session."""
        self._connection.execute(
            insert(t.sessions).values(hash=key, sub=sub, auth_time=self.now, expires_at=expires_at)
        )

    def session(self, key: bytes) -> tuple[str, int] | None:
        """Subject and time of login of a live session."""
        row = self._one(_SESSION, key=key, now=self.now)
        return (row["sub"], row["auth_time"]) if row else None

    def delete_sessions(self, sub: str) -> None:
        """End all sessions of a person."""
        self._connection.execute(delete(t.sessions).where(t.sessions.c.sub == sub))

    def delete_session(self, key: bytes) -> None:
        """End a session."""
        self._connection.execute(delete(t.sessions).where(t.sessions.c.hash == key))

    # Attempts

    def locked_until(self, key: str) -> int:
        """When attempts under this key are heard again; 0 if they are heard now."""
        row = self._one(select(t.throttle.c.locked_until).where(t.throttle.c.key == key))
        return int(row["locked_until"]) if row and row["locked_until"] > self.now else 0

    def count_failure(self, key: str, *, forget_s: int) -> int:
        """Count a failed attempt and say how many there were in a row."""
        table = t.throttle
        fresh = {"failures": 1, "locked_until": 0, "expires_at": self.now + forget_s}
        counted = case((table.c.expires_at <= self.now, 1), else_=table.c.failures + 1)
        statement = insert(table).values(key=key, **fresh)
        statement = statement.on_conflict_do_update(
            index_elements=["key"], set_={**fresh, "failures": counted, "locked_until": table.c.locked_until}
        )
        return int(self._connection.execute(statement.returning(table.c.failures)).scalar_one())

    def lock(self, key: str, until: int) -> None:
        """Hear no attempts under this key until then."""
        self._connection.execute(update(t.throttle).where(t.throttle.c.key == key).values(locked_until=until))

    def clear_failures(self, key: str) -> None:
        """Forget the failed attempts under this key."""
        self._connection.execute(delete(t.throttle).where(t.throttle.c.key == key))
