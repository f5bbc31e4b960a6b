"""The input of a run: a frozen list of files, named by its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from boathouse.checksums import Adler32
from boathouse.errors import InputError, NotFoundError
from boathouse.lake.names import Did
from boathouse.lake.rootfile import check


@dataclass(frozen=True)
class InputFile:
    """One file of a dataset; ``urls`` say where to read it, best first."""

    name: str
    """The DID, or the path of a local file."""
    size_bytes: int
    adler32: str
    urls: tuple[str, ...]


@dataclass(frozen=True)
class Dataset:
    """A dataset as it was when a run began: later changes of the lake do not change what is read."""

    name: str
    files: tuple[InputFile, ...]
    """In the order of their names, which is also the order in which results are merged."""

    @property
    def size_bytes(self) -> int:
        """Size of all files."""
        return sum(file.size_bytes for file in self.files)

    @property
    def sha256(self) -> str:
        """Hash of names, sizes and checksums: the same wherever the files are read from."""
        content = [[file.name, file.size_bytes, file.adler32] for file in self.files]
        return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


class LakeFileLike(Protocol):
    """What this module needs to know of a :class:`~boathouse.lake.access.LakeFile`."""

    @property
    def did(self) -> Did: ...  # noqa: D102
    @property
    def size_bytes(self) -> int: ...  # noqa: D102
    @property
    def adler32(self) -> str: ...  # noqa: D102
    @property
    def urls(self) -> tuple[str, ...]: ...  # noqa: D102


class FileFinder(Protocol):
    """What this module needs of a :class:`~boathouse.lake.lake.Lake`."""

    def files(self, did: Did, *, site: str | None = None) -> Sequence[LakeFileLike]:
        """Files of a dataset with their URLs, best first."""


def from_lake(lake: FileFinder, did: Did, *, site: str | None = None) -> Dataset:
    """Ask the lake for the files of a dataset and where to read them.

    Raises:
        NotFoundError: no such DID, or it has no file.
        InputError: a file has no replica that can be read.
    """
    found = sorted(lake.files(did, site=site), key=lambda file: str(file.did))
    if not found:
        raise NotFoundError("the dataset is empty", where=str(did), remedy=f"boathouse import FILES --to {did}")
    lost = [str(file.did) for file in found if not file.urls]
    if lost:
        raise InputError(
            "files without a replica that can be read",
            got=", ".join(lost[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else ""),
            where=str(did),
            remedy="boathouse audit",
        )
    files = (InputFile(str(file.did), file.size_bytes, file.adler32, tuple(file.urls)) for file in found)
    return Dataset(str(did), tuple(files))


def from_paths(paths: Sequence[Path]) -> Dataset:
    """Local files as a dataset, for trying an analysis before there is a lake.

    Raises:
        InputError: a file is missing, truncated or not ROOT.
    """
    files = []
    for path in sorted(paths):
        summary = check(path)
        files.append(InputFile(str(path), summary.size_bytes, Adler32.of(path).hexdigest(), (str(path.resolve()),)))
    return Dataset("local files", tuple(files))
