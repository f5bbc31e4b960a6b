"""Errors of this package; each message says what to do."""

from __future__ import annotations


class SiteError(Exception):
    """The embedded Rucio cannot be started or set up as it is; the message says why and what to do."""


class WrongRucioError(SiteError):
    """Rucio is of another version than the one whose functions are replaced, or a function has changed."""


class TokenError(SiteError):
    """The issuer gave no token."""
