"""Storage of other families, as far as a client can tell: a proxy before a real XRootD server that behaves like them.

What a profile names after a family is what that family is known for; a site may have configured it otherwise:

- StoRM: an adler32 without the zeros in front (rucio/rucio#4127), absolute ``href`` in listings (rclone/rclone#6092),
  no directories made on the way (RFC 4918 sections 9.7.1 and 9.3.1 ask for 409);
- dCache, EOS, DPM: a read is redirected to the server that has the file, whose URL holds a ticket of its own
  (dCache's ``webdav.redirect.on-read``; xrootd/xrootd#1293 and #1638 show those of DPM and EOS).

Only XRootD compares the checksum that a COPY tells. Two more are of no family: ``PLAIN`` is a WebDAV server that knows
neither ranges nor third-party copies, ``TAPE`` has to be waited for.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from boathouse.plan.model import Plan, Unit
from boathouse.services.xrootd import copy_unit_name, unit_name
from boathouse.testing.proxy import HEAD_END, LONGEST_HEAD, Fault, Loop, Proxy, closing, pause
from boathouse.testing.scratch import free_port

_DIGEST = re.compile(rb"(digest: *adler32=)(?:0x)?([0-9a-f]+)", re.IGNORECASE)
_HREF = re.compile(rb"(<(?:\w+:)?href>)/")
_LENGTH = re.compile(rb"content-length: *([0-9]+)", re.IGNORECASE)
_PORT = re.compile(r":([0-9]+)$")
_PART = 1 << 16


class Digits(StrEnum):
    """How a family writes an adler32."""

    whole = "whole"
    """Eight digits."""
    short = "short"
    """Without zeros in front."""
    capital = "capital"
    """Eight digits, in upper case."""


@dataclass(frozen=True)
class Profile:
    """What can differ between storage families; what is given here is XRootD's."""

    family: str
    digits: Digits = Digits.whole
    makes_directories: bool = True
    """Whether PUT and COPY make the directories above a file; if not, they are refused with 409."""
    ranges: bool = True
    """Whether a part of a file can be read; if not, all of it comes."""
    redirects: bool = False
    """Whether reads are sent on to another server, with a ticket in the URL."""
    absolute: bool = False
    """Whether listings hold whole URLs, not paths."""
    pulls: bool = True
    """Whether it fetches files from elsewhere; if not, COPY is not implemented."""
    verifies: bool = True
    """Whether a COPY compares the checksum that it is told."""
    look_s: float = 0.0
    """How long it thinks about questions for metadata, in seconds."""
    staging: int = 0
    """HTTP status of a read of a file that is on tape only; 0 if there is no tape."""


XROOTD = Profile("XRootD")
STORM = Profile("StoRM", Digits.short, makes_directories=False, absolute=True, verifies=False)
DCACHE = Profile("dCache", redirects=True, verifies=False)
EOS = Profile("EOS", redirects=True, look_s=0.1, verifies=False)
DPM = Profile("DPM", Digits.capital, makes_directories=False, redirects=True, verifies=False)
PLAIN = Profile("plain WebDAV", ranges=False, pulls=False, verifies=False)
TAPE = Profile("tape", staging=HTTPStatus.SERVICE_UNAVAILABLE)
PROFILES = {
    "XROOTD": XROOTD,
    "STORM": STORM,
    "DCACHE": DCACHE,
    "EOS": EOS,
    "DPM": DPM,
    "PLAIN": PLAIN,
    "TAPE": TAPE,
}
"""Each under a name that an RSE may have."""


@dataclass(frozen=True)
class _Request:
    method: str
    target: str
    fields: Mapping[str, str]

    @classmethod
    def of(cls, head: bytes) -> Self:
        first, *lines = head.removesuffix(HEAD_END).decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        pairs = (line.partition(":") for line in lines)
        return cls(method, target, {name.strip().lower(): value.strip() for name, _, value in pairs})

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def above(self) -> str:
        return self.path.rstrip("/").rpartition("/")[0]

    @property
    def writes(self) -> bool:
        """Whether a file appears at its path if all goes well."""
        return self.method == "PUT" or (self.method == "COPY" and "source" in self.fields)


