"""The process behind :mod:`boathouse.testing.faults`: reports itself, late, wrongly or for a short time, as told.

Arguments: report file, seconds until the first report, seconds of life after it, whether to report well (``yes``),
whether to ignore SIGTERM (``yes``).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

_PERIOD_S = 5.0


def main() -> int:
    """Run until told to stop or until the life is over."""
    report = Path(sys.argv[1])
    delay_s, life_s = float(sys.argv[2]), float(sys.argv[3])
    is_ok, is_stubborn = (flag == "yes" for flag in sys.argv[4:6])
    stop = threading.Event()
    signal.signal(signal.SIGTERM, (lambda *_: None) if is_stubborn else (lambda *_: stop.set()))
    sys.stdout.write(f"hello from {os.getpid()}\n")
    sys.stdout.flush()
    if stop.wait(delay_s):
        return 0
    while True:
        temporary = report.with_suffix(".tmp")
        temporary.write_text(json.dumps({"ok": is_ok, "detail": "as told", "pid": os.getpid()}), encoding="utf-8")
        temporary.replace(report)
        if stop.wait(min(life_s, _PERIOD_S)):
            return 0
        if life_s < _PERIOD_S:
            return 3


if __name__ == "__main__":
    sys.exit(main())
