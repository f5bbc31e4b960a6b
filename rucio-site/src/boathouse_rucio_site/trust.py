"""Other issuers that the facility trusts: whom their tokens stand for in the catalogue."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rucio.common.config import config_get

from boathouse_rucio_site.errors import TokenError


@dataclass(frozen=True)
class Trusted:
    """One of them."""

    url: str
    ca_file: str | None
    """CAs that its certificate must chain to; those of ``REQUESTS_CA_BUNDLE`` if None."""
    groups_claim: str
    accounts: tuple[tuple[str, str], ...]
    """Group and account, in order of preference."""

    def account(self, claims: Mapping[str, Any]) -> str | None:
        """The account that a verified token's groups stand for, if one does. Groups do not stand for those above."""
        said = claims.get(self.groups_claim)
        groups = [group for group in (said if isinstance(said, list) else [said]) if isinstance(group, str)]
        return next((account for group, account in self.accounts if group in groups), None)


def read(path: Path) -> dict[str, Trusted]:
    """Issuers by URL, from ``trusted.json``.

    Raises:
        TokenError: the file cannot be read.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {
            entry["url"]: Trusted(
                entry["url"],
                entry["ca_file"],
                entry["groups_claim"],
                tuple((group, account) for group, account in entry["accounts"]),
            )
            for entry in entries
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TokenError(f"{path}: {error}") from error


@functools.cache
def trusted() -> dict[str, Trusted]:
    """The issuers of ``[boathouse] trusted``."""
    return read(Path(config_get("boathouse", "trusted")))
