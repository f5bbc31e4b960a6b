"""A result as a directory: plots, histograms, reduced ntuple, record."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from boathouse.analysis.run import Histograms
from boathouse.errors import InputError
from boathouse.results import files, plots, record


def require_writable(directory: Path) -> None:
    """Check that a result can be written, before it is computed; leaves no trace.

    Raises:
        InputError: the directory, or the one to make it in, cannot be written.
    """
    existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=".boathouse-", dir=existing):
            pass
    except OSError as error:
        raise _unwritable(error, directory) from error


def write(result: Histograms, directory: Path, context: record.Context) -> dict[str, Any]:
    """Write everything that a run gave; the record comes last, so a directory with one is complete.

    ::

        <histogram>.png    one a histogram
        histograms.root    TH1D, TH2D and the cut-flow
        histograms.json    the same in the Unified Histogram Interface's JSON
        ntuple.root        the reduced ntuple, if the analysis keeps one
        record.json        provenance

    Returns:
        The record.

    Raises:
        InputError: the directory cannot be written.
    """
    output = result.output
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / record.FILE_NAME).unlink(missing_ok=True)
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
        unfinished = directory / f".{record.FILE_NAME}"
        unfinished.write_bytes(record.canonical(document))
        unfinished.replace(directory / record.FILE_NAME)
    except OSError as error:
        raise _unwritable(error, directory) from error
    return document


def _unwritable(error: OSError, directory: Path) -> InputError:
    return InputError(
        "the result cannot be written",
        got=error.strerror or str(error),
        where=str(directory),
        remedy="name another directory with --out",
    )
