"""Making the plan true."""

from __future__ import annotations
