"""XCache's g-stream: what happened to a file between its first open and its last close, and who really said so.

The form is that of ``XrdXrootdGSReal`` with ``json``: a datagram is a line with its number and one line a record.
The record ``file_close`` is written by ``XrdPfc::Cache::dec_ref_cnt``; XCache sends no record of what it purges.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FILE_CLOSE = "file_close"
_NUMBERS = 1000
"""Datagrams of a process are numbered from 1 to 999 and then from 0 to 999, over and over."""
_LISTEN = "0A"
_LOOKS = 3
"""How often the tables are read before a datagram is refused."""


@dataclass(frozen=True)
class Close:
    """A file that nobody reads any more: what was served and fetched since it was opened."""

    name: str
    """The path by which the cache keeps it."""
    size_bytes: int
    opened_at: int
    closed_at: int
    hit_bytes: int
    """Served from disk; with read-ahead, also what had been fetched for that a moment before."""
    missed_bytes: int
    """Served while being fetched."""
    bypassed_bytes: int
    """Served without being kept."""
    written_bytes: int
    """Fetched and kept: asked for, read ahead, and the rest of blocks of which only a part was asked for."""
    prefetched_bytes: int
    """Those of them that were read ahead."""
    checksum_errors: int
    """Blocks that arrived wrong."""
    origins: tuple[str, ...]
    """``host:port`` from which it was fetched."""

    @property
    def served_bytes(self) -> int:
        """What readers got."""
        return self.hit_bytes + self.missed_bytes + self.bypassed_bytes

    @property
    def fetched_bytes(self) -> int:
        """What crossed the link to the origin."""
        return self.written_bytes + self.bypassed_bytes


@dataclass(frozen=True)
class Datagram:
    """What came at once."""

    began_at: int
    """When the cache's process began, seconds since the epoch: a new process counts anew."""
    number: int
    closes: tuple[Close, ...]
    unreadable: int
    """Records that are not what they should be."""


def parse(content: bytes) -> Datagram | None:
    """A datagram's records; None for what is no such datagram, such as the stream's identification.

    Raises:
        ValueError: it is not of this form.
    """
    head, *lines = content.rstrip(b"\0").split(b"\n")
    header = _object(head)
    if header.get("code") != "g" or dict(header.get("gs", {})).get("type") != "C":
        return None
    closes: list[Close] = []
    unreadable = 0
    for line in filter(None, (line.strip(b"\0 ") for line in lines)):
        try:
            record = _object(line)
            if record.get("event") == _FILE_CLOSE:
                closes.append(_close(record))
        except (ValueError, KeyError, TypeError):
            unreadable += 1
    return Datagram(int(header["stod"]), int(header["pseq"]), tuple(closes), unreadable)


def lost_between(before: int, now: int) -> int:
    """How many datagrams are missing between two numbers of one process; 0 stands before its first."""
    return (now - before - 1) % _NUMBERS


def _object(text: bytes) -> dict[str, Any]:
    document = json.loads(text)
    if not isinstance(document, dict):
        msg = "no JSON object"
        raise TypeError(msg)
    return document


def _close(record: dict[str, Any]) -> Close:
    return Close(
        name=str(record["lfn"]),
        size_bytes=int(record["size"]),
        opened_at=int(record["attach_t"]),
        closed_at=int(record["detach_t"]),
        hit_bytes=int(record["b_hit"]),
        missed_bytes=int(record["b_miss"]),
        bypassed_bytes=int(record["b_bypass"]),
        written_bytes=int(record["b_todisk"]),
        prefetched_bytes=int(record["b_prefetch"]),
        checksum_errors=int(record["n_cks_errs"]),
        origins=tuple(str(origin) for origin in record["remotes"]),
    )


class Sender:
    """Tells whether a datagram came from the cache: from the process that answers at the cache's own port.

    UDP carries no proof of who sent it, but the kernel knows which process holds the socket that it came from
    (``proc(5)``: ``net/udp``, ``net/tcp`` and ``PID/fd``). Nobody else's processes can be looked into, and no
    process can take a port from another.

    Args:
        address: where the cache listens.
        port: its port.
        proc: the file system of processes.
    """

    def __init__(self, address: str, port: int, proc: Path = Path("/proc")) -> None:
        self._listens = f"{_hexadecimal(address)}:{port:04X}"
        self._proc = proc
        self._known: frozenset[str] = frozenset()

    def is_cache(self, port: int) -> bool:
        """Whether the cache holds this UDP port of loopback now."""
        # The kernel's tables are no snapshots: a line may be missed while others come and go.
        return any(self._holds(port) for _ in range(_LOOKS))

    def _holds(self, port: int) -> bool:
        sockets = frozenset(self._datagram_sockets(port))
        if not sockets:
            return False
        if not sockets <= self._known:
            self._known = frozenset(self._own_sockets())
        return sockets <= self._known

    def _datagram_sockets(self, port: int) -> Iterator[str]:
        for fields in self._table("udp", "udp6"):
            if fields[1].endswith(f":{port:04X}"):
                yield fields[9]

    def _own_sockets(self) -> Iterator[str]:
        """Inodes of all sockets of the process that listens where the cache does."""
        (listening, *_) = [
            *(fields[9] for fields in self._table("tcp") if fields[1] == self._listens and fields[3] == _LISTEN),
            "",
        ]
        if not listening:
            return
        for process in self._proc.glob("[0-9]*"):
            held = _sockets_of(process)
            if listening in held:
                yield from held

    def _table(self, *names: str) -> Iterator[list[str]]:
        for name in names:
            path = self._proc / "net" / name
            if path.exists():
                yield from (line.split() for line in path.read_text(encoding="ascii").splitlines()[1:])


def _sockets_of(process: Path) -> set[str]:
    """Inodes of a process's sockets; none if it is somebody else's, or has just ended."""
    held = set()
    with contextlib.suppress(OSError):
        for descriptor in (process / "fd").iterdir():
            # What was closed meanwhile is none.
            with contextlib.suppress(FileNotFoundError):
                target = str(descriptor.readlink())
                if target.startswith("socket:["):
                    held.add(target[8:-1])
    return held


def _hexadecimal(address: str) -> str:
    """An IPv4 address as the kernel's tables show it, in the machine's own order of bytes."""
    return f"{struct.unpack('=I', socket.inet_aton(address))[0]:08X}"
