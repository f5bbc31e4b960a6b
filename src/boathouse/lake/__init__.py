"""Data operations: everything a client does with a lake, given its endpoints."""

from __future__ import annotations
