"""The command line: thin, one module a noun."""

from __future__ import annotations
