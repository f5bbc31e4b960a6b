"""What an import reads: local files, ``https://`` and ``root://`` URLs outside the lake, each as a stream of bytes."""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import urllib3

from boathouse.checksums import Adler32, normalise_adler32
from boathouse.errors import BoathouseError, HostError, InputError, StorageError
from boathouse.lake.http import BRIEF, PATIENT, Http
from boathouse.lake.rootfile import HEADER_BYTES, check_header
from boathouse.lake.storage import Readable, digest_adler32


@dataclass(frozen=True)
class Source(ABC):
    """A file to be brought into the lake."""

    where: str
    """Path or URL, as the user knows it."""
    size_bytes: int
    adler32: str | None = None
    """Checksum that the source's own server tells; ``None`` if it is known only after reading."""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return unquote(urlsplit(self.where).path).rpartition("/")[2]

    @property
    def path(self) -> str:
        """The whole path without a leading slash."""
        return unquote(urlsplit(self.where).path).lstrip("/")

    @property
    def pullable(self) -> bool:
        """Whether a storage element may be able to fetch it by itself."""
        return False

    @abstractmethod
    def open(self) -> AbstractContextManager[Readable]:
        """The bytes, from the first on.

        Returns:
            A context manager that gives a stream; closing it early is fine.

        Raises:
            InputError: it cannot be read.
            StorageError: its server failed.
        """

    def check_root(self) -> None:
        """Make sure that it is a whole ROOT file.

        Raises:
            InputError: it is something else, or cut short.
        """
        with self.open() as stream:
            head = b""
            while len(head) < HEADER_BYTES and (block := stream.read(HEADER_BYTES - len(head))):
                head += block
        check_header(head, self.size_bytes, self.where)

    def checksum(self) -> str:
        """The adler32 of its bytes, read now."""
        checksum = Adler32()
        with self.open() as stream:
            checksum.update_from(stream.read)
        return checksum.hexdigest()


@dataclass(frozen=True)
class LocalSource(Source):
    """A file of this machine."""

    @property
    def name(self) -> str:
        """The file's name; unlike in a URL, ``%`` and ``#`` mean themselves."""
        return Path(self.where).name

    @property
    def path(self) -> str:
        """The absolute path without the leading slash."""
        return str(Path(self.where).absolute()).lstrip("/")

    def open(self) -> AbstractContextManager[Readable]:
        """See :meth:`Source.open`."""
        try:
            return Path(self.where).open("rb")
        except OSError as error:
            raise InputError("cannot read the file", got=error.strerror or str(error), where=self.where) from error


@dataclass(frozen=True)
class WebSource(Source):
    """A public file on a web server. The user's token is never sent there."""

    http: Http | None = None

    @property
    def pullable(self) -> bool:
        """A storage element can fetch what it can verify."""
        return self.where.startswith("https:")

    @contextmanager
    def open(self) -> Iterator[Readable]:
        """See :meth:`Source.open`."""
        assert self.http is not None
        response = self.http.request("GET", self.where, retry=PATIENT, timeout_s=120.0, stream=True)
        try:
            if response.status != 200:
                raise StorageError("the source refused", got=f"HTTP status {response.status}", where=self.where)
            yield _Response(self.http, self.where, response)
        finally:
            # The rest of the body is not wanted, and neither is a connection that still carries it.
            response.close()


class _Response:
    """A response as a stream whose breaks are errors of ours."""

    def __init__(self, http: Http, url: str, response: urllib3.BaseHTTPResponse) -> None:
        self._http, self._url, self._response = http, url, response

    def read(self, count: int = -1, /) -> bytes:
        try:
            return self._response.read(None if count < 0 else count)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._http.unreachable(self._url, error) from error


@dataclass(frozen=True)
class XrootdSource(Source):
    """A file on an XRootD server, read through ``xrdcp``."""

    tools: tuple[Path, ...] = ()
    """Directories of the client's programs, where the search path has none."""

    @contextmanager
    def open(self) -> Iterator[Readable]:
        """See :meth:`Source.open`."""
        command = [_tool("xrdcp", self.tools), "--silent", "--nopbar", self.where, "-"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_foreign_environment())
        assert process.stdout is not None
        assert process.stderr is not None
        finished = False
        try:
            yield process.stdout
            finished = process.stdout.read(1) == b""
        finally:
            if not finished:
                process.kill()
            process.stdout.close()
            reason = process.stderr.read().decode("utf-8", "replace").strip()
            process.stderr.close()
            code = process.wait()
        if finished and code != 0:
            raise StorageError("xrdcp could not read the source", got=reason or f"exit {code}", where=self.where)


LeftOut = Callable[[Path], None]
"""Told of each file of a directory that is not taken because it is not ``*.root``."""


