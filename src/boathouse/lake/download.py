"""Fetch files of the lake: whole, verified against the catalogue's checksum, or not at all.

What is being fetched lies in ``NAME.part`` beside its destination; an interrupted download goes on from there, and
the file appears under its name only once its adler32 is right.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from boathouse.checksums import Adler32
from boathouse.errors import BoathouseError, ChecksumError, InputError, NotFoundError, PartialError, StorageError
from boathouse.lake.access import LakeFile
from boathouse.lake.names import Did
from boathouse.lake.progress import Progress, silent
from boathouse.lake.storage import Storage


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

    A file that is there already with the right checksum is left alone; one with other content is an error.

    Raises:
        InputError: two of the files would get one name, or another file is in the way.
        ChecksumError: no replica has the right bytes.
        StorageError: no replica could be read.
        PartialError: with ``keep_going``, when some files failed.
    """
    paths: dict[Path, LakeFile] = {}
    for file in files:
        path = destination / file.did.name.rpartition("/")[2]
        if path in paths:
            raise InputError(
                "two files would get one name", got=f"{paths[path].did}, {file.did}", where=str(path), remedy="get one"
            )
        paths[path] = file
    try:
        destination.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError("cannot make the directory", got=error.strerror or "", where=str(destination)) from error
    results: list[DownloadResult] = []
    failures: list[BoathouseError] = []
    with ThreadPoolExecutor(workers, thread_name_prefix="download") as threads:
        futures = [threads.submit(_fetch, storage, file, path, progress) for path, file in paths.items()]
        for future in futures:
            try:
                results.append(future.result())
            except BoathouseError as error:
                failures.append(error)
                if not keep_going:
                    threads.shutdown(wait=False, cancel_futures=True)
                    raise
    if failures:
        raise PartialError(f"{len(results)} of {len(files)} files were fetched", failures=tuple(failures))
    return tuple(results)


def _fetch(storage: Storage, file: LakeFile, path: Path, progress: Progress) -> DownloadResult:
    if path.exists():
        if path.stat().st_size == file.size_bytes and Adler32.of(path).hexdigest() == file.adler32:
            progress(size_bytes=file.size_bytes, files=1)
            return DownloadResult(file.did, path, file.size_bytes, file.adler32, url="")
        raise InputError("another file is in the way", where=str(path), remedy="remove it, or choose another directory")
    part = path.with_name(path.name + ".part")
    try:
        return _fetch_into(part, storage, file, path, progress)
    except BoathouseError:
        # What has begun stays for the next try; nothing is no beginning.
        if part.is_file() and part.stat().st_size == 0:
            part.unlink()
        raise


def _fetch_into(part: Path, storage: Storage, file: LakeFile, path: Path, progress: Progress) -> DownloadResult:
    failures: list[BoathouseError] = []
    for url in (url for url in file.urls if url.startswith("https:")):
        # A second time from the start, should the part that was there have been of something else.
        for _ in range(2):
            try:
                _complete(storage, url, file, part, progress)
            except ChecksumError as error:
                part.unlink(missing_ok=True)
                failures.append(error)
            except (StorageError, NotFoundError) as error:
                failures.append(error)
                break
            else:
                part.replace(path)
                progress(files=1)
                return DownloadResult(file.did, path, file.size_bytes, file.adler32, url)
    if not failures:
        raise StorageError("no replica can be read over https", where=str(file.did), remedy="xrdcp, with the root URL")
    raise failures[-1]


def _complete(storage: Storage, url: str, file: LakeFile, part: Path, progress: Progress) -> None:
    start = 0
    if part.exists():
        start = part.stat().st_size
        if start > file.size_bytes:
            part.unlink()
            start = 0
    checksum = Adler32.of(part) if start else Adler32()
    progress(size_bytes=start)
    with part.open("ab") as stream:
        if start < file.size_bytes:
            for block in storage.get(url, start=start):
                stream.write(block)
                checksum.update(block)
                progress(size_bytes=len(block))
        stream.flush()
        os.fsync(stream.fileno())
        got_bytes = stream.tell()
    if got_bytes < file.size_bytes:
        raise StorageError(
            "the replica ended early", expected=f"{file.size_bytes} bytes", got=str(got_bytes), where=url
        )
    if got_bytes != file.size_bytes or checksum.hexdigest() != file.adler32:
        progress(size_bytes=-got_bytes)
        raise ChecksumError(
            "the bytes of this replica are not those of the catalogue",
            expected=f"{file.size_bytes} bytes, adler32 {file.adler32}",
            got=f"{got_bytes} bytes, adler32 {checksum.hexdigest()}",
            where=url,
            remedy="boathouse audit --checksums",
        )
