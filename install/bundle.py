"""A bundle: one file from which a machine without a network installs. Its format, how it is written and opened.

It is a tar archive. Its first member, ``manifest.json``, says for which machines and which checkout it was made and
what is in it; below ``wheels`` lie the files that the locks name, below ``debian`` packages as in Debian's own archive,
with the index that Debian signed. Opening it compares every file with the manifest, and the Python files with the locks
of the checkout as well; the signature is left to apt, so a bundle vouches for nothing by itself.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import sys
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from boathouse.errors import HostError

FORMAT = 1
WHEELS, DEBIAN = "wheels", "debian"
_MANIFEST = "manifest.json"
_MANIFEST_BYTES = 4_000_000
_BLOCK_BYTES = 1 << 20
_ANEW = "make it anew: `make bundle` in this version of Boathouse, on a machine of this kind with a network"


@dataclass(frozen=True)
class Machine:
    """What the files of a bundle depend on."""

    architecture: str
    python: str
    """Major and minor version of the interpreter."""
    libc: str
    """Version of the GNU C library; newer ones will do."""

    @staticmethod
    def this() -> Machine:
        """The machine and the interpreter that run this."""
        return Machine(platform.machine(), f"{sys.version_info[0]}.{sys.version_info[1]}", platform.libc_ver()[1])

    def unfit_for(self, wanted: Machine) -> bool:
        """Whether what was made for another machine will not run on this one."""
        same = (self.architecture, self.python) == (wanted.architecture, wanted.python)
        return not same or _numbers(self.libc) < _numbers(wanted.libc)

    def __str__(self) -> str:
        return f"{self.architecture}, Python {self.python}, glibc {self.libc}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


@dataclass(frozen=True)
class Manifest:
    """What a bundle says of itself."""

    machine: Machine
    parts: Mapping[str, str]
    """Digests by name of what decides, in a checkout, which files an installation needs."""
    files: Mapping[str, str]
    """SHA-256 of each file by its name in the bundle."""

    def to_json(self) -> bytes:
        """As it stands in the bundle."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, sort_keys=True).encode()


@dataclass(frozen=True)
class Bundle:
    """A bundle that was checked and unpacked."""

    directory: Path

    @property
    def archive(self) -> Path:
        """Root of the copy of Debian's archive."""
        return self.directory / DEBIAN

    @property
    def variables(self) -> dict[str, str]:
        """What makes pip and uv take files from here and from nowhere else."""
        place = (self.directory / WHEELS).as_uri()
        pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": place}
        return {**pip, "UV_NO_INDEX": "1", "UV_FIND_LINKS": place, "UV_OFFLINE": "1"}


def write(target: Path, directory: Path, parts: Mapping[str, str]) -> int:
    """Write a bundle of all files below a directory, for machines like this one.

    Returns:
        Its size in bytes.
    """
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    files = {path.relative_to(directory).as_posix(): _sha256(path) for path in paths}
    manifest = Manifest(Machine.this(), parts, files).to_json()
    target.parent.mkdir(parents=True, exist_ok=True)
    passing = target.with_name(f".{target.name}.new")
    # Packages are compressed already; the index of Debian's packages is not.
    with tarfile.open(passing, "w:gz", compresslevel=1) as tar:
        _add(tar, _MANIFEST, len(manifest), BytesIO(manifest))
        for name, path in zip(files, paths, strict=True):
            with path.open("rb") as stream:
                _add(tar, name, path.stat().st_size, stream)
    passing.replace(target)
    return target.stat().st_size


