"""Adler32, the checksum of the lake: how it is summed, and how it is written wherever it is kept or compared.

And how servers tell the checksum of a file, of whatever algorithm.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from boathouse.errors import InputError

_BLOCK_BYTES = 1 << 20


class Adler32:
    """The adler32 of all bytes given so far; used like the hashes of :mod:`hashlib`."""

    def __init__(self, content: bytes = b"") -> None:
        self._value = zlib.adler32(content)

    @classmethod
    def of(cls, path: Path) -> Self:
        """That of a file.

        Raises:
            OSError: it cannot be read.
        """
        made = cls()
        with path.open("rb") as stream:
            made.update_from(stream.read)
        return made

    def update(self, block: bytes) -> None:
        """Add the next bytes."""
        self._value = zlib.adler32(block, self._value)

    def update_from(self, read: Callable[[int], bytes]) -> None:
        """Add all that a stream's ``read`` gives, up to its end."""
        while block := read(_BLOCK_BYTES):
            self.update(block)

    def hexdigest(self) -> str:
        """As the catalogue keeps it: eight lower-case hexadecimal digits, leading zeros kept."""
        return f"{self._value:08x}"


def told(headers: Mapping[str, str], name: str, field: str, size_bytes: int) -> int | None:
    """The checksum that a server tells of a file, as a number; None if it tells none that can be read.

    Args:
        headers: of its answer, with names looked up without regard to case.
        name: of the algorithm in ``Digest`` (RFC 3230 registry).
        field: of the algorithm in ``Repr-Digest`` (RFC 9530 registry); ``name`` is taken there, too.
        size_bytes: of the checksum.
    """
    for entry in headers.get("Digest", "").split(","):
        key, _, value = entry.strip().partition("=")
        if key.lower() == name and value:
            # RFC 3230 wants md5 in base64, and most storage elements send it in hexadecimal.
            hexadecimal = re.fullmatch(rf"(?:0x)?([0-9a-f]{{1,{2 * size_bytes}}})", value.strip().lower())
            return int(hexadecimal[1], 16) if hexadecimal else from_base64(value, size_bytes)
    for entry in headers.get("Repr-Digest", "").split(","):
        key, _, value = entry.strip().partition("=")
        if key.lower() in (field, name) and value.startswith(":"):
            return from_base64(value.strip(":"), size_bytes)
    return None


def from_base64(value: str, size_bytes: int) -> int | None:
    """The number whose bytes, highest first, are a text in base64; None if they are not, or not so many."""
    try:
        raw = base64.b64decode(value, validate=True)
    except binascii.Error:
        return None
    return int.from_bytes(raw, "big") if len(raw) == size_bytes else None


def normalise_adler32(text: str) -> str:
    """An adler32 that somebody else wrote, as :meth:`Adler32.hexdigest` writes it.

    Storage families differ in whether they drop leading zeros (rucio/rucio#4127): compare only what
    went through here.

    Raises:
        InputError: the text is not a 32-bit hexadecimal number.
    """
    digits = text.strip().lower().removeprefix("0x")
    if not re.fullmatch(r"[0-9a-f]{1,8}", digits):
        raise InputError("not an adler32 checksum", expected="1 to 8 hexadecimal digits", got=repr(text))
    return digits.zfill(8)
