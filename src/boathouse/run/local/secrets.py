"""Secrets: made once, kept one a file, mode 0600, and put into configuration files in place of their names."""

from __future__ import annotations

import re
import secrets
import uuid
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from boathouse.plan.model import Secret, SecretKind
from boathouse.run.local.account import Account
from boathouse.run.local.state import write_atomically

# Without letters that people mistake for each other.
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
_PLACEHOLDER = re.compile(r"\$\{(secret|quoted-secret):([A-Za-z0-9_.\-]+)\}")


def ensure(wanted: Iterable[Secret], directory: Path, account: Account) -> dict[str, str]:
    """Values of all secrets; those that do not exist yet are made.

    Returns:
        Value by name.
    """
    values: dict[str, str] = {}
    with account.acting():
        for secret in wanted:
            path = directory / secret.name
            try:
                values[secret.name] = path.read_text(encoding="utf-8").strip()
            except FileNotFoundError:
                values[secret.name] = _make(secret.kind)
                write_atomically(path, values[secret.name], account, mode=0o600)
    return values


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
