"""What the commands about data share: the lake of whoever is logged in, progress bars, reading their arguments."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import Lock

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from boathouse.cli.common import err, out, shown, state_dir
from boathouse.errors import InputError
from boathouse.facility.faults import nearest
from boathouse.lake.lake import Lake
from boathouse.plan import endpoints as endpoints_file
from boathouse.plan.model import Endpoints

_QUIET_S = 2.0
"""Work that is done within this time shows no bar."""


def endpoints_of(state: Path) -> Endpoints:
    """Endpoints of the facility in a state directory.

    Raises:
        StateError: there is none, or it was never up.
    """
    return endpoints_file.load(state)


def open_lake(state: Path | None) -> Lake:
    """The lake of whoever is logged in.

    Raises:
        AuthError: nobody is.
    """
    return Lake.from_session(endpoints_of(state_dir(state)))


class Bar:
    """A progress bar of bytes and files on standard error, shown once the work has lasted a while.

    A :class:`~boathouse.lake.progress.Progress`, to be called from any thread.
    """

    def __init__(self, text: str, *, size_bytes: int, files: int) -> None:
        self._began = time.monotonic()
        self._lock = Lock()
        self._files = files
        self._done_files = self._done_bytes = 0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[files]}"),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=err,
            transient=True,
            disable=not err.is_terminal,
        )
        self._task = self._progress.add_task(text, total=size_bytes, files=f"0/{files}")
        self._shown = False

    def __call__(self, *, size_bytes: int = 0, files: int = 0) -> None:
        """So many more bytes, so many more files."""
        with self._lock:
            self._done_bytes += size_bytes
            self._done_files += files
            self._progress.update(
                self._task, completed=self._done_bytes, files=f"{self._done_files}/{self._files} files"
            )
            if not self._shown and time.monotonic() - self._began > _QUIET_S:
                self._shown = True
                self._progress.start()

    def close(self) -> None:
        """Take the bar away."""
        self._progress.stop()


@contextmanager
def bar(text: str, *, size_bytes: int, files: int) -> Iterator[Bar]:
    """A :class:`Bar` for the duration of a block."""
    shown = Bar(text, size_bytes=size_bytes, files=files)
    try:
        yield shown
    finally:
        shown.close()


def waiting(text: str) -> AbstractContextManager[object]:
    """A spinner on standard error, where that is a terminal."""
    return err.status(text)


def columns(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table on standard output; nothing is cut or wrapped, so that it can be copied, searched and piped.

    A column in which every row is empty is left out.
    """
    lines = [tuple(head), *(tuple(map(shown, row)) for row in rows)]
    kept = [place for place in range(len(head)) if len(lines) == 1 or any(line[place] for line in lines[1:])]
    lines = [tuple(line[place] for place in kept) for line in lines]
    widths = [max(len(line[place]) for line in lines) for place in range(len(kept))]
    for number, line in enumerate(lines):
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        out.print(text, style="bold" if number == 0 else None)


@contextmanager
def values_named(lake: Lake, expression: str) -> Iterator[None]:
    """Where the catalogue takes an RSE expression for wrong, name the values that there are of its attributes.

    Raises:
        InputError: that of the catalogue, or one that says more.
    """
    try:
        yield
    except InputError as error:
        wanted = re.findall(r"([A-Za-z_]\w*)=([\w.:\-]+)", expression)
        if not wanted:
            raise
        places = [lake.catalogue.rse(name).attributes for name in lake.catalogue.rses()]
        for key, value in wanted:
            known = sorted({str(attributes[key]) for attributes in places if key in attributes})
            if value not in known:
                meant = nearest(value, known)
                raise InputError(
                    f"no RSE has {key}={value}",
                    expected=f"one of {', '.join(known)}" if known else f"an attribute that RSEs have, not {key}",
                    got=expression,
                    remedy=f"did you mean {key}={meant}?" if meant else "boathouse ls --rses",
                ) from error
        raise


def rse_expression(qos: str | None, rse: str | None) -> str:
    """The RSE expression that ``--qos`` or ``--rse`` mean.

    Raises:
        InputError: neither or both were given.
    """
    if (qos is None) == (rse is None):
        raise InputError(
            "where to?", expected="--qos LABEL or --rse EXPRESSION, one of them", remedy="boathouse ls --rses"
        )
    return f"QOS={qos}" if qos is not None else str(rse)
