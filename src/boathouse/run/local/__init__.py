"""The runner of one machine."""

from __future__ import annotations
