"""Shipped test tools: a whole facility as a context manager, and services that misbehave on purpose."""

from __future__ import annotations
