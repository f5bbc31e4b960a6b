"""A private tree of XRootD: packages of a newer Debian suite, unpacked and run through their own loader.

Such a tree needs no rights, changes nothing on the host, and runs on any older system, since it brings its C library.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from boathouse.errors import HostError
from install import xrootd_apt
from install.xrootd_apt import Apt, Package, SuiteError

SUITES = ("forky", "sid")
"""Where to look, in this order; the first with a fit version is taken."""

WANTED = (
    "xrootd-server",
    "xrootd-server-plugins",
    "xrootd-plugins",
    "xrootd-client",
    "xrootd-client-plugins",
    "xrootd-scitokens-plugins",
    "davix",
)

PROGRAMS = (
    "xrootd",
    "cmsd",
    "xrdfs",
    "xrdcp",
    "xrdadler32",
    "xrdcrc32c",
    "xrdpfc_print",
    "davix-ls",
    "davix-get",
    "davix-put",
    "davix-rm",
    "davix-mkdir",
    "davix-mv",
    "davix-http",
)

RECORD = "packages.json"

Say = Callable[[str], None]

_TRIPLETS = {
    "amd64": ("x86_64-linux-gnu", "ld-linux-x86-64.so.2"),
    "arm64": ("aarch64-linux-gnu", "ld-linux-aarch64.so.1"),
}
_UNNEEDED = ("usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/lintian", "usr/share/bug", "etc", "var")


def version_of(text: str) -> tuple[int, ...]:
    """The numbers of a version: ``(5, 9, 3)`` of ``v5.9.3`` or of Debian's ``5.9.3-1+b1``."""
    plain = text.strip().lower().removeprefix("v").rsplit(":", 1)[-1].split("-")[0].split("+")[0].split("~")[0]
    return tuple(int(part) for part in plain.split(".") if part.isdigit())


def closure(apt: Apt, names: Sequence[str]) -> list[Package]:
    """Packages with the libraries that they need, and those that these need.

    What else Debian has them depend on (Perl, log rotation, users) is for a system service, which this is not.

    Raises:
        SuiteError: the suite lacks one of ``names``.
    """
    found = apt.packages(names)
    missing = [name for name in names if name not in found]
    if missing:
        raise SuiteError("the suite lacks packages", got=", ".join(list(missing)[:10]))
    asked, new = set(names), list(found.values())
    while new:
        wanted = sorted({name for package in new for name in package.depends} - asked)
        asked.update(wanted)
        new = [package for package in apt.packages(wanted).values() if package.section in {"libs", "oldlibs"}]
        found.update({package.name: package for package in new})
    return sorted(found.values(), key=lambda package: package.name)


def make(into: Path, oldest: tuple[int, ...], why: str, say: Say) -> Path:
    """Make a tree below ``into`` from the first suite with a fit version.

    Killed half-way, the next call goes on with what was fetched. The tree appears under its name only when it is
    whole and its programs run.

    Returns:
        The tree.

    Raises:
        HostError: no suite would do; each one's reason is in the error.
    """
    work = into / ".work"
    work.mkdir(parents=True, exist_ok=True)
    apt = Apt(work / "apt")
    if apt.architecture not in _TRIPLETS:
        raise HostError("no XRootD for this machine", expected=" or ".join(_TRIPLETS), got=apt.architecture)
    say("looking for a mirror of the Debian archive and for its keys")
    mirrors = xrootd_apt.find_mirrors(apt, work)
    keyring = xrootd_apt.find_keyring(apt, work)
    reasons: list[str] = []
    for mirror in mirrors:
        for suite in SUITES:
            try:
                say(f"reading the signed index of Debian {suite}")
                used = xrootd_apt.use_suite(apt, mirror, suite, keyring, work)
                packages = closure(apt, WANTED)
            except SuiteError as error:
                reasons.append(f"{suite}: {error.what} {error.got or ''}".strip())
                continue
            version = _server_version(packages)
            if version_of(version) < oldest:
                reasons.append(f"{suite} has {version}")
                continue
            return _build(apt, into, packages, _origin(suite, mirror, used, why), say)
    raise HostError(
        "no Debian suite gives a fit XRootD",
        expected=".".join(map(str, oldest)) + f" or later in {' or '.join(SUITES)}",
        got="\n       ".join(reasons),
        remedy=f"check the network; or set {xrootd_apt.MIRROR_VARIABLE} to the URL of a mirror",
    )


def _server_version(packages: Sequence[Package]) -> str:
    return next(package.version for package in packages if package.name == "xrootd-server")


