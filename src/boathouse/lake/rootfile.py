"""Is this a whole ROOT file? Answered from its first bytes and its size, without reading the rest.

Layout: the class description of ``TFile`` in ROOT's reference (``TFile::Init``). All numbers are big-endian::

    0   'root'      magic
    4   int32       version, plus 1000000 where the offsets below are 8 bytes long
    8   int32       fBEGIN, offset of the first record
    12  off         fEND, first free byte at the end: a closed file is at least that long
        off         fSeekFree, offset of the list of free segments: written last, when the file is closed
        int32 (3)   length of that list, number of free segments, length of the file's name record
        uint8       bytes of an offset
        int32       compression, 100 * algorithm + level
        off         fSeekInfo, offset of the class descriptions
        int32       length of those
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from boathouse.errors import InputError

HEADER_BYTES = 300
"""How many bytes :func:`check_header` wants: the header and the first record's class name."""

_ALGORITHMS = {0: "ZLIB", 1: "ZLIB", 2: "LZMA", 3: "old", 4: "LZ4", 5: "ZSTD"}
_BIG = 1_000_000
# ROOT has always put the first record at 100, or at 64 before 2001.
_SMALLEST_BEGIN, _LARGEST_BEGIN = 64, 256


@dataclass(frozen=True)
class RootSummary:
    """What the header of a ROOT file says."""

    size_bytes: int
    version: str
    """Version of ROOT's format that wrote it, e.g. ``6.30/04``."""
    compression: str
    """Algorithm and level for new records, e.g. ``ZSTD 5``, or ``none``."""


def check(path: Path) -> RootSummary:
    """Check that a file on disk is a whole ROOT file.

    Raises:
        InputError: it cannot be read, is something else, is cut short, or was never closed.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(HEADER_BYTES)
        size_bytes = path.stat().st_size
    except OSError as error:
        raise InputError("cannot read the file", got=error.strerror or str(error), where=str(path)) from error
    return check_header(head, size_bytes, str(path))


def check_header(head: bytes, size_bytes: int, where: str) -> RootSummary:
    """Check the first bytes of a file that may be remote.

    Args:
        head: the first :data:`HEADER_BYTES` bytes, or the whole file where it is shorter.
        size_bytes: size of the whole file.
        where: path or URL, for the message.

    Raises:
        InputError: it is something else, is cut short, or was never closed.
    """
    try:
        magic, version, begin = struct.unpack_from(">4sii", head)
    except struct.error:
        magic, version, begin = b"", 0, 0
    # A text file may begin with these letters too, as the list of a machine's users does.
    if magic != b"root" or not _SMALLEST_BEGIN <= begin <= _LARGEST_BEGIN:
        raise InputError(
            "not a ROOT file", expected="a file with ROOT's header", got=_describe(head, size_bytes), where=where
        )
    try:
        offset = "q" if version >= _BIG else "i"
        end, seek_free, _, _, _, _, compression, seek_info, _ = struct.unpack_from(
            f">{offset}{offset}iiiBi{offset}i", head, 12
        )
    except struct.error as error:
        raise _truncated(f"{size_bytes} bytes, not even a header", None, where) from error
    if size_bytes < end:
        raise _truncated(f"{size_bytes} bytes", f"{end} bytes, as its header says", where)
    if not begin < seek_free < end or not begin < seek_info < end:
        raise InputError(
            "the ROOT file was never closed",
            expected="lists of free segments and of classes before its end",
            got=f"offsets {seek_free} and {seek_info} in {end} bytes",
            where=where,
            remedy="let the program that writes it finish, or open it once with ROOT to recover it",
        )
    if b"TFile" not in head[begin:]:
        raise InputError("the ROOT file is damaged", expected="a TFile record first", got="other bytes", where=where)
    return RootSummary(size_bytes, _version(version % _BIG), _compression(compression))


def _truncated(got: str, expected: str | None, where: str) -> InputError:
    return InputError(
        "the ROOT file is truncated", expected=expected, got=got, where=where, remedy="copy it again from its source"
    )


def _describe(head: bytes, size_bytes: int) -> str:
    if not head:
        return "an empty file"
    return f"{size_bytes} bytes that begin with {head[:8]!r}"


def _version(number: int) -> str:
    return f"{number // 10_000}.{number // 100 % 100:02d}/{number % 100:02d}"


def _compression(code: int) -> str:
    algorithm, level = divmod(code, 100)
    return f"{_ALGORITHMS.get(algorithm, f'algorithm {algorithm}')} {level}" if level else "none"
