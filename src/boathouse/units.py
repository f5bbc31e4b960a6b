"""Bytes, durations, bandwidths and days: the only parser and formatter of each."""

from __future__ import annotations

import datetime as dt
import re

from boathouse.errors import InputError

_BYTE_FACTORS = {"": 1, "B": 1} | {
    prefix + suffix: base**power
    for suffix, base in (("B", 1000), ("iB", 1024))
    for power, prefix in enumerate(("k", "M", "G", "T", "P"), start=1)
}
_LONGEST_LIFE_S = 36_500 * 86_400.0
_SECOND_FACTORS = {"": 1.0, "s": 1.0, "ms": 1e-3, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BIT_FACTORS = {"": 1} | {
    f"{prefix}{unit}/s": bits * 1000**power
    for unit, bits in (("bit", 1), ("B", 8))
    for power, prefix in enumerate(("", "k", "M", "G", "T"))
}
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z/]*)\s*")


def _parse(text: str | float, factors: dict[str, int] | dict[str, float], kind: str) -> float:
    match = _QUANTITY.fullmatch(str(text))
    factor = None
    if match:
        unit = match[2]
        factor = factors.get(unit, factors.get(unit[:1].lower() + unit[1:]))
    if match is None or factor is None:
        names = ", ".join(name for name in factors if name)
        raise InputError(f"not a {kind}", expected=f"a number and one of {names}", got=repr(text))
    return float(match[1]) * factor


def parse_bytes(text: str | float) -> int:
    """Bytes from ``"20 GB"`` (decimal), ``"1 GiB"`` (binary) or a plain number.

    Raises:
        InputError: the text is not a size.
    """
    return int(_parse(text, _BYTE_FACTORS, "size"))


def parse_seconds(text: str | float) -> float:
    """Seconds from ``"90"``, ``"1.5 h"``, ``"2 d"``, ``"300 ms"``.

    Raises:
        InputError: the text is not a duration.
    """
    return _parse(text, _SECOND_FACTORS, "duration")


def parse_bandwidth(text: str | float) -> int:
    """Bits per second from ``"1 Gbit/s"``, ``"100 MB/s"`` or a plain number.

    Raises:
        InputError: the text is not a bandwidth.
    """
    return int(_parse(text, _BIT_FACTORS, "bandwidth"))


def parse_lifetime(text: str | float) -> float:
    """Seconds, as :func:`parse_seconds`, of something that ends on a day that the calendar has.

    Raises:
        InputError: the text is not a duration, or longer than a hundred years.
    """
    seconds = parse_seconds(text)
    if seconds > _LONGEST_LIFE_S:
        raise InputError("too long a lifetime", expected="at most 36500 d; for ever is none at all", got=repr(text))
    return seconds


def format_bytes(size_bytes: float) -> str:
    """Bytes for people, decimal: ``1.3 GB``; of a difference there may be less than none."""
    if size_bytes < 0:
        return f"-{format_bytes(-size_bytes)}"
    for unit, factor in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes:.0f} B"


def format_seconds(duration_s: float) -> str:
    """A duration for people: ``420 ms``, ``12.3 s``, ``4 min 5 s``, ``3 h 2 min``."""
    if duration_s < 1:
        return f"{duration_s * 1000:.0f} ms"
    if duration_s < 60:
        return f"{duration_s:.1f} s"
    minutes, seconds = divmod(round(duration_s), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def end_of_day(text: str) -> int:
    """The last second of a day in UTC, in seconds since the epoch: something that ends on a day lasts through it.

    Args:
        text: as ISO 8601 writes days, ``2027-01-31``.

    Raises:
        InputError: there is no such day.
    """
    try:
        if _DAY.fullmatch(text):
            midnight = dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)
            return int(midnight.timestamp()) + 86400 - 1
    except ValueError:
        pass
    raise InputError("not a day", expected="a day such as 2027-01-31", got=repr(text[:80]))
