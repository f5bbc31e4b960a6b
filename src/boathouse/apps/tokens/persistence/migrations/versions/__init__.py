"""One module a version, applied in the order of their links."""

from __future__ import annotations
