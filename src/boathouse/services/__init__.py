"""How each real service is configured: one driver a service."""

from __future__ import annotations