class Quirky(Proxy):
    """Stands before a storage element, or its copy door, and makes it one of another family.

    Args:
        loop: where it runs.
        address: where it listens; also that of the element, so that the same tokens fit.
        port: on which port.
        profile: the family.
        tls: certificate chain and key.
        upstream: host and port of the real server.
        ca: what the real server's certificate is verified with.
    """

    def __init__(
        self,
        loop: Loop,
        address: str,
        port: int,
        *,
        profile: Profile,
        tls: tuple[Path, Path],
        upstream: tuple[str, int],
        ca: Path,
    ) -> None:
        super().__init__(loop, address, port, tls=tls, upstream=upstream, ca=ca)
        self.profile = profile
        self.done: Counter[str] = Counter()
        """How often each quirk was met."""
        self.pool = _Pool(loop, address, _another_port(address, {port}), tls=tls, upstream=upstream, ca=ca)
        """Where reads are sent on to."""
        self._on_tape: set[str] = set()

    def start(self) -> None:
        """Listen."""
        super().start()
        self.pool.start()

    def stop(self) -> None:
        """Listen no more."""
        self.pool.stop()
        super().stop()

    def migrate(self, path: str) -> None:
        """Have a file on tape only; what is written is on disk at first."""
        self._on_tape.add(path)

    def stage(self) -> None:
        """Bring all files back to disk."""
        self._on_tape.clear()

    async def _instead(self, head: bytes, reader: asyncio.StreamReader) -> bytes | None:
        request, profile = _Request.of(head), self.profile
        if "authorization" not in request.fields:
            # A probe, or somebody whom the real server refuses.
            return None
        if profile.look_s and request.method in ("HEAD", "PROPFIND"):
            self.done["slow"] += 1
            await pause(profile.look_s)
        if profile.staging and request.method == "GET" and request.path in self._on_tape:
            self.done["not on disk"] += 1
            return _answer(profile.staging, "Retry-After: 1")
        if not profile.pulls and request.method == "COPY":
            self.done["no third-party copy"] += 1
            return _answer(HTTPStatus.NOT_IMPLEMENTED)
        if not profile.makes_directories and (refusal := await self._directories(request)):
            await _drain(request, reader)
            return refusal
        if profile.redirects and request.method == "GET" and await self._status("HEAD", request) == HTTPStatus.OK:
            self.done["redirected"] += 1
            return _answer(HTTPStatus.TEMPORARY_REDIRECT, f"Location: {self.pool.admit(request)}")
        return None

    async def _directories(self, request: _Request) -> bytes | None:
        """The refusal of what would need a directory that is not there, or make one that is."""
        if not request.writes and request.method != "MKCOL":
            return None
        if await self._status("PROPFIND", replace(request, target=request.above)) == HTTPStatus.NOT_FOUND:
            self.done["no such directory"] += 1
            return _answer(HTTPStatus.CONFLICT)
        if request.method == "MKCOL" and await self._status("PROPFIND", request) != HTTPStatus.NOT_FOUND:
            return _answer(HTTPStatus.METHOD_NOT_ALLOWED)
        return None

    async def _status(self, method: str, request: _Request) -> int:
        """What the real server says of a path to whoever asked."""
        reader, writer = await asyncio.open_connection(*self._upstream, ssl=self._client_tls, limit=LONGEST_HEAD)
        fields = (
            f"Host: {self.host}",
            f"Authorization: {request.fields['authorization']}",
            "Depth: 0",
            "Content-Length: 0",
        )
        writer.write(closing("\r\n".join((f"{method} {request.path} HTTP/1.1", *fields)).encode() + HEAD_END))
        try:
            return int((await reader.readuntil(HEAD_END)).split(b" ", 2)[1])
        finally:
            writer.transport.abort()

    def _asked(self, head: bytes) -> bytes:
        method = head.partition(b" ")[0]
        dropped = [b"want-repr-digest:"] if self.profile.digits is not Digits.whole else []
        if not self.profile.ranges:
            dropped.append(b"range:")
        if not self.profile.verifies and method == b"COPY":
            dropped.append(b"repr-digest:")
        lines = head.removesuffix(HEAD_END).split(b"\r\n")
        kept = [line for line in lines if not line.lower().startswith(tuple(dropped))]
        if any(line.lower().startswith(b"range:") for line in lines if line not in kept):
            self.done["whole, not a range"] += 1
        return b"\r\n".join(kept) + HEAD_END

    def _told(self, method: str, head: bytes) -> bytes:
        del method
        digest = _DIGEST.search(head)
        if digest is None or self.profile.digits is Digits.whole:
            return head
        digits = digest[2].lstrip(b"0") or b"0" if self.profile.digits is Digits.short else digest[2].upper()
        self.done["digits"] += digits != digest[2]
        return head.replace(digest[0], digest[1] + digits)

    async def _answer(
        self, method: str, upstream: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault
    ) -> None:
        if method != "PROPFIND" or not self.profile.absolute:
            await super()._answer(method, upstream, writer, fault)
            return
        head = await upstream.readuntil(HEAD_END)
        length = _LENGTH.search(head)
        body = await upstream.readexactly(int(length[1])) if length else _joined(await upstream.read())
        body = _HREF.sub(rb"\1https://" + self.host.encode() + b"/", body)
        self.done["absolute"] += 1
        lines = head.removesuffix(HEAD_END).split(b"\r\n")
        kept = [line for line in lines if not line.lower().startswith((b"content-length:", b"transfer-encoding:"))]
        writer.write(closing(b"\r\n".join((*kept, f"Content-Length: {len(body)}".encode())) + HEAD_END) + body)
        await writer.drain()


