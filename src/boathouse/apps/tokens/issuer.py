"""The parts of a running issuer, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Engine

from boathouse.apps.tokens.passwords import Hasher
from boathouse.apps.tokens.persistence import database
from boathouse.apps.tokens.persistence.database import transaction
from boathouse.apps.tokens.persistence.seed import apply_file
from boathouse.apps.tokens.protocol.minting import Mint
from boathouse.apps.tokens.settings import Settings
from boathouse.apps.tokens.signing.keys import KeyRing
from boathouse.apps.tokens.signing.trusted import Trusted
from boathouse.apps.tokens.trail import audit
from boathouse.apps.tokens.trail.audit import AuditLog
from boathouse.apps.tokens.upstream.relying import RelyingParty


@dataclass(frozen=True)
class Issuer:
    """What every request may use; shared by all threads."""

    settings: Settings
    engine: Engine
    statements: Engine
    """The same connections, where each statement is a transaction: what failed may have been done in part."""
    keys: KeyRing
    hasher: Hasher
    mint: Mint
    audit: AuditLog
    trusted: Trusted
    """Other issuers whose tokens may be exchanged."""
    parties: Mapping[str, RelyingParty]
    """This issuer at each provider that people may sign in with, by its name."""

    @classmethod
    def open(cls, settings: Settings) -> Issuer:
        """An issuer with its keys, its database brought up to date and its seed applied.

        Raises:
            InputError: the seed file is wrong.
            ServiceError: the database does not answer or is of a newer version.
            StateError: the key ring is damaged.
        """
        keys = KeyRing(settings.keys_dir, settings.signing_algorithm)
        keys.publish()
        engine = database.connect(settings)
        database.migrate(engine)
        transaction(engine, audit.catch_up)
        statements = engine.execution_options(isolation_level="AUTOCOMMIT")
        issuer = cls(
            settings=settings,
            engine=engine,
            statements=statements,
            keys=keys,
            hasher=Hasher.load(settings.keys_dir / "secrets.key"),
            mint=Mint(settings.issuer, keys, settings.token_lifetime_s),
            audit=AuditLog(statements),
            trusted=Trusted(settings.trusted, settings.trusted_audiences, settings.key_cache),
            parties={
                provider.name: RelyingParty(provider, settings.issuer + provider.callback)
                for provider in settings.providers
            },
        )
        issuer.reload()
        return issuer

    def reload(self) -> None:
        """Apply the seed file again, if there is one.

        Raises:
            InputError: the seed file is wrong; nothing was changed.
        """
        if self.settings.seed is not None:
            apply_file(self.settings.seed, self.engine, self.hasher)

    def close(self) -> None:
        """Write what waits and let go of the database."""
        self.audit.close()
        self.engine.dispose()
