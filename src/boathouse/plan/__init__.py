"""What will exist: a pure function from a facility and its drivers to units, files, secrets, order."""

from __future__ import annotations
