"""Versions of the issuer's database."""

from __future__ import annotations
