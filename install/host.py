"""The machine: running programs with clear failures, disk, packages of the distribution."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from boathouse.errors import HostError
from boathouse.units import format_bytes

NEEDED_BYTES = 3_000_000_000
"""Free disk that a whole installation wants, download cache included."""

_NOBODY = 65534

_MACHINES = ("x86_64", "aarch64")
"""Those with a locked wheel of every package, and with Debian's packages."""

_HEADERS = f"{sys.base_prefix}/include/python{sys.version_info[0]}.{sys.version_info[1]}"

# Packages of the distribution: (package, a file that it brings, whether tests and benchmarks alone want it).
_PACKAGES = (
    ("ca-certificates", "/etc/ssl/certs/ca-certificates.crt", False),
    ("curl", "/usr/bin/curl", True),
    ("oidc-agent-cli", "/usr/bin/oidc-agent", True),
    ("scitokens-cpp", "/usr/bin/scitokens-verify", True),
    ("gfal2-util-scripts", "/usr/bin/gfal-copy", True),
    ("gfal2-plugin-http", f"/usr/lib/{platform.machine()}-linux-gnu/gfal2-plugins/libgfal_plugin_http.so", True),
    ("litmus", "/usr/bin/litmus", True),
    # They build M2Crypto, which FTS3's client needs.
    ("gcc", "/usr/bin/gcc", True),
    ("g++", "/usr/bin/g++", True),
    ("libc6-dev", "/usr/include/stdio.h", True),
    ("swig", "/usr/bin/swig", True),
    ("libssl-dev", "/usr/include/openssl/ssl.h", True),
    ("python3-dev", f"{_HEADERS}/Python.h", True),
)

_OFFLINE = (
    "dns error",
    "failed to lookup address",
    "name resolution",
    "name or service not known",
    "network is unreachable",
    "connection refused",
    "timed out",
    "newconnectionerror",
    "failed to establish a new connection",
    "error sending request",
    "tunnel error",
    "could not resolve",
)

_UNTRUSTED = ("certificate verify failed", "invalid peer certificate", "unknownissuer")


class Progress:
    """Lines with the time since the start, on standard error."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def say(self, text: str) -> None:
        """Print one line."""
        sys.stderr.write(f"[{self.elapsed_s:6.1f} s] {text}\n")
        sys.stderr.flush()


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The caller's environment without what would lead pip, uv or Python elsewhere; indexes and proxies stay."""
    misleading = ("PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_REQUIRE_VIRTUALENV", "UV_PYTHON", "UV_SYSTEM_PYTHON")
    own = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX", "__PYVENV_LAUNCHER__")
    kept = {name: value for name, value in os.environ.items() if name not in misleading + own}
    return {**kept, "PYTHONNOUSERSITE": "1", **(extra or {})}


