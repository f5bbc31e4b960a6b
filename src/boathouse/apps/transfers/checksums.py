"""Checksums as they travel: ``ADLER32:062c0215`` from clients, ``Digest`` and ``Repr-Digest`` from storage.

They are compared as numbers. Some catalogues drop the zeros in front of an adler32, some storage does: ``9600001``
and ``09600001`` are one checksum.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass

from boathouse.checksums import from_base64 as read_base64
from boathouse.checksums import told
from boathouse.errors import InputError


@dataclass(frozen=True)
class Algorithm:
    """A checksum algorithm under its three names."""

    name: str
    """Name in ``Want-Digest`` and in FTS3 (RFC 3230 registry)."""
    field: str
    """Name in ``Repr-Digest`` (RFC 9530; ``adler`` and ``crc32c`` in its registry)."""
    size_bytes: int


ALGORITHMS = {
    algorithm.name: algorithm
    for algorithm in (Algorithm("adler32", "adler", 4), Algorithm("crc32c", "crc32c", 4), Algorithm("md5", "md5", 16))
}
_SEPARATORS = re.compile(r"[:=]")


@dataclass(frozen=True)
class Checksum:
    """A checksum; two are equal when algorithm and number are."""

    algorithm: Algorithm
    value: int

    def __str__(self) -> str:
        return f"{self.algorithm.name.upper()}:{self.hex}"

    @property
    def hex(self) -> str:
        """All digits, zeros in front included."""
        return f"{self.value:0{2 * self.algorithm.size_bytes}x}"

    @property
    def repr_digest(self) -> str:
        """Value of a ``Repr-Digest`` header (RFC 9530: a structured dictionary of byte sequences)."""
        return f"{self.algorithm.field}=:{self.base64}:"

    @property
    def base64(self) -> str:
        """Its bytes, highest first, in base64."""
        return base64.b64encode(self.value.to_bytes(self.algorithm.size_bytes, "big")).decode()


def parse(text: str | None) -> tuple[Algorithm | None, Checksum | None]:
    """What a client wants checked: ``"ADLER32:062c0215"``, ``"ADLER32"`` (ask the source), or nothing.

    Returns:
        The algorithm, and the checksum if its value was given.

    Raises:
        InputError: the algorithm is not known, or the value is not one of its values.
    """
    if not text:
        return None, None
    name, *rest = _SEPARATORS.split(text.strip(), maxsplit=1)
    algorithm = ALGORITHMS.get(name.lower())
    if algorithm is None:
        raise InputError("unknown checksum algorithm", expected=" ".join(ALGORITHMS), got=name)
    if not rest or not rest[0]:
        return algorithm, None
    return algorithm, _from_hex(algorithm, rest[0])


def _from_hex(algorithm: Algorithm, text: str) -> Checksum:
    digits = text.strip().lower().removeprefix("0x")
    if not re.fullmatch(rf"[0-9a-f]{{1,{2 * algorithm.size_bytes}}}", digits):
        raise InputError(
            f"not a checksum of algorithm {algorithm.name}",
            expected=f"1 to {2 * algorithm.size_bytes} hexadecimal digits",
            got=text,
        )
    return Checksum(algorithm, int(digits, 16))


def from_headers(headers: Mapping[str, str], algorithm: Algorithm) -> Checksum | None:
    """The checksum that a storage element answered, if it did.

    Args:
        headers: the answer's headers, with names looked up without regard to case.
        algorithm: the one that was asked for.
    """
    value = told(headers, algorithm.name, algorithm.field, algorithm.size_bytes)
    return None if value is None else Checksum(algorithm, value)


def from_base64(algorithm: Algorithm, value: str) -> Checksum | None:
    """The checksum whose bytes, highest first, are a text in base64; none if they are not."""
    number = read_base64(value, algorithm.size_bytes)
    return None if number is None else Checksum(algorithm, number)
