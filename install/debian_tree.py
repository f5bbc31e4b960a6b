"""A private tree of programs: packages of a newer Debian suite, unpacked and run through their own loader.

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
from dataclasses import dataclass
from pathlib import Path

from boathouse.errors import HostError
from install import debian_apt
from install.debian_apt import Apt, Package, SuiteError

SUITES = ("forky", "sid")
"""Where to look, in this order; the first with a fit version is taken."""

RECORD = "packages.json"

Say = Callable[[str], None]

_TRIPLETS = {
    "amd64": ("x86_64-linux-gnu", "ld-linux-x86-64.so.2"),
    "arm64": ("aarch64-linux-gnu", "ld-linux-aarch64.so.1"),
}


@dataclass(frozen=True)
class Program:
    """One program of a tree; it is run by a script ``bin/<name>``."""

    name: str
    path: str
    """Below the tree."""
    first_arguments: tuple[str, ...] = ()
    """Come before the caller's; ``{tree}`` stands for the tree."""
    environment: tuple[tuple[str, str], ...] = ()
    """Variables and their values; ``{tree}`` as above."""
    loader_beside: bool = False
    """Whether a copy of the loader must lie beside it: it looks for its own files where ``/proc/self/exe`` lies."""


@dataclass(frozen=True)
class Recipe:
    """What a tree is made of."""

    what: str
    """For messages."""
    packages: tuple[str, ...]
    """Taken with the libraries that they need; the first one's version names the tree."""
    programs: tuple[Program, ...]
    oldest: tuple[int, ...] = ()
    """No older version will do."""
    plugins: str = ""
    """Pattern of further objects in the directory of libraries whose own libraries must be there."""
    library_directories: tuple[str, ...] = ()
    """Further directories with libraries, below that one."""
    files: tuple[tuple[str, str], ...] = ()
    """Further files and what is in them; ``{tree}`` as above."""


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


def make(into: Path, recipe: Recipe, why: str, say: Say) -> Path:
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
        raise HostError(f"no {recipe.what} for this machine", expected=" or ".join(_TRIPLETS), got=apt.architecture)
    say("looking for a mirror of the Debian archive and for its keys")
    mirrors = debian_apt.find_mirrors(apt, work)
    keyring = debian_apt.find_keyring(apt, work)
    reasons: list[str] = []
    for mirror in mirrors:
        for suite in SUITES:
            try:
                say(f"reading the signed index of Debian {suite}")
                used = debian_apt.use_suite(apt, mirror, suite, keyring, work)
                packages = closure(apt, recipe.packages)
            except SuiteError as error:
                reasons.append(f"{suite}: {error.what} {error.got or ''}".strip())
                continue
            version = _version(recipe, packages)
            if version_of(version) < recipe.oldest:
                reasons.append(f"{suite} has {version}")
                continue
            return _build(apt, into, recipe, packages, origin=_origin(suite, mirror, used, why), say=say)
    raise HostError(
        f"no Debian suite gives a fit {recipe.what}",
        expected=f"{'.'.join(map(str, recipe.oldest)) or 'any version'} or later in {' or '.join(SUITES)}",
        got="\n       ".join(reasons),
        remedy=f"check the network; or set {debian_apt.MIRROR_VARIABLE} to the URL of a mirror",
    )


def _version(recipe: Recipe, packages: Sequence[Package]) -> str:
    return next(package.version for package in packages if package.name == recipe.packages[0])


def _origin(suite: str, mirror: str, keyring: Path, why: str) -> dict[str, str]:
    digest = hashlib.sha256(keyring.read_bytes()).hexdigest()
    return {"suite": suite, "mirror": mirror, "keyring": keyring.name, "keyring_sha256": digest, "why": why}


def _build(apt: Apt, into: Path, recipe: Recipe, packages: list[Package], *, origin: dict[str, str], say: Say) -> Path:
    version = _version(recipe, packages)
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
        debian_apt.unpack(archives / debian_apt.package_file(package), passing)
    for name in _UNNEEDED:
        _remove(passing / name)
    _open_directories(passing)
    triplet, loader = _TRIPLETS[apt.architecture]
    layout = _Layout(tree, triplet, loader, recipe)
    say("checking that every program finds its libraries")
    layout.check_libraries(passing)
    layout.write_files(passing)
    layout.write_launchers(passing)
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
    path = archives / debian_apt.package_file(package)
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == package.sha256


@dataclass(frozen=True)
class _Layout:
    """Where things lie in a tree that will be called ``tree``, while it still grows elsewhere."""

    tree: Path
    triplet: str
    loader: str
    recipe: Recipe

    def _libraries(self, root: Path) -> Path:
        return root / "usr/lib" / self.triplet

    def _library_path(self, root: Path) -> str:
        libraries = self._libraries(root)
        return ":".join(map(str, (libraries, *(libraries / name for name in self.recipe.library_directories))))

    def _in_tree(self, text: str) -> str:
        return text.replace("{tree}", str(self.tree))

    def check_libraries(self, root: Path) -> None:
        """Resolve the libraries of all programs and plug-ins, none of which may come from the host.

        Raises:
            HostError: one is missing.
        """
        libraries = self._libraries(root)
        objects = [root / program.path for program in self.recipe.programs]
        objects += sorted(libraries.glob(self.recipe.plugins)) if self.recipe.plugins else []
        loading = [
            str(libraries / self.loader),
            "--inhibit-cache",
            "--library-path",
            self._library_path(root),
            "--list",
        ]
        missing: dict[str, None] = {}
        for path in objects:
            listing = subprocess.run([*loading, str(path)], capture_output=True, text=True, check=False).stdout
            for line in listing.splitlines():
                name, arrow, place = line.strip().partition(" => ")
                if arrow and not place.startswith(str(root)):
                    missing[f"{name} of {path.name}"] = None
            if not listing:
                missing[path.name] = None
        if missing:
            raise HostError("libraries are missing in the suite's packages:", got=", ".join(list(missing)[:10]))

    def write_files(self, root: Path) -> None:
        """The recipe's own files."""
        for name, content in self.recipe.files:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._in_tree(content), encoding="utf-8")

    def write_launchers(self, root: Path) -> None:
        """A script for every program that runs it with the loader and libraries of the tree, and no others."""
        (root / "bin").mkdir()
        for program in self.recipe.programs:
            loader = self._libraries(self.tree) / self.loader
            if program.loader_beside:
                loader = self.tree / Path(program.path).parent / self.loader
                shutil.copy2(self._libraries(root) / self.loader, root / Path(program.path).parent / self.loader)
            words = [
                *(str(loader), "--inhibit-cache", "--library-path", self._library_path(self.tree)),
                *("--argv0", program.name, str(self.tree / program.path)),
                *map(self._in_tree, program.first_arguments),
            ]
            variables = "".join(
                f"export {name}={shlex.quote(self._in_tree(value))}\n" for name, value in program.environment
            )
            script = root / "bin" / program.name
            script.write_text(f'#!/bin/sh\n{variables}exec {shlex.join(words)} "$@"\n', encoding="utf-8")
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


def provide(into: Path, recipe: Recipe, why: str, say: Say) -> None:
    """A tree, made if there is none, whose programs are called by ``bin`` below ``into``.

    Raises:
        HostError: none can be made.
    """
    tree = existing(into) or make(into, recipe, why, say)
    passing = into / ".bin"
    passing.unlink(missing_ok=True)
    passing.symlink_to(tree / "bin")
    passing.replace(into / "bin")
