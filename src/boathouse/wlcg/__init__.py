"""WLCG tokens: scopes with paths, and the check of a token; shared by our daemons and the lake client."""

from __future__ import annotations
