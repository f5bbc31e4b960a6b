"""Administration over HTTP with bearer tokens: INDIGO IAM's paths where it has them, ours beside."""

from __future__ import annotations
