"""The database as seen by several requests in one transaction: each question is asked once for all of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ARRAY, Connection, LargeBinary, Text, and_, any_, bindparam, insert, or_, select, update

from boathouse.apps.tokens.passwords import Hasher
from boathouse.apps.tokens.persistence import schema as t
from boathouse.apps.tokens.persistence.records import Client, RefreshToken, User
from boathouse.apps.tokens.persistence.store import POLICY_COLUMNS, USERS, Store, policy_of, user_of
from boathouse.apps.tokens.rights.policies import Policy

_KEYS = any_(bindparam("keys", type_=ARRAY(LargeBinary)))
# In one order, so that two transactions never wait for each other.
_TOKENS = (
    select(t.refresh_tokens).where(t.refresh_tokens.c.hash == _KEYS).order_by(t.refresh_tokens.c.hash).with_for_update()
)
_USERS = USERS.where(t.users.c.sub == any_(bindparam("keys", type_=ARRAY(Text))))
_POLICIES = select(*POLICY_COLUMNS).where(
    or_(
        t.policies.c.account == any_(bindparam("accounts", type_=ARRAY(Text))),
        and_(t.policies.c.account == "", t.policies.c.grp == any_(bindparam("groups", type_=ARRAY(Text)))),
    )
)
_ROTATE = (
    update(t.refresh_tokens)
    .where(t.refresh_tokens.c.hash == _KEYS, t.refresh_tokens.c.rotated_at.is_(None))
    .values(rotated_at=bindparam("now"))
)
_ADD = insert(t.refresh_tokens)


class Shared(Store):
    """Looks each client up once."""

    def __init__(self, connection: Connection, hasher: Hasher) -> None:
        super().__init__(connection, hasher)
        self._clients: dict[str, Client | None] = {}

    def client(self, client_id: str) -> Client | None:
        """See the base class."""
        if client_id not in self._clients:
            self._clients[client_id] = super().client(client_id)
        return self._clients[client_id]


class ForRefreshes(Shared):
    """Reads all that refreshes need before the first of them, and writes what they change after the last one.

    Args:
        connection: with a transaction open on it.
        hasher: hashes client secrets.
        keys: fingerprints of the refresh tokens that will be asked for.
    """

    def __init__(self, connection: Connection, hasher: Hasher, keys: Sequence[bytes]) -> None:
        super().__init__(connection, hasher)
        self._added: list[dict[str, Any]] = []
        self._rotated: list[bytes] = []
        rows = connection.execute(_TOKENS, {"keys": list(keys)}).mappings()
        self._tokens: dict[bytes, RefreshToken | None] = dict.fromkeys(keys)
        self._tokens.update((row["hash"], RefreshToken(**row)) for row in rows)
        # Whoever held them until now may have changed them later than when this transaction began.
        self.now = int(time.time())
        subs = list({token.sub for token in self._tokens.values() if token})
        self._users: dict[str, User | None] = dict.fromkeys(subs)
        if subs:
            found = connection.execute(_USERS, {"keys": subs, "now": self.now}).mappings()
            self._users.update((row["sub"], user_of(row)) for row in found)
        self._policies = self._policies_of([user for user in self._users.values() if user])

    def _policies_of(self, users: Sequence[User]) -> tuple[Policy, ...]:
        if not users:
            return ()
        groups = {"", *(group for user in users for group in user.groups)}
        whom = {"accounts": [user.login for user in users], "groups": list(groups)}
        return tuple(policy_of(row) for row in self.connection.execute(_POLICIES, whom))

    def user(self, sub: str) -> User | None:
        """See the base class."""
        return self._users[sub] if sub in self._users else super().user(sub)

    def policies(self, user: User) -> tuple[Policy, ...]:
        """See the base class."""
        if self._users.get(user.sub) != user:
            return super().policies(user)
        groups = ("", *user.groups)
        return tuple(
            policy
            for policy in self._policies
            if policy.account == user.login or (not policy.account and policy.group in groups)
        )

    def refresh_token(self, key: bytes) -> RefreshToken | None:
        """See the base class; what was read before is given once, for whoever asks first may change it."""
        if key in self._tokens:
            return self._tokens.pop(key)
        self.flush()
        return super().refresh_token(key)

    def add_refresh_token(self, **values: Any) -> None:
        """See the base class."""
        self._added.append(values)

    def rotate_refresh_token(self, key: bytes) -> None:
        """See the base class."""
        self._rotated.append(key)

    def revoke_family(self, family: str) -> None:
        """See the base class."""
        self.flush()
        super().revoke_family(family)
        # Some of what was read may be of this family.
        self._tokens.clear()

    def flush(self) -> None:
        """Write what was changed."""
        if self._added:
            self.connection.execute(_ADD, self._added)
        if self._rotated:
            self.connection.execute(_ROTATE, {"keys": self._rotated, "now": self.now})
        self._added, self._rotated = [], []
