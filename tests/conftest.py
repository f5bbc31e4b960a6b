"""What every test may use, and what the head of a report says about the programs in use.

``programs``
    where the installed programs are; a missing one fails the test.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from boathouse.errors import HostError
from boathouse.plan.service import Programs
from boathouse.run import programs as installed

# The same examples each time, however long one takes on a busy machine. Others are tried with
# `--hypothesis-profile=default`.
settings.register_profile(
    "steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("steady")

_VERSION_OF_RUCIO = "import importlib.metadata as m; print(m.version('rucio'))"


@pytest.fixture(scope="session")
def programs() -> Programs:
    return _programs()


def _programs() -> Programs:
    home = os.environ.get("BOATHOUSE_HOME")
    assert home, "BOATHOUSE_HOME is not set: run the tests with `make test`"
    return installed.load(Path(home))


def pytest_report_header() -> list[str]:
    """The versions of the real services that the tests run; unit tests need none of them."""
    try:
        found = _programs()
    except (AssertionError, HostError) as error:
        return [f"services: none ({str(error).splitlines()[0]})"]
    postgres = _said(found.postgres_bin / "postgres", "--version")
    rucio = _said(found.rucio_python, "-I", "-c", _VERSION_OF_RUCIO)
    return [f"services: {postgres}, XRootD {found.xrootd_version}, Rucio {rucio}"]


def _said(*command: str | Path) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    return done.stdout.strip() or f"{command[0]}: {done.stderr.strip()[-200:]}"