def _add(tar: tarfile.TarFile, name: str, size_bytes: int, stream: BinaryIO) -> None:
    # Of the machine that it was made on, it tells no dates and no users.
    member = tarfile.TarInfo(name)
    member.size = size_bytes
    tar.addfile(member, stream)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def unpack(path: Path, into: Path, *, parts: Mapping[str, str], locks: Iterable[Path]) -> Bundle:
    """Check a bundle and unpack it.

    Args:
        path: the bundle.
        into: an empty directory.
        parts: what this checkout wants, as in `Manifest.parts`.
        locks: what this checkout takes from Python's index, with hashes.

    Raises:
        HostError: it is no bundle, or one for another machine or another checkout, or not as it was made.
    """
    try:
        with tarfile.open(path, "r:gz") as tar:
            manifest = _manifest(tar, path)
            _check_fit(manifest, parts, path)
            _check_locked(manifest, locks, path)
            _unpack_files(tar, manifest, into, path)
    except FileNotFoundError as error:
        raise HostError(
            "there is no such bundle", where=str(path), remedy="BUNDLE=FILE names what `make bundle` wrote"
        ) from error
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise HostError("the bundle cannot be read", got=str(error), where=str(path), remedy=_ANEW) from error
    return Bundle(into)


def _manifest(tar: tarfile.TarFile, path: Path) -> Manifest:
    first = tar.next()
    stream = tar.extractfile(first) if first and first.name == _MANIFEST and first.size < _MANIFEST_BYTES else None
    try:
        document = json.loads(stream.read()) if stream else {}
        known = document.pop("format") == FORMAT
        machine, parts, files = (dict(document[key]) for key in ("machine", "parts", "files"))
        manifest = Manifest(Machine(**machine), parts, files)
        known &= all(isinstance(value, str) for each in (machine, parts, files) for value in each.values())
    except (ValueError, KeyError, TypeError, AttributeError):
        known = False
    if not known:
        raise HostError(
            "this is no bundle, or one of another format", expected=f"format {FORMAT}", where=str(path), remedy=_ANEW
        )
    return manifest


def _check_fit(manifest: Manifest, parts: Mapping[str, str], path: Path) -> None:
    here = Machine.this()
    if here.unfit_for(manifest.machine):
        raise HostError(
            "the bundle is for another kind of machine",
            expected=f"{here.architecture}, Python {here.python}, glibc {here.libc} or older",
            got=str(manifest.machine),
            where=str(path),
            remedy=_ANEW,
        )
    other = sorted(name for name, digest in parts.items() if manifest.parts.get(name) != digest)
    if other:
        raise HostError(
            "the bundle was made from another version of Boathouse",
            expected="one of this checkout",
            got=f"another {', '.join(other)}",
            where=str(path),
            remedy=_ANEW,
        )


def _check_locked(manifest: Manifest, locks: Iterable[Path], path: Path) -> None:
    locked = {digest for lock in locks for digest in re.findall(r"--hash=sha256:([0-9a-f]{64})", lock.read_text())}
    strange = [
        name for name, digest in manifest.files.items() if name.startswith(f"{WHEELS}/") and digest not in locked
    ]
    if strange:
        raise HostError(
            "the bundle holds a Python package that the locks of this checkout do not name",
            got=strange[0],
            where=str(path),
            remedy=_ANEW,
        )


def _unpack_files(tar: tarfile.TarFile, manifest: Manifest, into: Path, path: Path) -> None:
    seen: set[str] = set()
    while member := tar.next():
        name = member.name
        stream = tar.extractfile(member) if member.isreg() else None
        if stream is None or name not in manifest.files or name in seen or not _harmless(name):
            raise _changed(path, f"{name}, which the manifest does not name")
        seen.add(name)
        target = into / name
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with target.open("wb") as file:
            while block := stream.read(_BLOCK_BYTES):
                digest.update(block)
                file.write(block)
        if digest.hexdigest() != manifest.files[name]:
            raise _changed(path, f"{name} with another SHA-256 than the manifest says")
    missing = sorted(set(manifest.files) - seen)
    if missing:
        raise _changed(path, f"no {missing[0]}")


def _harmless(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return parts[:1] in {(WHEELS,), (DEBIAN,)} and ".." not in parts


def _changed(path: Path, got: str) -> HostError:
    return HostError("the bundle is not as it was made", got=got, where=str(path), remedy=_ANEW)