class _Pool(Proxy):
    """Where redirected reads end: open to whoever has a ticket."""

    def __init__(
        self, loop: Loop, address: str, port: int, *, tls: tuple[Path, Path], upstream: tuple[str, int], ca: Path
    ) -> None:
        super().__init__(loop, address, port, tls=tls, upstream=upstream, ca=ca)
        self.tokens_of: Counter[str] = Counter()
        """Programs that sent a token, which nothing here is for."""
        self._tickets: dict[str, _Request] = {}

    def admit(self, request: _Request) -> str:
        """The URL at which the same file can be read without a token."""
        ticket = uuid.uuid4().hex
        self._tickets[ticket] = request
        return f"https://{self.host}{request.path}?ticket={ticket}"

    def _ticket(self, request: _Request) -> _Request | None:
        return self._tickets.get(urlsplit(request.target).query.removeprefix("ticket="))

    async def _instead(self, head: bytes, reader: asyncio.StreamReader) -> bytes | None:
        del reader
        return None if self._ticket(_Request.of(head)) else _answer(HTTPStatus.FORBIDDEN)

    def _asked(self, head: bytes) -> bytes:
        request = _Request.of(head)
        admitted = self._ticket(request)
        assert admitted is not None
        if "authorization" in request.fields:
            self.tokens_of[request.fields.get("user-agent", "").partition("/")[0]] += 1
        fields = {**request.fields, "authorization": admitted.fields["authorization"]}
        lines = (f"{request.method} {request.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()))
        return "\r\n".join(lines).encode("latin-1") + HEAD_END


def _answer(status: int, *fields: str) -> bytes:
    lines = (f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *fields, "Content-Length: 0", "Connection: close")
    return "\r\n".join(lines).encode() + HEAD_END


async def _drain(request: _Request, reader: asyncio.StreamReader) -> None:
    """Take the body of a request, which its client sends before it listens."""
    left = int(request.fields.get("content-length", "0"))
    while left > 0 and (data := await reader.read(min(left, _PART))):
        left -= len(data)


def _joined(chunked: bytes) -> bytes:
    """A body that came in chunks (RFC 9112 section 7.1)."""
    parts = []
    while chunked:
        size, _, chunked = chunked.partition(b"\r\n")
        length = int(size.partition(b";")[0], 16)
        if not length:
            break
        parts.append(chunked[:length])
        chunked = chunked[length:].removeprefix(b"\r\n")
    return b"".join(parts)


@dataclass(frozen=True)
class Zoo:
    """Proxies before the storage elements of a facility: a facility is planned as ever, and real servers move away."""

    loop: Loop
    plan: Plan
    """The plan with the real servers on ports of their own."""
    places: Mapping[str, tuple[str, str, int, int]]
    """By unit: RSE, address, port that clients know, and port of the real server."""
    profiles: Mapping[str, Profile]
    animals: dict[str, Quirky]
    """The running proxies, by unit."""

    @classmethod
    def of(cls, plan: Plan, profiles: Mapping[str, Profile]) -> Self:
        """What shall stand before the elements that have a profile, and before their copy doors."""
        rses = {name(rse): rse for rse in profiles for name in (unit_name, copy_unit_name)}
        planned = {int(port) for unit in plan.units for word in unit.command for port in _PORT.findall(word)}
        places = {}
        for name, rse in rses.items():
            probed = urlsplit(plan.unit(name).probe.target)
            assert probed.hostname
            assert probed.port
            another = _another_port(probed.hostname, planned)
            places[name] = rse, probed.hostname, probed.port, another
        units = tuple(_moved(unit, *places[unit.name][1:]) if unit.name in places else unit for unit in plan.units)
        return cls(Loop(), replace(plan, units=units), places, profiles, {})

    def __enter__(self) -> Self:
        """Put a proxy before each; certificates must have been made."""
        self.loop.start()
        for name, (rse, address, port, real) in self.places.items():
            layout = self.plan.layout
            self.animals[name] = Quirky(
                self.loop,
                address,
                port,
                profile=self.profiles[rse],
                tls=(layout.certificate(name), layout.key(name)),
                upstream=(address, real),
                ca=layout.ca,
            )
            self.animals[name].start()
        return self

    def __exit__(self, *_: object) -> None:
        """Listen no more."""
        for animal in self.animals.values():
            animal.stop()
        self.loop.stop()

    def of_rse(self, rse: str) -> tuple[Quirky, Quirky]:
        """What stands before an element, and before its copy door."""
        return self.animals[unit_name(rse)], self.animals[copy_unit_name(rse)]


def _another_port(address: str, planned: Collection[int]) -> int:
    """A free port that nobody is going to take."""
    while (port := free_port(address)) in planned:
        pass
    return port


def _moved(unit: Unit, address: str, old: int, new: int) -> Unit:
    """The unit with its https port elsewhere; what clients are told stays."""

    def there(text: str) -> str:
        return text.replace(f"{address}:{old}", f"{address}:{new}")

    return replace(
        unit,
        command=tuple(map(there, unit.command)),
        probe=replace(unit.probe, target=there(unit.probe.target)),
        files=tuple(
            replace(file, text=file.text.replace(f" XrdHttp:{old} ", f" XrdHttp:{new} ")) for file in unit.files
        ),
    )
