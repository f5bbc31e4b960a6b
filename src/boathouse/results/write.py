"""A result as a directory: plots, histograms, reduced ntuple, record."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from boathouse import atomic
from boathouse.analysis.run import Histograms
from boathouse.errors import InputError
from boathouse.results import files, plots, record

_SHOWN = 3
"""Names of other files that an error lists."""


@dataclass(frozen=True)
class Written:
    """A result on the disk."""

    directory: Path
    """Where it is: what was asked for, with links followed, or a name beside it."""
    document: dict[str, Any]
    """Its record."""


def require_writable(directory: Path) -> None:
    """Check that a result can be written, before it is computed; leaves no trace.

    Raises:
        InputError: the directory, or the one to make it in, cannot be written; or something lies there that a result
            must not replace.
    """
    try:
        place = _place(directory)
        _require_replaceable(place, directory)
        existing = next(path for path in place.parents if path.exists())
        for changed in (existing, place) if place.exists() else (existing,):
            with tempfile.TemporaryDirectory(prefix=".boathouse-", dir=changed):
                pass
    except OSError as error:
        raise _unwritable(error, directory) from error


def write(result: Histograms, directory: Path, context: record.Context) -> Written:
    """Write everything that a run gave; an earlier result in the directory is replaced as a whole, by one rename.

    If something else lies there by now, the result is not lost: it goes beside, as ``NAME-2`` or the next free number.

    ::

        <histogram>.png    one a histogram
        histograms.root    TH1D, TH2D and the cut-flow
        histograms.json    the same in the Unified Histogram Interface's JSON
        ntuple.root        the reduced ntuple, if the analysis keeps one
        record.json        provenance

    Raises:
        InputError: the directory cannot be written, or is one whose place nothing can take, such as a mount point.
    """
    try:
        place = _place(directory)
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{place.name}.", dir=place.parent, ignore_cleanup_errors=True
        ) as beside:
            new = Path(beside) / place.name
            new.mkdir()
            if place.is_dir():
                shutil.copymode(place, new)
            document = _write_into(new, result, context)
            # Asked last: drawing takes a while.
            if _foreign(place):
                place = _free_beside(place)
            # What was there goes with the directory beside.
            atomic.replace_directory(new, place)
    except OSError as error:
        raise _unwritable(error, directory) from error
    return Written(place, document)


def _write_into(directory: Path, result: Histograms, context: record.Context) -> dict[str, Any]:
    output = result.output
    made = [directory / "histograms.root", directory / "histograms.json"]
    files.write_histograms_root(made[0], output.histograms, output.counts)
    files.write_histograms_json(made[1], output.histograms, output.counts)
    if rows := output.rows:
        made.append(directory / "ntuple.root")
        files.write_ntuple(made[-1], rows, result.task.tree)
    note = f"{result.dataset.name}, {result.events:,} events"
    for name, filled in output.histograms.items():
        made.append(directory / f"{name}.png")
        plots.draw(filled, made[-1], note=note)
    document = record.build(result, made, context)
    (directory / record.FILE_NAME).write_bytes(record.canonical(document))
    return document


def _place(directory: Path) -> Path:
    """Where a result is to be, with links followed.

    Raises:
        InputError: it is a directory whose place nothing can take.
        OSError: what is there cannot be looked at.
    """
    place = directory.resolve()
    if Path.cwd().is_relative_to(place) or place.is_mount():
        raise InputError(
            "a result cannot take the place of this directory",
            expected="one that is neither the working directory, nor above it, nor a mount point",
            where=str(directory),
            remedy=f"name a directory below it: --out {directory / 'result'}",
        )
    return place


def _require_replaceable(place: Path, directory: Path) -> None:
    if foreign := _foreign(place):
        raise InputError(
            "other files are there, which a result would replace",
            expected="nothing, an empty directory, or a result of `run` with its own files only",
            got=", ".join(foreign[:_SHOWN]) + (", …" if len(foreign) > _SHOWN else ""),
            where=str(directory),
            remedy="move them away, or name another directory with --out",
        )


def _free_beside(place: Path) -> Path:
    """The first of ``NAME-2``, ``NAME-3`` … that is not there."""
    names = (place.with_name(f"{place.name}-{number}") for number in count(2))
    return next(path for path in names if not os.path.lexists(path))


def _foreign(place: Path) -> list[str]:
    """Names of what lies in a directory and is not of a result that was written there."""
    if not place.exists():
        return []
    document = record.earlier(place) or {}
    own = {record.FILE_NAME, *document.get("result", ())} if document else set()
    return sorted(path.name for path in place.iterdir() if path.name not in own or not path.is_file())


def _unwritable(error: OSError, directory: Path) -> InputError:
    return InputError(
        "the result cannot be written",
        got=error.strerror or str(error),
        where=str(directory),
        remedy="name another directory with --out",
    )
