"""Our own daemons; each runs alone and imports only wlcg, units, checksums, atomic and errors."""

from __future__ import annotations
