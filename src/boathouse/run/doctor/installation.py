"""The installation: the interpreter, the environments, the programs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from boathouse import xrootd_versions
from boathouse.errors import HostError
from boathouse.run.doctor.finding import Finding, Patient, ask_version, fail, ok, warn
from boathouse.run.programs import FILE_NAME, load


def python(patient: Patient) -> Iterator[Finding]:
    """The interpreter is one that Boathouse was made for."""
    del patient
    version = ".".join(str(number) for number in sys.version_info[:3])
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        yield ok(f"{version} ({sys.executable})")
    else:
        yield fail(f"{version}, not 3.11 to 3.13", "PYTHON=/usr/bin/python3 make install")


def environments(patient: Patient) -> Iterator[Finding]:
    """Environments are what the locks say, and the installed code is that of the checkout."""
    load(patient.home)
    checkout = _checkout(patient.home)
    if not (checkout / "install").is_dir():
        yield warn("the checkout that it came from is gone: cannot compare", "clone it again, then make install")
        return
    mend = f"make -C '{checkout}' install"
    command = [sys.executable, "-E", "-s", "-B", "-m", "install", "--home", str(patient.home), "--check"]
    done = subprocess.run(command, cwd=checkout, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        yield ok(f"as {checkout} says")
    elif done.stdout:
        yield warn(f"not what {checkout} says: {', '.join(done.stdout.split())}", mend)
    else:
        yield fail(f"the installer does not run: {done.stderr.strip()[-200:]}", mend)


def _checkout(home: Path) -> Path:
    """The checkout that an installation was made from."""
    return Path(_record(home).get("checkout", "/nonexistent"))


def _record(home: Path) -> dict[str, str]:
    try:
        document: dict[str, str] = json.loads((home / FILE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HostError("the installation is incomplete", got=str(error), remedy="make install") from error
    return document


def xrootd(patient: Patient) -> Iterator[Finding]:
    """The storage server runs, may guard a storage that decides by tokens, and is the one that was recorded."""
    said = ask_version([load(patient.home).xrootd_bin / "xrootd", "-v"])
    yield judge_xrootd(said, _record(patient.home))


def judge_xrootd(said: str, record: Mapping[str, str]) -> Finding:
    """The finding for what an XRootD says of its version; which one it is and why, from the installer's record."""
    problem = xrootd_versions.unsafe(said)
    if problem:
        return fail(problem, "make distclean install")
    installed = record.get("xrootd_version", "nothing")
    if record.get("xrootd_kind") == "system":
        # The machine may have upgraded it since; that it is fit was asked above.
        return ok(f"{said.removeprefix('v')}, {_which_xrootd(record)}: {record.get('xrootd_why')}")
    if xrootd_versions.numbers(said) != xrootd_versions.numbers(installed):
        return fail(f"{said} runs, {installed} was installed", "make distclean install")
    return ok(f"{installed}, {_which_xrootd(record)}: {record.get('xrootd_why')}")


def _which_xrootd(record: Mapping[str, str]) -> str:
    if record.get("xrootd_kind") != "tree":
        return f"the machine's own in {record.get('xrootd_bin')}"
    path = Path(record.get("xrootd_packages", "/nonexistent"))
    try:
        packages = json.loads(path.read_text(encoding="utf-8"))["packages"]
    except (OSError, ValueError, KeyError) as error:
        raise HostError(
            "the record of the packages is gone", got=str(error), remedy="make distclean install"
        ) from error
    return f"{len(packages)} verified packages of Debian {record.get('xrootd_suite')}, listed in {path}"


def postgres(patient: Patient) -> Iterator[Finding]:
    """The database server runs."""
    yield ok(ask_version([load(patient.home).postgres_bin / "postgres", "--version"]))


def rucio(patient: Patient) -> Iterator[Finding]:
    """The Rucio server's environment holds the version that the site package was written for."""
    code = "import boathouse_rucio_site, importlib.metadata as m; print(m.version('rucio'))"
    yield ok(ask_version([load(patient.home).rucio_python, "-I", "-c", code]))


def leftovers(patient: Patient) -> Iterator[Finding]:
    """Installations whose checkout is gone take disk for nothing."""
    gone = [
        path.parent
        for path in sorted(patient.home.parent.glob(f"*/{FILE_NAME}"))
        if path.parent != patient.home and not _checkout(path.parent).exists()
    ]
    for home in gone:
        yield warn(f"{home} belongs to a checkout that is gone: {_checkout(home)}", f"rm -r '{home}'")
    if not gone:
        yield ok("no installation without its checkout")


CHECKS = (python, environments, xrootd, postgres, rucio, leftovers)
