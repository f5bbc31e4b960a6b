"""Certificate authorities for tests: the facility's own, or a stranger's that nobody trusts."""

from __future__ import annotations

from pathlib import Path

from boathouse import atomic
from boathouse.plan.model import Certificate
from boathouse.run import pki

_LIFETIME_S = 86400.0


def _keep(_: Path) -> None:
    """Leave a file with the user who made it."""


class Authority:
    """A CA in a directory, which is made if it is not there.

    Args:
        directory: where it lies.
        name: whose CA it is.
        own: gives a file to the user who reads it.
    """

    def __init__(self, directory: Path, name: str = "a stranger", own: atomic.Own = _keep) -> None:
        self._directory, self._own = directory, own
        pki.ensure_authority(directory, name, own)

    def certificate(self, name: str, *addresses: str, dns: tuple[str, ...] = ()) -> tuple[Path, Path]:
        """Chain and key of a server certificate, made if it is missing."""
        pki.ensure_certificate(self._directory, Certificate(name, addresses, dns), _LIFETIME_S, self._own)
        return self._directory / f"{name}.pem", self._directory / f"{name}.key"
