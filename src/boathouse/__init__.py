"""Boathouse: a data lake and the analysis facility on its shore, in one command."""

from __future__ import annotations

__version__ = "0.1.0"
