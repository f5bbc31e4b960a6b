"""Where work runs."""

from __future__ import annotations
