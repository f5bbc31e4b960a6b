"""The site package's own tests, which need Rucio's environment."""

from __future__ import annotations

import subprocess
from pathlib import Path

TESTS = Path(__file__).parents[2] / "rucio_site"


def test_inside_rucios_environment(programs):
    command = [
        str(programs.rucio_python),
        *("-m", "pytest", "-c", str(TESTS / "pytest.ini"), f"--confcutdir={TESTS}", "-q", str(TESTS)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
