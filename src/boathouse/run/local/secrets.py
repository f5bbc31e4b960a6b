"""Secrets: made once, kept one a file, mode 0600, and put into configuration files in place of their names."""

from __future__ import annotations

import re
import secrets
import uuid
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from boathouse.errors import InputError
from boathouse.plan.model import Secret, SecretKind
from boathouse.run.local.account import Account
from boathouse.run.local.state import write_atomically

# Without letters that people mistake for each other.
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
_PLACEHOLDER = re.compile(r"\$\{(secret|quoted-secret):([A-Za-z0-9_.\-]+)\}")


def ensure(wanted: Iterable[Secret], directory: Path, account: Account) -> dict[str, str]:
    """Values of all secrets; those that do not exist yet are made, those with a source are what that holds now.

    Returns:
        Value by name.

    Raises:
        InputError: a source cannot be read.
    """
    wanted = list(wanted)
    # As the caller, who may read what the services' user may not.
    values = {secret.name: read_source(secret.source) for secret in wanted if secret.source is not None}
    with account.acting():
        for secret in wanted:
            path = directory / secret.name
            try:
                kept = path.read_text(encoding="utf-8").strip()
            except FileNotFoundError:
                kept = ""
            value = values.setdefault(secret.name, kept or _make(secret.kind))
            if value != kept:
                write_atomically(path, value, account, mode=0o600)
    return values


def read_source(source: Path) -> str:
    """What a file of the operator holds.

    Raises:
        InputError: it cannot be read, or is empty.
    """
    try:
        text = source.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            "a file that the facility file names cannot be read",
            got=reason,
            where=str(source),
            remedy="make it, or name another one",
        ) from error
    if not text:
        raise InputError(
            "a file that the facility file names is empty",
            where=str(source),
            remedy="write the secret or the certificates into it",
        )
    return text


def _make(kind: SecretKind) -> str:
    if kind is SecretKind.uuid:
        return str(uuid.uuid4())
    if kind is SecretKind.phrase:
        return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(5)) for _ in range(4))
    return secrets.token_urlsafe(32)


def fill(text: str, values: dict[str, str]) -> str:
    """A file's text with every placeholder replaced.

    Raises:
        KeyError: the text names a secret that no driver plans; a fault of that driver.
    """

    def value(match: re.Match[str]) -> str:
        secret = values[match[2]]
        return quote(secret, safe="") if match[1] == "quoted-secret" else secret

    return _PLACEHOLDER.sub(value, text)
