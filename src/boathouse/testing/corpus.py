"""Bytes with a property that tests want."""

from __future__ import annotations

import hashlib
from itertools import count as numbers

from boathouse.checksums import Adler32


def with_zeros(count: int, salt: str = "") -> bytes:
    """Bytes whose adler32 begins with so many zeros, and with no more (rucio/rucio#4127); others for another salt."""
    for number in numbers():
        data = hashlib.sha512(f"{salt} {number}".encode()).hexdigest().encode()
        digits = Adler32(data).hexdigest()
        if len(digits) - len(digits.lstrip("0")) == count:
            break
    return data
