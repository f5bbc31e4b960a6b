"""Our own daemons; each runs alone and imports only wlcg, errors and units."""

from __future__ import annotations
