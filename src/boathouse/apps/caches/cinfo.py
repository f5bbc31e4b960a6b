"""What a cache keeps, read from its directory: XCache's ``.cinfo`` beside each file says which blocks are there.

A cache in front of elements keeps a file by its path there, ``/lake/…``; one in front of another cache by the whole
path of the request, ``/roots:/host:port/lake/…``, once for each element and way of writing that it was asked by.

Version 4 of the format, ``XrdPfc::Info::Read``: the version, the fields of ``Store``, their checksum, one bit a block.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SUFFIX = ".cinfo"
_SCHEMES = ("roots:", "root:")
_ORIGIN = re.compile(rf"\A/(?:{'|'.join(_SCHEMES)})/[^/]+(?=/)")
_STATISTICS = "pfc-stats"
_VERSION = 4
_HEAD = struct.Struct("=i qqqqQ Ii I")
_SECTOR_BYTES = 512


@dataclass(frozen=True)
class Kept:
    """A file of which a cache keeps blocks."""

    name: str
    """The path by which the cache keeps it."""
    size_bytes: int
    disk_bytes: int
    """What it takes on disk."""
    kept_since: int
    """Seconds since the epoch."""
    used_at: float
    """When it was last let go of, seconds since the epoch."""
    complete: bool
    """Whether all blocks are there."""

    @property
    def path(self) -> str:
        """The path on storage."""
        return on_storage(self.name)


def on_storage(name: str) -> str:
    """The path on storage of what a cache keeps by a path."""
    return _ORIGIN.sub("", name)


def of(data: Path, path: str) -> list[Kept]:
    """All that a cache keeps of a file.

    Args:
        data: the cache's directory.
        path: of the file on storage.
    """
    origins = (f"/{origin.relative_to(data)}" for scheme in _SCHEMES for origin in (data / scheme).glob("*"))
    return [found for origin in ("", *sorted(origins)) if (found := one(data, origin + path)) is not None]


def kept(data: Path) -> Iterator[Kept]:
    """All that a cache keeps; what goes away meanwhile is left out."""
    for directory, names, files in os.walk(data):
        # Tags of page checksums, and XCache's own statistics, are no files of the lake.
        names[:] = [name for name in names if not name.startswith(".") and name != _STATISTICS]
        for name in files:
            if name.endswith(SUFFIX):
                found = one(data, f"/{(Path(directory) / name.removesuffix(SUFFIX)).relative_to(data)}")
                if found is not None:
                    yield found


def one(data: Path, name: str) -> Kept | None:
    """What a cache keeps by a path; None if that is nothing, or is going away.

    Args:
        data: the cache's directory.
        name: the path by which the cache keeps it.
    """
    place = data / name.lstrip("/")
    info = place.with_name(place.name + SUFFIX)
    try:
        content, about = info.read_bytes(), info.stat()
        disk_bytes = (place.stat().st_blocks + about.st_blocks) * _SECTOR_BYTES
    except OSError:
        return None
    try:
        version, block_bytes, size_bytes, kept_since, *_ = _HEAD.unpack_from(content)
    except struct.error:
        return None
    if version != _VERSION or block_bytes <= 0 or size_bytes < 0:
        return None
    blocks = -(-size_bytes // block_bytes)
    return Kept(name, size_bytes, disk_bytes, kept_since, about.st_mtime, _all_set(content[_HEAD.size :], blocks))


def _all_set(bits: bytes, blocks: int) -> bool:
    whole, rest = divmod(blocks, 8)
    if len(bits) < whole + (rest > 0) or any(byte != 0xFF for byte in bits[:whole]):
        return False
    mask = (1 << rest) - 1
    return not rest or bits[whole] & mask == mask
