"""The machine: disk, memory, limits, clock, loopback, certificates that the environment names."""

from __future__ import annotations

import os
import pwd
import resource
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from boathouse.facility.model import TRANSFERS_ADDRESS
from boathouse.run.doctor.finding import Finding, Patient, fail, ok, warn
from boathouse.run.local.account import SYSTEM_USER
from boathouse.services import confine
from boathouse.units import format_bytes, format_seconds

_NEEDED_DISK_BYTES = 2_000_000_000
_LITTLE_DISK_BYTES = 5_000_000_000
_LITTLE_MEMORY_BYTES = 2_000_000_000
_FEW_FILES = 4096
_CLOCK_TOLERANCE_S = 60.0
_CA_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "X509_CERT_DIR")
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux has it
_TEST_PROGRAMS = ("curl",)


def user(patient: Patient) -> Iterator[Finding]:
    """Services run without root's rights."""
    del patient
    if os.geteuid() != 0:
        yield ok(f"services run as {pwd.getpwuid(os.geteuid()).pw_name}")
        return
    exists = any(entry.pw_name == SYSTEM_USER for entry in pwd.getpwall())
    yield ok(
        f"services run as {SYSTEM_USER}, since root calls" + ("" if exists else "; `boathouse up` makes that user")
    )


def disk(patient: Patient) -> Iterator[Finding]:
    """There is room for what users bring."""
    disks = {path.stat().st_dev: path for path in (_existing(patient.state), _existing(patient.home))}
    for path in disks.values():
        free = shutil.disk_usage(path).free
        detail = f"{format_bytes(free)} free in {path}"
        remedy = "make room: writers stop at services.disk_reserve"
        if free < _NEEDED_DISK_BYTES:
            yield fail(detail, remedy)
        elif free < _LITTLE_DISK_BYTES:
            yield warn(detail, remedy)
        else:
            yield ok(detail)


def _existing(path: Path) -> Path:
    return next(one for one in (path, *path.absolute().parents) if one.exists())


def memory(patient: Patient) -> Iterator[Finding]:
    """The services and an analysis fit into memory."""
    del patient
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    available = int(fields["MemAvailable"].split()[0]) * 1024
    if available < _LITTLE_MEMORY_BYTES:
        yield warn(
            f"{format_bytes(available)} available", "close something: a facility takes about 1 GB, an analysis 1 GB"
        )
    else:
        yield ok(f"{format_bytes(available)} available")


def open_files(patient: Patient) -> Iterator[Finding]:
    """A process may hold enough files and connections."""
    del patient
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _FEW_FILES:
        yield warn(f"a process may open {hard} files", f"ulimit -Hn {_FEW_FILES}, or /etc/security/limits.conf")
    else:
        yield ok("no limit" if hard == resource.RLIM_INFINITY else f"a process may open {hard} files")


def temporary_directory(patient: Patient) -> Iterator[Finding]:
    """Temporary files can be made."""
    del patient
    with tempfile.TemporaryFile() as file:
        file.write(b"x")
    yield ok(tempfile.gettempdir())


def shared_memory(patient: Patient) -> Iterator[Finding]:
    """PostgreSQL may make shared memory, also as another user than the one who calls."""
    del patient
    if not _SHARED_MEMORY.is_dir():
        yield fail(f"{_SHARED_MEMORY} is missing", f"mount -t tmpfs -o mode=1777 tmpfs {_SHARED_MEMORY}")
    elif not _SHARED_MEMORY.stat().st_mode & stat.S_IWOTH:
        yield fail(f"{_SHARED_MEMORY} is not open to every user", f"chmod 1777 {_SHARED_MEMORY}")
    else:
        yield ok(f"{format_bytes(shutil.disk_usage(_SHARED_MEMORY).free)} free in {_SHARED_MEMORY}")


def confinement(patient: Patient) -> Iterator[Finding]:
    """The kernel keeps storage servers from the files of other services."""
    del patient
    try:
        version = confine.version()
    except OSError as error:
        yield warn(
            f"no Landlock ({error.strerror}): a flaw in a storage server opens the files of all services",
            "Linux 5.13 or later, with landlock in /sys/kernel/security/lsm",
        )
        return
    if version < confine.MOVES_SINCE:
        yield warn(
            f"Landlock {version} keeps storage from moving files between directories",
            "Linux 5.19 or later, if clients move files",
        )
    else:
        yield ok(f"storage servers are confined by Landlock {version}")


def clock(patient: Patient) -> Iterator[Finding]:
    """Time goes forward, since tokens and certificates are believed by the clock."""
    for path in (patient.home / "install.json", patient.state / "state.json"):
        if path.exists():
            ahead_s = path.stat().st_mtime - time.time()
            if ahead_s > _CLOCK_TOLERANCE_S:
                yield fail(
                    f"{path.name} was written {format_seconds(ahead_s)} in the future", "timedatectl set-ntp true"
                )
                return
    yield ok(time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))


def loopback(patient: Patient) -> Iterator[Finding]:
    """Each storage element gets a loopback address of its own, and the issuer is called localhost."""
    del patient
    for address in (TRANSFERS_ADDRESS, "127.0.1.11"):
        with socket.socket() as probe:
            try:
                probe.bind((address, 0))
            except OSError as error:
                yield fail(f"cannot listen on {address}: {error.strerror}", f"ip address add {address}/8 dev lo")
                return
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo("localhost", None)}
    except socket.gaierror:
        found = set()
    if "127.0.0.1" in found:
        yield ok("127.0.0.0/8 can be used, localhost is 127.0.0.1")
    else:
        yield fail("localhost is not 127.0.0.1", "echo 127.0.0.1 localhost >> /etc/hosts, as root")


def trusted_authorities(patient: Patient) -> Iterator[Finding]:
    """Variables that name certificate authorities name files that exist."""
    del patient
    named = {name: value for name in _CA_VARIABLES if (value := os.environ.get(name))}
    broken = {name: value for name, value in named.items() if not Path(value.split(":")[0]).exists()}
    for name, value in broken.items():
        yield warn(f"{name} names {value}, which is not there", f"unset {name}")
    if not broken:
        yield ok(", ".join(named) or "none named")


def test_programs(patient: Patient) -> Iterator[Finding]:
    """Programs that only the tests run."""
    del patient
    missing = [name for name in _TEST_PROGRAMS if shutil.which(name) is None]
    if missing:
        yield warn(f"not there, wanted by `make test` only: {', '.join(missing)}", "make test installs them")
    else:
        yield ok(", ".join(_TEST_PROGRAMS))


CHECKS = (
    user,
    disk,
    memory,
    open_files,
    temporary_directory,
    shared_memory,
    confinement,
    clock,
    loopback,
    trusted_authorities,
    test_programs,
)
