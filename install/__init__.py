"""The installer: puts what Boathouse runs into one directory, and records where.

It runs before anything is installed, so it needs the standard library only. ``boathouse.errors`` and
``boathouse.units`` need no more than that either, and are taken from the checkout.
"""

from __future__ import annotations

import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent

sys.path.insert(0, str(CHECKOUT / "src"))
