"""Our own daemons; each runs alone and imports only wlcg, units, checksums, atomic, errors and ``apps.database``."""

from __future__ import annotations
