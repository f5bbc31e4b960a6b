"""Making a bundle: everything that an installation takes from a network, verified as an installation does."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from boathouse.units import format_bytes
from install import bundle, environments, xrootd
from install.host import Progress, run

_REMEDY = "make bundle once more"


def make(target: Path, home: Path, progress: Progress, parts: Mapping[str, str]) -> None:
    """Write a bundle for machines like this one.

    Args:
        target: the file.
        home: directory of the installation; what is fetched passes through it.
        progress: where to tell how far it is.
        parts: what the checkout wants, as in `bundle.Manifest.parts`.

    Raises:
        HostError: the network or the disk is in the way, or a file has a wrong hash or no signature.
    """
    with tempfile.TemporaryDirectory(dir=home, prefix=".bundle-") as folder:
        work = Path(folder)
        content = work / "content"
        _fetch_python(content / bundle.WHEELS, work / "builder", progress)
        xrootd.copy(content / bundle.DEBIAN, work / "debian", lambda text: progress.say(f"xrootd: {text}"))
        progress.say(f"writing {target}")
        size_bytes = bundle.write(target, content, parts)
    progress.say(f"{target}: {format_bytes(size_bytes)}, for {bundle.Machine.this()}")


def _fetch_python(into: Path, builder: Path, progress: Progress) -> None:
    """Every file that a lock names for this machine: a wheel, or the source where there is no wheel."""
    run([sys.executable, "-m", "venv", builder], doing="make a Python environment", remedy=_REMEDY)
    pip = (builder / "bin" / "python", "-m", "pip", "--disable-pip-version-check")
    exactly = ("--quiet", "--no-deps", "--require-hashes")
    # pip asks a source for its name and version, which takes what would build it.
    run(
        [*pip, "install", *exactly, "--only-binary=:all:", "-r", environments.lock_file("build")],
        doing="install setuptools",
        remedy=_REMEDY,
    )
    for name in environments.BUNDLED:
        progress.say(f"{name}: fetching {environments.locked_count(name)} packages")
        command = [
            *pip,
            "download",
            *exactly,
            "--prefer-binary",
            "--no-build-isolation",
            "-d",
            into,
            "-r",
            environments.lock_file(name),
        ]
        run(command, doing=f"fetch the packages of {name}", remedy=_REMEDY)
