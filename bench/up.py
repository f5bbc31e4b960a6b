"""How long until the facility is ready, and until the first plot, from an empty state directory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.harness import Benchmark, Effort, Row, median_of

_RUNS = {Effort.full: 3, Effort.quick: 1}
_EVENTS = {Effort.full: 2_000_000, Effort.quick: 20_000}
_UP_TARGET_S, _PLOT_TARGET_S = 15.0, 40.0
_ANALYSIS = Path(__file__).parents[1] / "examples" / "analysis" / "dimuon.py"


@contextmanager
def _empty() -> Iterator[tuple[Path, dict[str, str]]]:
    """A directory for one facility and the environment of its only user; all gone afterwards."""
    base = Path(tempfile.mkdtemp(prefix="boathouse-bench-", dir="/var/tmp"))
    base.chmod(0o755)
    state = base / "state"
    environment = {**os.environ, "BOATHOUSE_STATE": str(state), "BOATHOUSE_SESSION": str(base / "session")}
    try:
        yield base, environment
    finally:
        if (base / "session").exists():
            _boathouse(environment, "logout")
        _boathouse(environment, "down")
        shutil.rmtree(base)


def _boathouse(environment: dict[str, str], *words: str) -> None:
    subprocess.run([sys.executable, "-m", "boathouse.cli", *words], env=environment, check=True, capture_output=True)


def _up_s() -> float:
    with _empty() as (_, environment):
        began = time.perf_counter()
        _boathouse(environment, "up", "laptop")
        return time.perf_counter() - began


def _plot_s(samples: Path) -> float:
    with _empty() as (base, environment):
        began = time.perf_counter()
        _boathouse(environment, "up", "laptop")
        password = str(base / "state" / "secrets" / "password-alice")
        _boathouse(environment, "login", "--user", "alice", "--password-file", password)
        files = sorted(str(path) for path in samples.glob("*.root"))
        _boathouse(environment, "import", *files, "--to", "cms:bench", "--qos", "FAST")
        result = base / "result"
        _boathouse(environment, "run", str(_ANALYSIS), "cms:bench", "--out", str(result), "--site", "CNAF")
        took_s = time.perf_counter() - began
        assert (result / "dimuon_mass.png").is_file()
        return took_s


def _run(effort: Effort) -> list[Row]:
    runs = _RUNS[effort]
    with tempfile.TemporaryDirectory(prefix="boathouse-bench-", dir="/var/tmp") as samples:
        _boathouse(dict(os.environ), "sample", "--events", str(_EVENTS[effort]), "--out", samples)
        up_s = median_of(runs, _up_s)
        plot_s = median_of(runs, lambda: _plot_s(Path(samples)))
    return [
        Row(
            id="up.cold",
            what=f"`boathouse up laptop` on an empty state directory until ready, median of {runs}",
            unit="s",
            better="lower",
            ours=up_s,
            target=f"under {_UP_TARGET_S:.0f} s on 2 cores",
            met=up_s < _UP_TARGET_S,
        ),
        Row(
            id="plot.cold",
            what=f"from `up` to the plot of {_EVENTS[effort]:,} events: up, login, import, run; median of {runs}",
            unit="s",
            better="lower",
            ours=plot_s,
            target=f"within {_PLOT_TARGET_S:.0f} s, the input files made beforehand",
            met=plot_s <= _PLOT_TARGET_S,
        ),
    ]


BENCHMARK = Benchmark("up", ("up.cold", "plot.cold"), _run)
