"""Benchmarks: each figure beside its peer in the same run."""

from __future__ import annotations
