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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from boathouse.errors import HostError
from install import debian_apt, debian_suite
from install.debian_apt import Apt
from install.debian_recipe import Recipe, Say
from install.debian_suite import Selection, version_of

RECORD = "packages.json"

TRIPLETS = {
    "amd64": ("x86_64-linux-gnu", "ld-linux-x86-64.so.2"),
    "arm64": ("aarch64-linux-gnu", "ld-linux-aarch64.so.1"),
}
"""By Debian's word for an architecture: its directory of libraries, and its loader there."""


_UNNEEDED = ("usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/lintian", "usr/share/bug", "etc", "var")


def make(into: Path, recipe: Recipe, why: str, say: Say, archive: Path | None = None) -> Path:
    """Make a tree below ``into`` from the first suite with a fit version.

    Killed half-way, the next call goes on with what was fetched. The tree appears under its name only when it is
    whole and its programs run.

    Args:
        into: directory of trees.
        recipe: what it is made of.
        why: why it is made, for the record.
        say: where to tell how far it is.
        archive: a copy of the archive (`debian_suite.copy`) to take instead of a mirror.

    Returns:
        The tree.

    Raises:
        HostError: no suite would do; each one's reason is in the error.
    """
    work = into / ".work"
    work.mkdir(parents=True, exist_ok=True)
    apt = Apt(work / "apt")
    if apt.architecture not in TRIPLETS:
        raise HostError(f"no {recipe.what} for this machine", expected=" or ".join(TRIPLETS), got=apt.architecture)
    return _build(apt, into, recipe, debian_suite.select(apt, work, recipe, say, archive), why=why, say=say)


def _build(apt: Apt, into: Path, recipe: Recipe, selection: Selection, *, why: str, say: Say) -> Path:
    packages = selection.packages
    number = hashlib.sha256("\n".join(package.sha256 for package in packages).encode()).hexdigest()[:8]
    tree = into / f"{'.'.join(map(str, version_of(selection.version)))}-{selection.suite}-{number}"
    if tree.exists():
        return tree
    archives = into / ".work" / "packages"
    debian_suite.fetch(apt, packages, archives, say)
    passing = into / ".work" / "tree"
    _remove(passing)
    for package in packages:
        debian_apt.unpack(archives / debian_apt.package_file(package), passing)
    for name in _UNNEEDED:
        _remove(passing / name)
    _open_directories(passing)
    triplet, loader = TRIPLETS[apt.architecture]
    layout = _Layout(tree, triplet, loader, recipe)
    say("checking that every program finds its libraries")
    layout.check_libraries(passing)
    layout.write_files(passing)
    layout.write_launchers(passing)
    _write_record(passing / RECORD, {**selection.described(), "why": why})
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


def _write_record(path: Path, document: Mapping[str, object]) -> None:
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
