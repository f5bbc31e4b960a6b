"""Adler32, the checksum of the lake: how it is summed, and how it is written wherever it is kept or compared."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
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
