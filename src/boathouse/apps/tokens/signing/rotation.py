"""Changing signature keys: by age, by hand, and at once when a key is in wrong hands."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from boathouse.apps.tokens.passwords import Hasher
from boathouse.apps.tokens.persistence.database import connect, transaction
from boathouse.apps.tokens.persistence.store import Store
from boathouse.apps.tokens.settings import Settings
from boathouse.apps.tokens.signing.keys import KeyRing, SigningKey
from boathouse.apps.tokens.trail.audit import AuditLog, Detail, append
from boathouse.errors import ServiceError

_LOG = logging.getLogger(__name__)

Deny = Callable[[tuple[SigningKey, ...]], None]

EMERGENCY_S = 3
"""How long a new key is published before it signs when the old ones are withdrawn: enough for whoever is told of it."""
_SETTLE_S = 1.5
"""After that, how long processes of the issuer may take to notice (they look at the key ring every second)."""
_BELIEVED_S = 5 * 86400
"""No cache of keys believes longer in one (WLCG profile 4.3.1: 4 d at most)."""
_PATIENCE = text("SET LOCAL statement_timeout = '5s'")
"""Whoever denies holds the lock on the key ring: a lock in the database must not keep all processes waiting for it."""
_ALWAYS = (1 << 53) - 1
"""Who has stolen a key dates tokens as they like."""


def tend(keys: KeyRing, settings: Settings, audit: AuditLog, deny: Deny) -> None:
    """What the issuer does every second: rotate when it is time, publish what has changed, end what was begun.

    Args:
        keys: the key ring.
        settings: the issuer's.
        audit: where a rotation is recorded.
        deny: refuses what withdrawn keys have signed, see :func:`denier`.

    Raises:
        OSError: the key directory cannot be written.
        SQLAlchemyError: keys were withdrawn and the database does not answer; the next call tries again.
    """
    new = keys.rotate_if_due(settings.key_lifetime_s, settings.key_activation_s, settings.token_lifetime_s)
    if new is not None:
        _LOG.info("key %s is published and will sign in %d s", new.kid, settings.key_activation_s)
        audit.record("key.rotated", _detail(new))
    keys.publish()
    if old := keys.settle(_SETTLE_S, deny):
        _LOG.info("withdrawn: %s", ", ".join(key.kid for key in old))


def denier(engine: Engine, hasher: Hasher) -> Deny:
    """What makes services refuse all that some keys have signed, and records it, in one transaction.

    Each statement fails after five seconds, waiting for locks included.
    """

    def deny(keys: tuple[SigningKey, ...]) -> None:
        def work(connection: Connection) -> None:
            connection.execute(_PATIENCE)
            store = Store(connection, hasher)
            for key in keys:
                store.deny("key", key.kid, for_s=_BELIEVED_S, issued_until=_ALWAYS)
            append(connection, [("key.withdrawn", _detail(key)) for key in keys])

        transaction(engine, work)

    return deny


def rotate(settings: Settings, activation_s: int | None) -> list[dict[str, Any]]:
    """Publish a new key, which signs after ``activation_s`` (that of the settings if None).

    Returns:
        The keys, as :func:`describe` tells them.

    Raises:
        ServiceError: the database does not answer; nothing was changed.
    """
    engine = connect(settings)
    ring = KeyRing(settings.keys_dir, settings.signing_algorithm)
    wait_s = settings.key_activation_s if activation_s is None else activation_s
    new = ring.rotate(wait_s, settings.token_lifetime_s)
    ring.publish()
    _record(engine, "key.rotated", new)
    _LOG.info("key %s is published and will sign in %d s", new.kid, wait_s)
    return describe(ring)


def withdraw(settings: Settings) -> list[dict[str, Any]]:
    """Put a new key in the place of all others, and make what those signed worthless everywhere.

    Takes a few seconds. What it has begun when it is interrupted, the issuer ends as soon as it runs: the ring
    remembers withdrawn keys until their tokens are denied. It can be repeated, too.

    Raises:
        ServiceError: the database does not answer: nothing was changed, or what was begun waits for the issuer.
    """
    engine = connect(settings)
    ring = KeyRing(settings.keys_dir, settings.signing_algorithm)
    new, old = ring.withdraw(EMERGENCY_S)
    ring.publish()
    try:
        _record(engine, "key.rotated", new)
        time.sleep(max(0.0, new.signs_from - time.time()) + _SETTLE_S)
        ring.publish()
        # One of the issuer's processes may have been faster, which is as good.
        ring.settle(0, denier(engine, Hasher.load(settings.keys_dir / "secrets.key")))
    except SQLAlchemyError as error:
        raise ServiceError(
            "the keys are withdrawn, but services could not be told yet to refuse what they signed",
            got=type(error).__name__,
            where="the issuer's database",
            remedy="boathouse status; the issuer tells them as soon as its database answers",
        ) from error
    _LOG.info("key %s signs; withdrawn: %s", new.kid, ", ".join(key.kid for key in old))
    return describe(ring)


def describe(ring: KeyRing) -> list[dict[str, Any]]:
    """The published keys, oldest first: name, algorithm, state and times in seconds since the epoch."""
    active = ring.active().kid
    now, published = time.time(), ring.keys()
    return [
        {
            "kid": key.kid,
            "algorithm": key.algorithm,
            "state": "signs" if key.kid == active else "waits" if key.signs_from > now else "retired",
            "signs_from": key.signs_from,
            "gone_at": key.gone_at,
        }
        for key in published
    ]


def _detail(key: SigningKey) -> Detail:
    return {"kid": key.kid, "algorithm": key.algorithm, "signs_from": key.signs_from}


def _record(engine: Engine, event: str, *keys: SigningKey) -> None:
    audit = AuditLog(engine)
    try:
        for key in keys:
            audit.record(event, _detail(key)).result()
    finally:
        audit.close()
