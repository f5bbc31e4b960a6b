"""Migrations of the transfer service's database."""

from __future__ import annotations
