"""The table of bad inputs: what is sent, and the exact refusal.

``{name}`` in a value stands for what the test made for it (:func:`test_bad_inputs.material`): tokens that are forged,
expired, revoked or meant for somebody else, codes that were used.
"""

from __future__ import annotations

from . import administration, authorization, grants, presented, registering, scopes, transport
from .case import DEVICE, FORM, Case

__all__ = ("CASES", "DEVICE", "FORM", "Case")
CASES: tuple[Case, ...] = (
    *scopes.CASES,
    *grants.CASES,
    *presented.CASES,
    *authorization.CASES,
    *registering.CASES,
    *administration.CASES,
    *transport.CASES,
)
