"""Trees of input files: opened once a process, from the next URL when one fails."""

from __future__ import annotations

import difflib
import textwrap
from collections import OrderedDict
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import uproot

from boathouse.analysis.dataset import InputFile
from boathouse.analysis.sources import WRONG_SIZE, Access, Range, RemoteSource, is_of_server, source_for
from boathouse.errors import AnalysisError, AuthError, BoathouseError, InputError, StorageError
from boathouse.lake.failing import Failing
from boathouse.lake.rootfile import HEADER_BYTES, check_header

_OPEN_FILES = 16
# About what a worker reads in a second.
_AHEAD_BYTES = 64_000_000
_REASON_CHARACTERS = 160
_LEAST_BYTES = 403
"""What uproot reads of a file before anything else."""
_OTHER_INPUT = "name a dataset of whole ROOT files with events; boathouse ls DATASET shows what is in one"
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Attempt:
    """A URL that failed, and why."""

    url: str
    reason: str


@dataclass(frozen=True)
class Reading(Generic[Answer]):
    """What was read, from where, and what had failed before."""

    answer: Answer
    url: str
    failed: tuple[Attempt, ...]
    bytes_read: int
    """Bytes that were asked for; 0 for local files, which are mapped."""


class _Opened:
    """An open file, and the trees whose descriptions have been read: of NanoAOD, that takes longer than the opening."""

    def __init__(self, directory: Any) -> None:
        self.directory = directory
        self.source = directory.file.source
        self._trees: dict[str, Any] = {}

    @property
    def coming_bytes(self) -> int:
        """Bytes asked for ahead of their use."""
        return self.source.coming_bytes if isinstance(self.source, RemoteSource) else 0

    def tree(self, name: str, file: InputFile) -> Any:
        """A tree of the file, described once."""
        if name not in self._trees:
            self._trees[name] = _tree(self.directory, name, file)
        return self._trees[name]

    def byte_ranges(self, tree: str, columns: Collection[str], entries: tuple[int, int]) -> list[Range]:
        """Where in the file some columns of some entries are; baskets that came with the description are not asked."""
        known = self._trees[tree]
        places = [place for name in columns for _, place in known[name].entries_to_ranges_or_baskets(*entries)]
        return [(int(place[0]), int(place[1])) for place in places if isinstance(place, tuple)]


class Reader:
    """Keeps files open between chunks: opening one costs several round trips, reading a chunk one."""

    def __init__(self, access: Access | None) -> None:
        """Make a reader.

        Args:
            access: token and CA for remote files; none where all files are local.
        """
        self._access = access
        self.failing = Failing()
        """Servers that failed a short while ago; files that have other URLs are read from those first."""
        self._open: OrderedDict[str, _Opened] = OrderedDict()

    def read(self, file: InputFile, tree: str, use: Callable[[Any], Answer]) -> Reading[Answer]:
        """Apply ``use`` to a tree of the file, read from the first URL that works.

        URLs of servers that failed a short while ago come last.

        A file that was kept open is opened again before its URL counts as failed: its token may have ended, or its
        server may have been restarted.

        Raises:
            AnalysisError: the file has no such tree, or ``use`` raised this error.
            AuthError: every URL refused the token.
            InputError: every URL has something other than a whole ROOT file.
            StorageError: every URL failed.
        """
        failed: list[Attempt] = []
        errors: list[Exception] = []
        urls = list(file.urls)
        while urls:
            url, *urls = self.failing.last(urls)
            for kept in (True, False):
                if kept and url not in self._open:
                    continue
                try:
                    opened = self._opened(url, file)
                    before = opened.source.num_requested_bytes
                    answer = use(opened.tree(tree, file))
                    asked = opened.source.num_requested_bytes - before
                    self.failing.worked(url)
                    return Reading(answer, url, tuple(failed), asked)
                except AnalysisError:
                    raise
                except Exception as error:  # noqa: BLE001 - a damaged file makes uproot raise nearly anything
                    self._drop(url)
                    if not kept and is_of_server(error):
                        self.failing.failed(url)
                    failed.append(Attempt(url, _reason(error)))
                    errors.append(error)
        raise _all_failed(file, failed, errors)

    def ask_ahead(self, url: str, tree: str, columns: Collection[str], entries: tuple[int, int]) -> None:
        """Have a remote server send what a chunk needs while other things are done.

        Nothing is asked for when it would be too much to keep, or when the file is local or no longer open.
        """
        opened = self._open.get(url)
        if opened is None or not isinstance(opened.source, RemoteSource):
            return
        ranges = opened.byte_ranges(tree, columns, entries)
        kept = sum(other.coming_bytes for other in self._open.values())
        if kept + sum(stop - start for start, stop in ranges) <= _AHEAD_BYTES:
            opened.source.ask_ahead(ranges)

    def _opened(self, url: str, file: InputFile) -> _Opened:
        """The open file of a URL, which has the size that it should have."""
        if url not in self._open:
            self._open[url] = self._fresh(url, file)
            if len(self._open) > _OPEN_FILES:
                # Rather not one whose bytes are on their way.
                self._drop(min(self._open, key=lambda other: self._open[other].coming_bytes > 0))
        self._open.move_to_end(url)
        opened = self._open[url]
        _require_size(opened.source.num_bytes, file.size_bytes, url)
        return opened

    def _fresh(self, url: str, file: InputFile) -> _Opened:
        if file.size_bytes < _LEAST_BYTES:
            raise InputError(
                "not a ROOT file", expected="a file with ROOT's header", got=f"{file.size_bytes} bytes", where=url
            )
        # Nothing is cached: each entry is read once. A mapping, since a colon in a string would separate a tree's name.
        options: dict[str, Any] = {"array_cache": None, "object_cache": None}
        handler = source_for(url)
        if handler is not None:
            options |= {"handler": handler, "access": self._access}
        try:
            opened = uproot.open({url: None}, **options)
        except ValueError as error:
            raise InputError("not a ROOT file", got=str(error).splitlines()[0], where=url) from error
        source = opened.file.source
        try:
            _require_size(source.num_bytes, file.size_bytes, url)
            check_header(bytes(source.chunk(0, min(HEADER_BYTES, source.num_bytes)).raw_data), source.num_bytes, url)
        except BaseException:
            opened.close()
            raise
        return _Opened(opened)

    def _drop(self, url: str) -> None:
        opened = self._open.pop(url, None)
        if opened is not None:
            # It is dropped because it failed: closing it may fail as well.
            with suppress(OSError):
                opened.directory.close()


