"""Fetch files of the lake: whole, verified against the catalogue's checksum, or not at all.

What is being fetched lies in ``NAME~part`` beside its destination, a name that no file of the lake can have. An
interrupted download goes on from there, and the file appears under its name only once its adler32 is right.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from boathouse.checksums import Adler32
from boathouse.errors import (
    BoathouseError,
    ChecksumError,
    HostError,
    InputError,
    NotFoundError,
    PartialError,
    StorageError,
)
from boathouse.lake.access import LakeFile
from boathouse.lake.names import Did
from boathouse.lake.progress import Progress, silent
from boathouse.lake.storage import Storage

_PART = "~part"
"""Ends the name of what is being fetched: no DID holds a ``~``, and a name of 250 letters leaves room for no more."""


@dataclass(frozen=True)
class DownloadResult:
    """What became of one file."""

    did: Did
    path: Path
    size_bytes: int
    adler32: str
    url: str
    """Where its bytes came from; empty if the file was there already."""


def download(
    storage: Storage,
    files: Sequence[LakeFile],
    destination: Path,
    *,
    workers: int = 4,
    keep_going: bool = False,
    progress: Progress = silent,
) -> tuple[DownloadResult, ...]:
    """Fetch files into a directory, each under the last part of its name.

    A file that is there already with the right checksum is left alone; one with other content is an error. Whatever
    ends a download, Ctrl-C too, ends it soon: files that wait are not begun, those under way stop at their next block.

    Raises:
        InputError: two of the files would get one name, or another file is in the way.
        ChecksumError: no replica has the right bytes.
        StorageError: no replica could be read.
        HostError: the disk here is full or refuses; with ``keep_going``, too, for the other files need it as well.
        PartialError: with ``keep_going``, when some files failed.
    """
    paths = _paths(files, destination)
    try:
        destination.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError("cannot make the directory", got=error.strerror or "", where=str(destination)) from error
    stop = threading.Event()
    with ThreadPoolExecutor(workers, thread_name_prefix="download") as threads:
        try:
            futures = [
                threads.submit(_Fetching(storage, file, path, progress, stop).run) for path, file in paths.items()
            ]
            for future in as_completed(futures):
                try:
                    future.result()
                except HostError:
                    # All files go to this disk.
                    raise
                except BoathouseError:
                    if not keep_going:
                        raise
        except BaseException:
            # In this order: no thread that stops takes up one more file.
            threads.shutdown(wait=False, cancel_futures=True)
            stop.set()
            raise
    failures = tuple(fault for future in futures if isinstance(fault := future.exception(), BoathouseError))
    if failures:
        raise PartialError(f"{len(files) - len(failures)} of {len(files)} files were fetched", failures=failures)
    return tuple(future.result() for future in futures)


def _paths(files: Sequence[LakeFile], destination: Path) -> dict[Path, LakeFile]:
    paths: dict[Path, LakeFile] = {}
    for file in files:
        path = destination / file.did.name.rpartition("/")[2]
        if path in paths:
            raise InputError(
                "two files would get one name", got=f"{paths[path].did}, {file.did}", where=str(path), remedy="get one"
            )
        paths[path] = file
    return paths


class _Fetching:
    """One file on its way.

    Args:
        storage: gives its bytes.
        file: with its replicas' URLs.
        path: where it is wanted.
        progress: told of its bytes, each once whatever is read again, and of the file.
        stop: set when the whole download ends.
    """

    def __init__(self, storage: Storage, file: LakeFile, path: Path, progress: Progress, stop: threading.Event) -> None:
        self._storage, self._file, self._path, self._progress, self._stop = storage, file, path, progress, stop
        self._part = path.with_name(path.name + _PART)
        self._told_bytes = 0

    def run(self) -> DownloadResult:
        """Fetch it, unless it is there."""
        try:
            url = "" if self._is_there() else self._fetch()
        except OSError as error:
            # The disk's: faults of storage come as our own errors. No other replica would help.
            raise self._refused(error) from error
        self._progress(files=1)
        return DownloadResult(self._file.did, self._path, self._file.size_bytes, self._file.adler32, url)

    def _is_there(self) -> bool:
        if not self._path.exists():
            return False
        is_size = self._path.stat().st_size == self._file.size_bytes
        if not is_size or self._sum(self._path).hexdigest() != self._file.adler32:
            raise InputError(
                "another file is in the way", where=str(self._path), remedy="remove it, or choose another directory"
            )
        self._reached(self._file.size_bytes)
        return True

    def _fetch(self) -> str:
        """Fetch it from the first replica that has it whole: its URL."""
        try:
            return self._from_any()
        finally:
            # What has begun stays for the next try; nothing is no beginning.
            if self._part.is_file() and self._part.stat().st_size == 0:
                self._part.unlink()

    def _from_any(self) -> str:
        failures: list[BoathouseError] = []
        for url in (url for url in self._file.urls if url.startswith("https:")):
            # A second time from the start, should the part that was there have been of something else.
            for _ in range(2):
                try:
                    self._complete(url)
                except ChecksumError as error:
                    self._part.unlink(missing_ok=True)
                    failures.append(error)
                except (StorageError, NotFoundError) as error:
                    failures.append(error)
                    break
                else:
                    self._part.replace(self._path)
                    return url
        if not failures:
            raise StorageError(
                "no replica can be read over https", where=str(self._file.did), remedy="xrdcp, with the root URL"
            )
        raise failures[-1]

    def _complete(self, url: str) -> None:
        file, part = self._file, self._part
        start = part.stat().st_size if part.exists() else 0
        if start > file.size_bytes:
            part.unlink()
            start = 0
        self._reached(start)
        checksum = self._sum(part) if start else Adler32()
        with part.open("ab") as stream:
            if start < file.size_bytes:
                for block in self._storage.get(url, start=start):
                    stream.write(block)
                    checksum.update(block)
                    self._reached(self._told_bytes + len(block))
                    self._go_on()
            stream.flush()
            os.fsync(stream.fileno())
            got_bytes = stream.tell()
        if got_bytes < file.size_bytes:
            raise StorageError(
                "the replica ended early", expected=f"{file.size_bytes} bytes", got=str(got_bytes), where=url
            )
        if got_bytes != file.size_bytes or checksum.hexdigest() != file.adler32:
            self._reached(0)
            raise ChecksumError(
                "the bytes of this replica are not those of the catalogue",
                expected=f"{file.size_bytes} bytes, adler32 {file.adler32}",
                got=f"{got_bytes} bytes, adler32 {checksum.hexdigest()}",
                where=url,
                remedy="boathouse audit --checksums",
            )

    def _reached(self, position_bytes: int) -> None:
        """Tell how many bytes are here now: what comes a second time, after another replica's, is not told again."""
        self._progress(size_bytes=position_bytes - self._told_bytes)
        self._told_bytes = position_bytes

    def _go_on(self) -> None:
        """Do so unless the whole download ends: nobody looks at what became of this file then."""
        if self._stop.is_set():
            raise CancelledError

    def _sum(self, path: Path) -> Adler32:
        """The checksum of a file here, which for a large one takes a while."""
        checksum = Adler32()
        with path.open("rb") as stream:

            def read(count: int) -> bytes:
                self._go_on()
                return stream.read(count)

            checksum.update_from(read)
        return checksum

    def _refused(self, error: OSError) -> HostError:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return HostError(
            "the disk here is full" if is_full else "the file cannot be written here",
            expected=f"room for {self._file.size_bytes} bytes" if is_full else "a directory in which you may write",
            got=error.strerror or str(error),
            where=str(error.filename or self._part),
            remedy=f"{'make room' if is_full else 'mend that'} and run the same command again: it goes on from there",
        )