def _origin(suite: str, mirror: str, keyring: Path, why: str) -> dict[str, str]:
    digest = hashlib.sha256(keyring.read_bytes()).hexdigest()
    return {"suite": suite, "mirror": mirror, "keyring": keyring.name, "keyring_sha256": digest, "why": why}


def _build(apt: Apt, into: Path, packages: list[Package], origin: dict[str, str], say: Say) -> Path:
    version = _server_version(packages)
    number = hashlib.sha256("\n".join(package.sha256 for package in packages).encode()).hexdigest()[:8]
    tree = into / f"{'.'.join(map(str, version_of(version)))}-{origin['suite']}-{number}"
    if tree.exists():
        return tree
    archives = into / ".work" / "packages"
    archives.mkdir(exist_ok=True)
    absent = [package for package in packages if not _is_whole(archives, package)]
    say(f"fetching {len(absent)} packages, {sum(package.size for package in absent) / 1e6:.0f} MB")
    apt.download(absent, archives)
    passing = into / ".work" / "tree"
    _remove(passing)
    for package in packages:
        if not _is_whole(archives, package):
            raise HostError("a package is not what the signed index says", where=package.filename)
        xrootd_apt.unpack(archives / xrootd_apt.package_file(package), passing)
    for name in _UNNEEDED:
        _remove(passing / name)
    _open_directories(passing)
    triplet, loader = _TRIPLETS[apt.architecture]
    say("checking that every program finds its libraries")
    _check_libraries(passing, triplet, loader)
    _write_launchers(passing, tree, triplet, loader)
    _write_record(passing / RECORD, version, packages, origin)
    passing.rename(tree)
    _remove(into / ".work")
    return tree


def _open_directories(root: Path) -> None:
    """Let the owner change every directory: a few come read-only, and could not be removed again."""
    for directory, _, _ in os.walk(root):
        Path(directory).chmod(0o755)


def _remove(directory: Path) -> None:
    if directory.exists():
        _open_directories(directory)
        shutil.rmtree(directory)


def _is_whole(archives: Path, package: Package) -> bool:
    path = archives / xrootd_apt.package_file(package)
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == package.sha256


def _check_libraries(tree: Path, triplet: str, loader: str) -> None:
    """Resolve the libraries of all programs and plug-ins, none of which may come from the host.

    Raises:
        HostError: one is missing.
    """
    libraries = tree / "usr/lib" / triplet
    objects = [tree / "usr/bin" / name for name in PROGRAMS] + sorted(libraries.glob("libXrd*.so"))
    missing: dict[str, None] = {}
    for path in objects:
        command = [str(libraries / loader), "--inhibit-cache", "--library-path", str(libraries), "--list", str(path)]
        listing = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        for line in listing.splitlines():
            name, arrow, place = line.strip().partition(" => ")
            if arrow and not place.startswith(str(tree)):
                missing[f"{name} of {path.name}"] = None
        if not listing:
            missing[path.name] = None
    if missing:
        raise HostError("libraries are missing in the suite's packages:", got=", ".join(list(missing)[:10]))


def _write_launchers(passing: Path, tree: Path, triplet: str, loader: str) -> None:
    """A script for every program that runs it with the loader and libraries of the tree, and no others."""
    (passing / "bin").mkdir()
    libraries = tree / "usr/lib" / triplet
    for name in PROGRAMS:
        script = passing / "bin" / name
        words = [
            str(libraries / loader),
            "--inhibit-cache",
            "--library-path",
            str(libraries),
            "--argv0",
            name,
            str(tree / "usr/bin" / name),
        ]
        script.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n', encoding="utf-8")
        script.chmod(0o755)


def _write_record(path: Path, version: str, packages: list[Package], origin: dict[str, str]) -> None:
    document = {
        **origin,
        "version": version,
        "packages": [
            {
                "package": package.name,
                "version": package.version,
                "architecture": package.architecture,
                "sha256": package.sha256,
                "size_bytes": package.size,
            }
            for package in packages
        ],
    }
    with path.open("w", encoding="utf-8") as handle:
        json.dump(document, handle, indent=2)
        handle.write("\n")
        handle.flush()
        os.fsync(handle.fileno())


def existing(into: Path) -> Path | None:
    """The newest whole tree below ``into``, or None."""
    trees = [path.parent for path in into.glob(f"*/{RECORD}")]
    return max(trees, key=lambda tree: (version_of(tree.name), tree.stat().st_mtime), default=None)