def _require_size(size_bytes: int, expected_bytes: int, url: str) -> None:
    if size_bytes != expected_bytes:
        raise StorageError(WRONG_SIZE, expected=f"{expected_bytes} bytes", got=f"{size_bytes} bytes", where=url)


def _tree(opened: Any, name: str, file: InputFile) -> Any:
    trees = [key for key, kind in opened.classnames(cycle=False).items() if kind == "TTree"]
    if name not in trees:
        # By the case of its letters alone, or by a few of them.
        near = [tree for tree in trees if tree.lower() == name.lower()] or difflib.get_close_matches(name, trees)
        wanted = near or trees
        raise AnalysisError(
            "the file has no such tree",
            expected=name,
            got=f"the trees {', '.join(trees)}" if trees else "a file without trees",
            where=file.name,
            remedy=f"name it in the analysis: tree = {wanted[0]!r}" if wanted else _OTHER_INPUT,
        )
    return opened[name]


def _all_failed(file: InputFile, failed: list[Attempt], errors: list[Exception]) -> BoathouseError:
    # A file that was kept open fails twice, mostly for one reason.
    reasons = "; ".join(dict.fromkeys(map(_told, failed))) or "it has no URL"
    if errors and all(isinstance(error, InputError) for error in errors):
        first = errors[0]
        assert isinstance(first, InputError)
        if source_for(failed[0].url) is None:
            return first
        # Its size is the one that the catalogue knows: the lake has it as it was put there.
        return InputError(first.what, expected=first.expected, got=first.got, where=file.name, remedy=_OTHER_INPUT)
    if errors and all(isinstance(error, AuthError) for error in errors):
        return AuthError("reading was refused", got=reasons, where=file.name, remedy="boathouse login")
    remedies = {error.remedy if isinstance(error, BoathouseError) else None for error in errors}
    remedy = remedies.pop() if len(remedies) == 1 else None
    return StorageError("no replica could be read", got=reasons, where=file.name, remedy=remedy or "boathouse status")


def _reason(error: Exception) -> str:
    """In one short line, without the URL."""
    if isinstance(error, BoathouseError):
        return f"{error.what}: {error.got}" if error.got else error.what
    kind, line = type(error).__name__, str(error).strip().partition("\n")[0]
    return textwrap.shorten(f"{kind}: {line}" if line else kind, _REASON_CHARACTERS, placeholder=" …")


def _told(attempt: Attempt) -> str:
    """A reason with the server that it is of."""
    server = urlsplit(attempt.url).netloc if source_for(attempt.url) else ""
    return f"{server}: {attempt.reason}" if server else attempt.reason
