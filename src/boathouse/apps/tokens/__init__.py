"""The token issuer: OAuth 2 and OpenID Connect with the WLCG token profile, wire-compatible with INDIGO IAM."""

from __future__ import annotations
