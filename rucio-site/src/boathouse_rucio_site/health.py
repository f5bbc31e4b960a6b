"""How the daemons are, told in a file that is rewritten every few seconds.

Format, of which a runner's probe reads the first three keys::

    {"ok": true, "detail": "16 daemons work", "pid": 4711, "listener": null,
     "daemons": {"reaper": {"alive": true, "busy": false, "cycles": 3, "restarts": 0, "last_cycle": "2026-…",
                            "last_duration_s": 0.02, "last_error": ""}, …}}
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write(path: Path, report: Mapping[str, Any]) -> None:
    """Replace the file, so that a reader sees the old or the new report and nothing between."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(json.dumps({**report, "pid": os.getpid()}), encoding="utf-8")
    fresh.replace(path)
