"""Move the bytes of one file to storage and prove that they arrived: the only part of an import that retries."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from boathouse.checksums import Adler32
from boathouse.errors import (
    BoathouseError,
    ChecksumError,
    ConflictError,
    NoSpaceError,
    StorageError,
    TransferError,
)
from boathouse.lake.catalogue import Catalogue, DidInfo, Replicas
from boathouse.lake.copies import Copies
from boathouse.lake.names import Did
from boathouse.lake.placement import Placement, Target
from boathouse.lake.progress import Progress
from boathouse.lake.sources import Source
from boathouse.lake.storage import READ_BYTES, Readable, Storage, join

log = logging.getLogger(__name__)

_IN_MEMORY_BYTES = 8 << 20
"""Files up to this size are read at once, which spares a request for those that lie there already."""

_LEAVING = "BEING_DELETED"

_GRACE_S = 20.0
"""How long an unknown file on storage is left to whoever may be writing or registering it, since its last byte."""

_EMPTY_GRACE_S = 4.0
"""The same for a file without a byte, which is what the kill of a client mostly leaves."""

_DELETION_S = 60.0
"""How long a deletion under way is waited for."""

_CLOCKS_S = 2.0
"""How far the clocks of this machine and of a storage element may differ."""

_PATIENCE_S = 25.0
"""How long a failing storage element is tried when there is no other."""


@dataclass(frozen=True)
class Landing:
    """A file whose bytes are known to lie on storage."""

    rse: str
    size_bytes: int
    adler32: str
    outcome: str
    """``uploaded``, ``found`` or ``present``."""
    pfn: str | None = None
    """Where it lies, on an RSE that keeps paths."""
    stale: bool = False
    """Whether the catalogue holds a replica here that is not marked available."""
    streamed: str = ""
    """Why the element could not fetch a web source by itself, if this machine had to."""


class _Counting:
    """A body that counts and sums what passes through."""

    def __init__(self, stream: Readable, progress: Progress, stop: threading.Event) -> None:
        self._stream, self._progress, self._stop = stream, progress, stop
        self.checksum = Adler32()
        self.size_bytes = 0

    def read(self, count: int = -1, /) -> bytes:
        if self._stop.is_set():
            raise StorageError("stopped")
        block = self._stream.read(count if count >= 0 else READ_BYTES)
        self.checksum.update(block)
        self.size_bytes += len(block)
        self._progress(size_bytes=len(block))
        return block


class Mover:
    """Moves files to the targets of a placement. Shared by the threads of one import.

    Args:
        catalogue: asked who owns a name when storage and source differ.
        storage: the elements.
        copies: who lets elements fetch by themselves.
        placement: where to.
        locate: URLs of the files at a target with deterministic paths.
        progress: told of bytes.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        storage: Storage,
        copies: Copies,
        *,
        placement: Placement,
        locate: Callable[[Target], Mapping[Did, str]],
        progress: Progress,
    ) -> None:
        self._catalogue = catalogue
        self._storage = storage
        self._copies = copies
        self._placement = placement
        self._locate = locate
        self._progress = progress
        self._stop = threading.Event()
        self._streamed: dict[Did, str] = {}

    def stop(self) -> None:
        """End everything that is under way, from another thread; what it left is found by the next run."""
        self._stop.set()

    def move(
        self, source: Source, did: Did, path: str | None, info: DidInfo | None, replicas: Replicas | None
    ) -> Landing:
        """Bring one file to the best target that takes it.

        Args:
            source: the bytes.
            did: its name.
            path: where it lies below the scope, on an RSE that keeps paths.
            info: what the catalogue knew about the name before.
            replicas: where it had replicas before.

        Raises:
            ConflictError: the name is taken by other content.
            ChecksumError: the bytes on storage are not those that were sent.
            StorageError: no target takes the file.
            InputError: the source cannot be read.
        """
        if info is not None:
            adler32 = self._same(source, did, info)
            states = replicas.states if replicas is not None else {}
            if available := sorted(rse for rse, state in states.items() if state == "AVAILABLE"):
                self._progress(size_bytes=source.size_bytes)
                return Landing(available[0], source.size_bytes, adler32, "present")
        while True:
            target = self._placement.current
            url = self._locate(target)[did] if target.rse.deterministic else join(target.base, f"{did.scope}/{path}")
            state = replicas.at(target.name) if replicas is not None else None
            if state == _LEAVING:
                self._wait_gone(did, target)
                state = None
            try:
                adler32, outcome = self._patiently(source, did, url)
            except StorageError as error:
                if isinstance(error, ChecksumError) or self._stop.is_set() or not self._placement.alternatives:
                    raise
                self._placement.give_up(target, error)
                continue
            pfn = None if target.rse.deterministic else url
            streamed = self._streamed.get(did, "")
            return Landing(
                target.name, source.size_bytes, adler32, outcome, pfn, stale=state is not None, streamed=streamed
            )

    def _wait_gone(self, did: Did, target: Target) -> None:
        """Wait until a replica that is being deleted has gone, lest the deletion take the new bytes with it.

        Raises:
            StorageError: the deletion does not end.
        """
        deadline = time.monotonic() + _DELETION_S
        while any(found.at(target.name) == _LEAVING for found in self._catalogue.replicas([did], all_states=True)):
            if time.monotonic() > deadline:
                raise StorageError(
                    "the file's earlier replica is still being deleted",
                    where=f"{did} at {target.name}",
                    remedy="run the same command again in a few minutes",
                )
            time.sleep(0.5)

    def _same(self, source: Source, did: Did, info: DidInfo) -> str:
        """Checksum of a source whose name is known, if its content is the same."""
        if info.kind != "FILE":
            raise ConflictError(f"the name is taken by a {info.kind.lower()}", where=str(did))
        adler32 = source.adler32 or (source.checksum() if source.size_bytes == info.size_bytes else None)
        if adler32 is None or adler32 != info.adler32 or source.size_bytes != info.size_bytes:
            raise _taken(did, f"{info.size_bytes} bytes, adler32 {info.adler32}", source.size_bytes, adler32)
        return adler32

    def _patiently(self, source: Source, did: Did, url: str) -> tuple[str, str]:
        """Try until it works, the element is full, or patience ends; shorter where another element stands by."""
        deadline = time.monotonic() + (3.0 if self._placement.alternatives else _PATIENCE_S)
        began = time.time()
        pause_s, since = 0.3, None
        while True:
            try:
                return self._once(source, did, url, since)
            except (NoSpaceError, ChecksumError):
                self._discard(url)
                raise
            except StorageError:
                if self._stop.is_set() or time.monotonic() + pause_s > deadline:
                    raise
            self._stop.wait(pause_s)
            pause_s *= 2
            since = began

    def _once(self, source: Source, did: Did, url: str, since: float | None) -> tuple[str, str]:
        """One attempt.

        Args:
            source: the bytes.
            did: their name.
            url: where they shall lie.
            since: when an earlier attempt began: what was written there since then is what that one left.
        """
        if source.pullable:
            began = time.time()
            try:
                return self._pull(source, did, url, since)
            except TransferError as error:
                if self._stop.is_set():
                    raise
                self._streamed[did] = error.got or error.what
                log.info("%s cannot be fetched by the storage element: %s", source.where, self._streamed[did])
                # Perhaps this machine can read what the element cannot.
                since = since or began
        if source.size_bytes <= _IN_MEMORY_BYTES:
            return self._put_whole(source, did, url, since)
        return self._put_stream(source, did, url, since)

    def _put_whole(self, source: Source, did: Did, url: str, since: float | None) -> tuple[str, str]:
        with source.open() as stream:
            blocks = []
            while block := stream.read(READ_BYTES):
                blocks.append(block)
        body = b"".join(blocks)
        adler32 = Adler32(body).hexdigest()
        _whole(source, len(body))
        _as_announced(source, adler32)
        # First it is sent at once. An element that refuses, because a file is there, may break the connection before
        # its answer is read; the next attempt therefore looks first.
        occupied = since is not None and self._storage.stat(url, checksum=False) is not None
        if not occupied:
            try:
                self._storage.put(url, body, len(body))
            except ConflictError:
                occupied = True
        if occupied:
            if self._claim(did, url, len(body), adler32, since):
                self._progress(size_bytes=len(body))
                return adler32, "found"
            self._storage.put(url, body, len(body), overwrite=True)
        self._verify(url, len(body), adler32)
        self._progress(size_bytes=len(body))
        return adler32, "uploaded"

    def _put_stream(self, source: Source, did: Did, url: str, since: float | None) -> tuple[str, str]:
        # A large file that lies there already is worth a request before its bytes are sent for nothing.
        occupied = self._storage.stat(url, checksum=False) is not None
        if occupied:
            adler32 = source.checksum()
            if self._claim(did, url, source.size_bytes, adler32, since):
                self._progress(size_bytes=source.size_bytes)
                return adler32, "found"
        with source.open() as stream:
            body = _Counting(stream, self._progress, self._stop)
            self._storage.put(url, body, source.size_bytes, overwrite=occupied)
        _whole(source, body.size_bytes)
        adler32 = body.checksum.hexdigest()
        try:
            _as_announced(source, adler32)
        except ChecksumError:
            self._discard(url)
            raise
        self._verify(url, source.size_bytes, adler32)
        return adler32, "uploaded"

    def _pull(self, source: Source, did: Did, url: str, since: float | None) -> tuple[str, str]:
        """Third-party copy; where the source tells no checksum, its size and the element's checksum must do."""
        occupied = self._storage.stat(url, checksum=False) is not None
        if occupied:
            adler32 = source.adler32 or source.checksum()
            if self._claim(did, url, source.size_bytes, adler32, since):
                return adler32, "found"
        arrived = 0

        def moved(size_bytes: int) -> None:
            nonlocal arrived
            self._progress(size_bytes=size_bytes - arrived)
            arrived = size_bytes

        try:
            self._copies.fetch(
                source.where,
                url,
                size_bytes=source.size_bytes,
                adler32=source.adler32,
                overwrite=occupied,
                moved=moved,
                stop=self._stop,
            )
        except BoathouseError:
            moved(0)
            raise
        moved(source.size_bytes)
        return self._verify(url, source.size_bytes, source.adler32), "uploaded"

    def _verify(self, url: str, size_bytes: int, adler32: str | None) -> str:
        """Compare what the element says of the file with what was sent; returns the checksum."""
        stat = self._storage.stat(url)
        if stat is None:
            raise StorageError("the file is not there after writing it", where=url)
        if stat.size_bytes != size_bytes:
            raise StorageError("the file was cut", expected=f"{size_bytes} bytes", got=f"{stat.size_bytes}", where=url)
        if adler32 is not None and stat.adler32 is not None and stat.adler32 != adler32:
            raise ChecksumError(
                "the bytes on storage are not those that were sent",
                expected=f"adler32 {adler32}",
                got=f"adler32 {stat.adler32}",
                where=url,
                remedy="run the import again; if it happens twice, that disk or network is broken",
            )
        found = adler32 or stat.adler32
        if found is None:
            raise StorageError("neither the source nor the storage element tells a checksum", where=url)
        return found

    def _claim(self, did: Did, url: str, size_bytes: int, adler32: str, since: float | None) -> bool:
        """Decide about a file that lies at our path: True if it is ours and whole, False if it may be overwritten.

        Raises:
            ConflictError: it belongs to another file of this name.
        """
        deadline = time.monotonic() + _GRACE_S
        while True:
            stat = self._storage.stat(url)
            if stat is None:
                return False
            if stat.size_bytes == size_bytes and stat.adler32 == adler32:
                return True
            owner = self._catalogue.known([did]).get(did)
            if owner is not None and owner.adler32 == adler32 and owner.size_bytes == size_bytes:
                return False
            if owner is not None:
                raise _taken(did, f"{owner.size_bytes} bytes, adler32 {owner.adler32}", size_bytes, adler32)
            written = self._storage.modified(url)
            if written is None or (since is not None and written > since - _CLOCKS_S):
                return False
            grace_s = _GRACE_S if stat.size_bytes else _EMPTY_GRACE_S
            if time.time() - written > grace_s or time.monotonic() > deadline:
                return False
            # Somebody may be uploading another file under this name right now: the catalogue will tell.
            time.sleep(0.5)

    def _discard(self, url: str) -> None:
        """Take away what a failed attempt left; a failure to do so is left to the audit."""
        try:
            self._storage.delete(url)
        except BoathouseError:
            return


def _as_announced(source: Source, adler32: str) -> None:
    """A source that tells a checksum must have sent the bytes of it."""
    if source.adler32 is not None and source.adler32 != adler32:
        raise ChecksumError(
            "the source sent other bytes than it announced", expected=source.adler32, got=adler32, where=source.where
        )


def _whole(source: Source, size_bytes: int) -> None:
    if size_bytes != source.size_bytes:
        raise StorageError(
            "the source changed its size while it was read",
            expected=f"{source.size_bytes} bytes",
            got=f"{size_bytes}",
            where=source.where,
        )


def _taken(did: Did, owner: str, size_bytes: int, adler32: str | None) -> ConflictError:
    return ConflictError(
        "the name is taken by a file with other content",
        expected=owner,
        got=f"{size_bytes} bytes" + (f", adler32 {adler32}" if adler32 else ""),
        where=str(did),
        remedy="give the new file another name: --prefix",
    )
