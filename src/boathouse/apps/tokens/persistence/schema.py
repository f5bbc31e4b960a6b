"""Tables of the issuer. Times are whole seconds since the epoch; secrets and tokens are kept as hashes only.

``owner`` tells who looks after a row: ``seed`` rows follow the seed file, ``admin`` rows are left alone by it,
``registered`` clients look after themselves. ``active`` is false for what is gone, whose name is never given again;
``suspended`` is an administrator's switch, which the seed file leaves alone too.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    false,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = MetaData()


def _text(name: str, default: str | None = "") -> Column[str]:
    return Column(name, Text, nullable=False, server_default=default)


users = Table(
    "users",
    metadata,
    Column("sub", Text, primary_key=True),
    Column("login", Text, nullable=False, unique=True),
    _text("name"),
    _text("email"),
    _text("password"),
    _text("seed_mark"),
    Column("admin", Boolean, nullable=False, server_default=false()),
    Column("active", Boolean, nullable=False),
    Column("suspended", Boolean, nullable=False, server_default=false()),
    _text("owner", "admin"),
)

groups = Table(
    "groups",
    metadata,
    Column("name", Text, primary_key=True),
    Column("optional", Boolean, nullable=False, server_default=false()),
    _text("description"),
    _text("owner", "admin"),
)

members = Table(
    "members",
    metadata,
    Column("sub", Text, ForeignKey("users.sub"), primary_key=True),
    Column("grp", Text, ForeignKey("groups.name"), primary_key=True),
    Column("position", Integer, nullable=False),
    Column("expires_at", BigInteger),
    _text("owner", "admin"),
)

managers = Table(
    "managers",
    metadata,
    Column("sub", Text, ForeignKey("users.sub"), primary_key=True),
    Column("grp", Text, ForeignKey("groups.name"), primary_key=True),
)

requests = Table(
    "requests",
    metadata,
    Column("id", Text, primary_key=True),
    Column("sub", Text, ForeignKey("users.sub"), nullable=False, index=True),
    Column("grp", Text, ForeignKey("groups.name"), nullable=False, index=True),
    _text("status", None),
    _text("notes"),
    Column("created_at", BigInteger, nullable=False),
    Column("decided_at", BigInteger),
    _text("decided_by"),
    _text("motivation"),
)

clients = Table(
    "clients",
    metadata,
    Column("client_id", Text, primary_key=True),
    _text("name"),
    Column("secret_hash", LargeBinary),
    Column("grants", ARRAY(Text), nullable=False),
    _text("scope"),
    Column("redirect_uris", ARRAY(Text), nullable=False),
    Column("exchange_from", ARRAY(Text), nullable=False),
    Column("audiences", ARRAY(Text)),
    Column("trusted", Boolean, nullable=False, server_default=false()),
    _text("bounded_by"),
    Column("hands_over", Boolean, nullable=False, server_default=false()),
    Column("active", Boolean, nullable=False),
    Column("suspended", Boolean, nullable=False, server_default=false()),
    _text("owner", "admin"),
)

registrations = Table(
    "registrations",
    metadata,
    Column("client_id", Text, primary_key=True),
    Column("token_hash", LargeBinary, nullable=False),
    Column("metadata", JSONB, nullable=False),
    _text("address"),
    Column("registered_at", BigInteger, nullable=False, index=True),
    Column("used_at", BigInteger),
    Column("expires_at", BigInteger, nullable=False, index=True),
)

policies = Table(
    "policies",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    _text("effect", None),
    _text("account"),
    _text("grp"),
    _text("scope", None),
    _text("description"),
    _text("owner", "admin"),
    Index("policies_whom", "account", "grp"),
)

codes = Table(
    "codes",
    metadata,
    Column("hash", LargeBinary, primary_key=True),
    _text("client_id", None),
    _text("sub", None),
    _text("redirect_uri"),
    _text("scope", None),
    _text("audience"),
    _text("nonce"),
    _text("challenge"),
    Column("auth_time", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
    _text("family", None),
    Column("used", Boolean, nullable=False, server_default=false()),
)

devices = Table(
    "devices",
    metadata,
    Column("hash", LargeBinary, primary_key=True),
    Column("user_code", Text, nullable=False, unique=True),
    _text("client_id", None),
    _text("scope", None),
    _text("audience"),
    _text("status", "pending"),
    _text("sub"),
    Column("auth_time", BigInteger),
    Column("polled_at", BigInteger, nullable=False, server_default="0"),
    Column("interval_s", Integer, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
    _text("address"),
    Column("begun_at", BigInteger, nullable=False, server_default="0"),
)

refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    Column("hash", LargeBinary, primary_key=True),
    Column("family", Text, nullable=False, index=True),
    _text("client_id", None),
    Column("sub", Text, nullable=False, index=True),
    _text("scope", None),
    _text("audience"),
    Column("act", JSONB),
    Column("auth_time", BigInteger),
    Column("issued_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
    Column("rotated_at", BigInteger),
    Column("revoked", Boolean, nullable=False, server_default=false()),
)

revoked_tokens = Table(
    "revoked_tokens",
    metadata,
    Column("jti", Text, primary_key=True),
    Column("expires_at", BigInteger, nullable=False, index=True),
)

denials = Table(
    "denials",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    _text("kind", None),
    _text("key", None),
    Column("issued_until", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
    Index("denials_whom", "kind", "key"),
)
"""Tokens that count no more although they have not ended, in the order in which that was decided: rows are only added.

Triggers write here when a person or a client is switched off and when a token is revoked, whoever does it.
"""

consents = Table(
    "consents",
    metadata,
    Column("sub", Text, primary_key=True),
    Column("client_id", Text, primary_key=True),
    _text("scope", None),
    Column("given_at", BigInteger, nullable=False),
)

identities = Table(
    "identities",
    metadata,
    _text("iss", None),
    _text("subject", None),
    Column("sub", Text, ForeignKey("users.sub"), nullable=False, index=True),
    Column("waiting", Boolean, nullable=False, server_default=false()),
    Column("linked_at", BigInteger, nullable=False),
    _text("owner", "admin"),
    PrimaryKeyConstraint("iss", "subject"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("hash", LargeBinary, primary_key=True),
    Column("sub", Text, nullable=False, index=True),
    Column("auth_time", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
)

throttle = Table(
    "throttle",
    metadata,
    Column("key", Text, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("locked_until", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
)

audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, nullable=False),
    _text("event", None),
    Column("detail", JSONB, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    # Records of changes are few among those of tokens; see history.py.
    Index("audit_changes", "seq", postgresql_where=text("detail ? 'state'")),
    # The log grows with time: a few pages tell where an hour lies in millions of records.
    Index("audit_at", "at_ms", postgresql_using="brin"),
)