def scan(
    arguments: Iterable[str],
    http: Http,
    *,
    any_file: bool = False,
    tools: Sequence[Path] = (),
    left_out: LeftOut = lambda _: None,
) -> Iterator[Source | BoathouseError]:
    """Sources from what the user typed: files, directories, patterns, URLs; in a stable order.

    Of a directory come the ``*.root`` files at and below it, or with ``any_file`` all; hidden ones never.
    ``left_out`` is told of those that do not come, hidden ones excepted.

    The programs for ``root://`` are those of the search path, else of ``tools``, directories.

    Yields an error in place of a source that cannot be used, so that the caller decides whether the rest goes on.
    """
    for argument in arguments:
        try:
            if argument.startswith(("https://", "http://")):
                yield _web(argument, http)
            elif argument.startswith(("root://", "roots://", "xroot://")):
                yield _xrootd(argument, tuple(tools))
            else:
                yield from _local(argument, None if any_file else left_out)
        except BoathouseError as error:
            yield error


def _local(argument: str, left_out: LeftOut | None) -> Iterator[Source | InputError]:
    """Sources at a path; of every kind if nobody is told what is left out."""
    path, any_file = Path(argument), left_out is None
    if not path.exists() and glob.has_magic(argument):
        matches = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207 - absolute patterns too
        if not matches:
            yield InputError(
                "the pattern matches nothing", where=argument, remedy="boathouse sample, for files to try with"
            )
        for match in matches:
            yield from _local(match, left_out)
        return
    if path.is_dir():
        files = _below(path)
        if left_out is not None:
            for file in files:
                if file.suffix != ".root":
                    left_out(file)
            files = [file for file in files if file.suffix == ".root"]
        if not files:
            yield InputError(
                f"the directory holds no {'' if any_file else 'ROOT '}files",
                expected="files" if any_file else "*.root, at any depth",
                where=argument,
                remedy=None if any_file else "--any-file, to take files of every kind",
            )
        for file in files:
            yield from _local(str(file), left_out)
        return
    try:
        with path.open("rb") as stream:
            size_bytes = os.fstat(stream.fileno()).st_size
        yield LocalSource(where=str(path), size_bytes=size_bytes)
    except OSError as error:
        yield InputError("cannot read the file", got=error.strerror or str(error), where=argument)


def _below(directory: Path) -> list[Path]:
    """Files at and below a directory, without hidden files and directories."""
    found = []
    for folder, folders, names in os.walk(directory):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(folder, name) for name in names if not name.startswith(".")]
    return sorted(file for file in found if file.is_file())


def _web(url: str, http: Http) -> Source:
    response = http.request("HEAD", url, headers={"Want-Digest": "adler32"}, retry=BRIEF, timeout_s=60.0)
    length = response.headers.get("Content-Length")
    if response.status != 200 or length is None:
        raise InputError(
            "the source cannot be read",
            expected="status 200 and a Content-Length",
            got=f"status {response.status}",
            where=url,
        )
    return WebSource(where=url, size_bytes=int(length), adler32=digest_adler32(response.headers), http=http)


def _xrootd(url: str, tools: tuple[Path, ...]) -> Source:
    parts = urlsplit(url)
    server, path = f"{parts.scheme}://{parts.netloc}", "/" + parts.path.lstrip("/")
    size = re.search(r"^Size:\s+(\d+)", _xrdfs(tools, server, "stat", path), re.MULTILINE)
    if size is None:
        raise InputError("the source does not tell its size", where=url)
    adler32 = None
    try:
        name, _, value = _xrdfs(tools, server, "query", "checksum", f"{path}?cks.type=adler32").strip().partition(" ")
        if name == "adler32":
            adler32 = normalise_adler32(value)
    except InputError:
        # Many servers keep no checksum; the one computed while reading is then the only one.
        adler32 = None
    return XrootdSource(where=url, size_bytes=int(size[1]), adler32=adler32, tools=tools)


def _xrdfs(tools: Sequence[Path], server: str, *arguments: str) -> str:
    command: Sequence[str] = (_tool("xrdfs", tools), server, *arguments)
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, env=_foreign_environment())
    if done.returncode != 0:
        reason = (done.stderr or done.stdout).strip().splitlines()
        raise InputError("the source cannot be read", got=reason[-1] if reason else "", where=" ".join(command[1:]))
    return done.stdout


def _tool(name: str, tools: Sequence[Path]) -> str:
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(str, tools)))
    if found is None:
        raise HostError(
            f"the program {name} is missing",
            where="PATH",
            remedy='eval "$(boathouse env)", or install the XRootD client',
        )
    return found


def _foreign_environment() -> dict[str, str]:
    """The environment without the lake's token: a server outside may ask for one, and must not get this."""
    kept = dict(os.environ)
    kept.pop("BEARER_TOKEN", None)
    token_file = kept.get("BEARER_TOKEN_FILE")
    if token_file and (Path(token_file).parent / "session.json").exists():
        # The file of a session of ours; one of the caller's own making stays.
        del kept["BEARER_TOKEN_FILE"]
    kept.setdefault("XRD_CONNECTIONWINDOW", "10")
    kept.setdefault("XRD_REQUESTTIMEOUT", "60")
    return kept
