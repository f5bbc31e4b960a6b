"""Which packages of which Debian suite are taken, and a copy of them that needs no network.

Every package's hash is the one in the suite's index, and the index is signed: `debian_apt` holds apt to that.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from boathouse.errors import HostError
from install import debian_apt
from install.debian_apt import Apt, Package, SuiteError
from install.debian_recipe import Recipe, Say

SUITES = ("forky", "sid")
"""Where to look, in this order; the first with a fit version is taken."""


@dataclass(frozen=True)
class Selection:
    """The packages of one suite for one architecture."""

    suite: str
    version: str
    """Of the first package that was asked for."""
    mirror: str
    keyring: Path
    """The keys that verified the suite's index."""
    packages: tuple[Package, ...]

    def described(self) -> dict[str, object]:
        """For a record: what was taken, from where, and the hashes that the signed index tells."""
        return {
            "suite": self.suite,
            "version": self.version,
            "mirror": "a bundle" if self.mirror.startswith("file:") else self.mirror,
            "keyring": self.keyring.name,
            "keyring_sha256": hashlib.sha256(self.keyring.read_bytes()).hexdigest(),
            "packages": [
                {
                    "package": package.name,
                    "version": package.version,
                    "architecture": package.architecture,
                    "sha256": package.sha256,
                    "size_bytes": package.size,
                }
                for package in self.packages
            ],
        }


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


def select(apt: Apt, work: Path, recipe: Recipe, say: Say, archive: Path | None = None) -> Selection:
    """The packages of the first suite with a fit version, with the libraries that they need.

    Args:
        apt: for whose architecture.
        work: directory for what is fetched on the way.
        recipe: what is wanted, and no older than what.
        say: where to tell how far it is.
        archive: a copy of the archive to look in instead of the mirrors.

    Raises:
        HostError: no suite would do; each one's reason is in the error.
    """
    mirrors, keyring = _copied(archive) if archive else _on_the_network(apt, work, say)
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
            version = next(package.version for package in packages if package.name == recipe.packages[0])
            if version_of(version) < recipe.oldest:
                reasons.append(f"{suite} has {version}")
                continue
            return Selection(suite, version, mirror, used, tuple(packages))
    raise HostError(
        f"no Debian suite gives a fit {recipe.what}",
        expected=f"{'.'.join(map(str, recipe.oldest)) or 'any version'} or later in {' or '.join(SUITES)}",
        got="\n       ".join(reasons),
        remedy=f"check the network; or set {debian_apt.MIRROR_VARIABLE} to the URL of a mirror",
    )


def _on_the_network(apt: Apt, work: Path, say: Say) -> tuple[list[str], Path]:
    say("looking for a mirror of the Debian archive and for its keys")
    return debian_apt.find_mirrors(apt, work), debian_apt.find_keyring(apt, work)


def _copied(archive: Path) -> tuple[list[str], Path]:
    keyring = debian_apt.installed_keyring()
    if keyring is None:
        raise HostError(
            "this machine does not have the keys of the Debian archive, and nothing else vouches for a bundle",
            expected=str(debian_apt.KEYRINGS[-1]),
            remedy="install the package debian-archive-keyring",
        )
    return [archive.as_uri()], keyring


def fetch(apt: Apt, packages: Sequence[Package], directory: Path, say: Say) -> None:
    """Fetch packages into a directory; those that are there already are not fetched again.

    Raises:
        HostError: one cannot be fetched, or is not what the signed index says.
    """
    directory.mkdir(parents=True, exist_ok=True)
    absent = [package for package in packages if not _is_whole(directory, package)]
    say(f"fetching {len(absent)} packages, {sum(package.size for package in absent) / 1e6:.0f} MB")
    apt.download(absent, directory)
    for package in packages:
        if not _is_whole(directory, package):
            raise HostError("a package is not what the signed index says", where=package.path)


def _is_whole(directory: Path, package: Package) -> bool:
    path = directory / debian_apt.package_file(package)
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == package.sha256


def copy(apt: Apt, work: Path, recipe: Recipe, archive: Path, say: Say) -> Selection:
    """Copy packages, and the signed index that vouches for them, laid out as in the archive that they come from.

    Args:
        apt: for whose architecture.
        work: directory for what is fetched on the way.
        recipe: what is wanted.
        archive: root of the copy.
        say: where to tell how far it is.

    Raises:
        HostError: no suite has them, or they cannot be fetched.
    """
    selection = select(apt, work, recipe, say)
    fetch(apt, selection.packages, work / "packages", say)
    apt.copy_index(selection.suite, archive)
    for package in selection.packages:
        target = archive / package.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(work / "packages" / debian_apt.package_file(package), target)
    return selection
