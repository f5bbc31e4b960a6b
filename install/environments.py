"""Python environments from the locks, every file checked against its hash, and the wheels of this checkout."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from install import CHECKOUT, index
from install.bundle import Bundle
from install.host import Progress, clean_environment, run
from install.record import Stamps

_REMEDY = "make install once more; if it stays, make distclean install"


@dataclass(frozen=True)
class Wheel:
    """A package of this checkout, and the environment that it belongs to."""

    name: str
    environment: str
    project: Path
    sources: tuple[Path, ...]
    """Files and directories that the wheel is made of."""


LOCKED = ("main", "rucio", "rucio-clients")
FOR_TESTS = ("peers",)
"""Environments that only tests and benchmarks run."""
BUNDLED = ("uv", "build", *LOCKED)
"""Locks of all that `make install` takes from Python's index."""
_BUILD_LOCKS = {"peers": "peers-build"}
"""What builds packages without a wheel, where it is not ``build``."""
WHEELS = (
    Wheel(
        "boathouse",
        "main",
        CHECKOUT,
        tuple(CHECKOUT / part for part in ("src/boathouse", "examples", "pyproject.toml", "README.md", "LICENSE")),
    ),
    Wheel("boathouse-rucio-site", "rucio", CHECKOUT / "rucio-site", (CHECKOUT / "rucio-site",)),
)


def digest_of_files(paths: Iterable[Path]) -> str:
    """A digest of files and of all files below directories: names, executable bits and contents."""
    digest = hashlib.sha256()
    for top in paths:
        files = sorted(path for path in top.rglob("*") if path.is_file()) if top.is_dir() else [top]
        for path in files:
            if path.suffix == ".pyc":
                continue
            content = path.read_bytes()
            digest.update(f"{path.relative_to(CHECKOUT)} {len(content)} {path.stat().st_mode & 0o111}\n".encode())
            digest.update(content)
    return digest.hexdigest()


WHEEL_NAMES = tuple(wheel.name for wheel in WHEELS)
"""Packages that are made from this checkout; they take next to no disk."""


def digest_of_text(text: str) -> str:
    """A digest of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def lock_file(name: str) -> Path:
    """The file of a lock."""
    return CHECKOUT / "locks" / f"{name}.txt"


def locked_count(name: str) -> int:
    """How many packages a lock names."""
    return sum(1 for line in lock_file(name).read_text().splitlines() if line and not line.startswith((" ", "#")))


class Environments:
    """The environments below a directory, each as its lock says.

    Args:
        home: directory of the installation.
        stamps: what was installed before.
        tests: also what only the tests run.
        bundle: take files from it, and none from the network.
    """

    def __init__(
        self, home: Path, stamps: Stamps, progress: Progress, *, tests: bool, bundle: Bundle | None = None
    ) -> None:
        self._home = home
        self._stamps = stamps
        self._progress = progress
        self._locked = (*LOCKED, *FOR_TESTS) if tests else LOCKED
        self._variables = bundle.variables if bundle else {}
        self._uv_variables = self._variables or None

    def python(self, name: str) -> Path:
        """The interpreter of an environment."""
        return self._home / "envs" / name / "bin" / "python"

    def _lock_digest(self, name: str) -> str:
        # An environment also belongs to its interpreter: another one wants other wheels.
        interpreter = f"{Path(sys.executable).resolve()} {sys.version_info[:3]}"
        return digest_of_text(interpreter + lock_file(name).read_text())

    def _wheel_digest(self, wheel: Wheel) -> str:
        return f"{self._lock_digest(wheel.environment)} {digest_of_files(wheel.sources)}"

    def wanted(self) -> dict[str, str]:
        """Digest by name of all that this makes."""
        locks = {name: self._lock_digest(name) for name in ("uv", *self._locked)}
        return locks | {wheel.name: self._wheel_digest(wheel) for wheel in WHEELS}

    def gone(self) -> set[str]:
        """Names of environments whose interpreter is not there."""
        return {name for name in ("uv", *self._locked) if not self.python(name).exists()}

    def make_all(self) -> None:
        """Bring every environment to what its lock says, then install the wheels of this checkout.

        Raises:
            HostError: the network, the disk or a file with a wrong hash is in the way.
        """
        self._make_uv()
        for name in self._locked:
            self._make(name)
        for wheel in WHEELS:
            self._install(wheel)

    def _make_uv(self) -> None:
        wanted = self._lock_digest("uv")
        if self._stamps.holds("uv", wanted) and self.python("uv").exists():
            return
        self._progress.say("uv: the program that fills the environments")
        environment = self._home / "envs" / "uv"
        shutil.rmtree(environment, ignore_errors=True)
        run([sys.executable, "-m", "venv", environment], doing="make a Python environment", remedy=_REMEDY)
        pip = [
            self.python("uv"),
            "-m",
            "pip",
            "--disable-pip-version-check",
            "install",
            "--quiet",
            "--only-binary=:all:",
        ]
        run(
            [*pip, "--require-hashes", "-r", lock_file("uv")],
            doing="install uv",
            env=clean_environment(self._variables),
            remedy=_REMEDY,
        )
        self._stamps.put("uv", wanted)

    def _uv(self, *arguments: str | Path, doing: str) -> None:
        if self._uv_variables is None:
            self._uv_variables = index.from_pip(self.python("uv"))
        # uv brings authorities of its own; those of the system are the ones that pip believes, and an office adds to.
        own = {"UV_SYSTEM_CERTS": "1", "UV_NO_PROGRESS": "1", "UV_PYTHON_DOWNLOADS": "never"}
        env = clean_environment({**self._uv_variables, **own})
        # Not from the checkout, whose pyproject.toml is no business of these environments.
        run(
            [self._home / "envs" / "uv" / "bin" / "uv", *arguments],
            doing=doing,
            env=env,
            cwd=self._home,
            remedy=_REMEDY,
        )

    def _make(self, name: str) -> None:
        wanted = self._lock_digest(name)
        if self._stamps.holds(name, wanted) and self.python(name).exists():
            return
        self._progress.say(f"{name}: {locked_count(name)} packages")
        environment = self._home / "envs" / name
        self._stamps.drop(name)
        self._uv(
            "venv", "--quiet", "--clear", "--python", Path(sys.executable).resolve(), environment, doing=f"make {name}"
        )
        constraints = ("--build-constraints", lock_file(_BUILD_LOCKS.get(name, "build")))
        sync = ("pip", "sync", "--quiet", "--require-hashes", "--compile-bytecode", *constraints)
        self._uv(*sync, "--python", self.python(name), lock_file(name), doing=f"fill the environment {name}")
        self._stamps.put(name, wanted)

    def _install(self, wheel: Wheel) -> None:
        wanted = self._wheel_digest(wheel)
        if self._stamps.holds(wheel.name, wanted):
            return
        self._progress.say(f"{wheel.name}: this checkout, into {wheel.environment}")
        self._stamps.drop(wheel.name)
        with tempfile.TemporaryDirectory(dir=self._home) as folder:
            build = [self.python("uv"), "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
            run(build, doing=f"build {wheel.name}", cwd=wheel.project, remedy="see what hatchling said; git status")
            (built,) = Path(folder).glob("*.whl")
            install = ("pip", "install", "--quiet", "--no-deps", "--no-index", "--reinstall", "--compile-bytecode")
            self._uv(*install, "--python", self.python(wheel.environment), built, doing=f"install {wheel.name}")
        self._stamps.put(wheel.name, wanted)
