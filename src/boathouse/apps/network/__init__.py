"""Distance between sites of one machine: a relay of TCP connections with round-trip time, window and bandwidth."""

from __future__ import annotations