def run(
    command: Sequence[object],
    *,
    doing: str,
    remedy: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """Run a program to its end and return its standard output.

    ``doing`` says what it does for the user, as in "cannot <doing>"; ``remedy`` what to do when it fails and the
    network is not the reason.

    Raises:
        HostError: it could not be run or failed; the end of what it said is in the error.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            env=dict(env) if env is not None else clean_environment(),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise HostError(f"cannot {doing}", got=str(error), where=words[0], remedy=remedy) from error
    if done.returncode == 0:
        return done.stdout
    raise _failure(done, words, doing=doing, remedy=remedy)


def _failure(
    done: subprocess.CompletedProcess[str], words: Sequence[str], *, doing: str, remedy: str | None
) -> HostError:
    """What the words of a program that failed mean."""
    said = [line.strip() for line in (done.stderr.strip() or done.stdout.strip()).splitlines() if line.strip()]
    untrusted = [line for line in said if any(sign in line.lower() for sign in _UNTRUSTED)]
    if untrusted:
        return HostError(
            f"cannot {doing}: the server's certificate is by an authority that this machine does not know",
            got=untrusted[-1][:300],
            remedy="put its certificate below /usr/local/share/ca-certificates and run update-ca-certificates, as root",
        )
    offline = [line for line in said if any(sign in line.lower() for sign in _OFFLINE)]
    if offline:
        return HostError(
            f"cannot {doing}: the network does not answer",
            got=offline[-1],
            remedy="check the connection; behind a proxy set HTTPS_PROXY, with an index of your own PIP_INDEX_URL",
        )
    return HostError(
        f"cannot {doing}",
        got="\n       ".join(said[-8:]) or f"exit status {done.returncode}",
        where=" ".join(words[:4]),
        remedy=remedy,
    )


def check_platform() -> None:
    """Refuse machines for which the locked wheels do not exist.

    Raises:
        HostError: not Linux on amd64 or arm64 with the GNU C library.
    """
    libc, _ = platform.libc_ver()
    if (sys.platform, libc) != ("linux", "glibc") or platform.machine() not in _MACHINES:
        raise HostError(
            "this machine is not supported",
            expected=f"Linux on {' or '.join(_MACHINES)} with glibc",
            got=f"{sys.platform} on {platform.machine()} with {libc or 'another C library'}",
            remedy="use Debian 12 or 13, or Ubuntu 22.04 or 24.04",
        )


def make_home(home: Path) -> None:
    """Create the directory of the installation; as root, one that the services' user may enter.

    Raises:
        HostError: it cannot be created, or others may not enter it.
    """
    if os.geteuid() == 0:
        _check_open(next(path for path in (home, *home.parents) if path.exists()), home)
    try:
        home.mkdir(parents=True, exist_ok=True)
        (home / ".writable").touch()
        (home / ".writable").unlink()
    except OSError as error:
        remedy = "set BOATHOUSE_HOME to a directory that you may write"
        raise HostError("cannot create the directory of the installation", got=str(error), remedy=remedy) from error


def _check_open(existing: Path, home: Path) -> None:
    for directory in (existing, *existing.parents):
        if not directory.stat().st_mode & 0o001:
            raise HostError(
                "the services' user may not enter the directory of the installation",
                expected=f"a path that every user may enter, since services drop root's rights: {home}",
                got=f"{directory} has mode {directory.stat().st_mode & 0o777:o}",
                remedy="set BOATHOUSE_HOME to another directory, or chmod a+x that one",
            )


def check_disk(home: Path) -> None:
    """Refuse to begin an installation that would not fit.

    Raises:
        HostError: too little is free.
    """
    free = shutil.disk_usage(home).free
    if free < NEEDED_BYTES:
        raise HostError(
            "too little disk for the installation",
            expected=f"{format_bytes(NEEDED_BYTES)} free",
            got=f"{format_bytes(free)}",
            where=str(home),
            remedy="free some, or set BOATHOUSE_HOME to a directory on another disk",
        )


def missing_packages(*, tests: bool) -> list[str]:
    """Packages of the distribution whose files are not there."""
    return [name for name, path, only_tests in _PACKAGES if (tests or not only_tests) and not Path(path).exists()]


def _sudo_works() -> bool:
    """Whether root's rights are to be had without a question."""
    if shutil.which("sudo") is None:
        return False
    asked = subprocess.run(["sudo", "-n", "true"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return asked.returncode == 0


def install_packages(names: Sequence[str]) -> None:
    """Install packages of the distribution, as root or by sudo without a password.

    Raises:
        HostError: that may not be done here, or it failed; the command to type is in the error.
    """
    command = "apt-get install --yes --no-install-recommends " + " ".join(names)
    if shutil.which("apt-get") is None:
        raise HostError(
            "packages of the operating system are missing",
            expected=", ".join(names),
            got="a system without apt-get",
            remedy="install what goes by these names on your system",
        )
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if prefix and not _sudo_works():
        raise HostError(
            "packages of the operating system are missing",
            expected=", ".join(names),
            got="neither root nor sudo without a password",
            remedy=f"sudo {command}",
        )
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    remedy = f"sudo apt-get update && sudo {command}"
    run([*apt, "update"], doing="update the package lists", remedy=remedy)
    run(
        [*apt, "install", "--yes", "--no-install-recommends", *names],
        doing=f"install {', '.join(names)}",
        remedy=remedy,
    )


def run_unprivileged(command: Sequence[object], *, doing: str) -> str:
    """Run a program as the services will: called by root, as a user without rights.

    Raises:
        HostError: it does not run.
    """
    words = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"] if os.geteuid() == 0 else []
    return run(
        [*words, *command],
        doing=doing,
        cwd=Path("/"),
        remedy="make distclean install; if it stays, tell us what it said",
    )
