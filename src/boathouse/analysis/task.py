"""The contract of a user's analysis: one Python file that says what it reads, what it fills, and how.

::

    from boathouse.analysis import Axis, Events, Histogram, Output

    columns = ("nMuon", "Muon_pt")                        # branches to read
    histograms = {"pt": Histogram(Axis(100, 0, 100, "pt", "GeV"))}
    cutflow = ("all", "with a muon")                      # steps that are counted, in order; optional
    ntuple = {"pt": "float32"}                            # columns of a reduced ntuple; optional
    tree = "Events"                                       # optional

    def process(events: Events, out: Output) -> None:     # called for each chunk of events
        ...

The file is one unit: its text is hashed into the record of every result, and sent to the workers. It imports installed
packages only, not files beside it.
"""

from __future__ import annotations

import hashlib
import linecache
import re
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boathouse.analysis.events import Events
from boathouse.analysis.histograms import Filled, Histogram
from boathouse.errors import AnalysisError, InputError

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\-]*")


@dataclass(frozen=True)
class Task:
    """A user's analysis, read and checked; plain data that travels to the workers."""

    name: str
    """File name without directory."""
    source: str
    tree: str
    columns: tuple[str, ...]
    histograms: Mapping[str, Histogram]
    cutflow: tuple[str, ...]
    ntuple: Mapping[str, str]
    description: str
    """First line of the file's docstring."""

    @property
    def sha256(self) -> str:
        """Hash of the file's text."""
        return hashlib.sha256(self.source.encode()).hexdigest()


class Output:
    """Where a user's ``process`` puts its results; one for each chunk, merged afterwards."""

    def __init__(self, task: Task) -> None:
        self.histograms = {name: Filled(histogram) for name, histogram in task.histograms.items()}
        self.counts = dict.fromkeys(task.cutflow, 0)
        self._dtypes = {name: np.dtype(dtype) for name, dtype in task.ntuple.items()}
        self._rows: dict[str, list[NDArray[Any]]] = {name: [] for name in task.ntuple}

    def fill(self, name: str, *values: ArrayLike, weight: ArrayLike | None = None) -> None:
        """Fill a histogram with one array an axis.

        Raises:
            KeyError: the analysis defines no such histogram.
            ValueError: the arrays do not fit its axes.
        """
        self._known(name, self.histograms, "histograms").fill(*values, weight=weight)

    def count(self, step: str, events: Events | int) -> None:
        """Add events (or their number) to a step of the cut-flow.

        Raises:
            KeyError: the analysis defines no such step.
        """
        self._known(step, self.counts, "cutflow")
        self.counts[step] += events if isinstance(events, int) else len(events)

    def keep(self, **columns: ArrayLike) -> None:
        """Append rows to the reduced ntuple.

        Raises:
            ValueError: the columns are not those that the analysis defines, or their lengths differ.
        """
        if set(columns) != set(self._rows):
            msg = f"the ntuple has the columns {', '.join(self._rows)}, not {', '.join(columns)}"
            raise ValueError(msg)
        arrays = {name: np.atleast_1d(np.asarray(values)) for name, values in columns.items()}
        if len({len(array) for array in arrays.values()}) > 1:
            msg = "columns of different lengths: " + ", ".join(f"{name} {len(a)}" for name, a in arrays.items())
            raise ValueError(msg)
        for name, array in arrays.items():
            self._rows[name].append(array.astype(self._dtypes[name]))

    @property
    def rows(self) -> dict[str, NDArray[Any]]:
        """The kept rows, one array a column."""
        return {
            name: np.concatenate(parts) if parts else np.empty(0, self._dtypes[name])
            for name, parts in self._rows.items()
        }

    def merge(self, later: Output) -> None:
        """Append the output of later events."""
        for name, filled in self.histograms.items():
            filled.add(later.histograms[name])
        for step, count in later.counts.items():
            self.counts[step] += count
        for name, parts in self._rows.items():
            parts.extend(later._rows[name])

    @staticmethod
    def _known(name: str, table: dict[str, Any], what: str) -> Any:
        try:
            return table[name]
        except KeyError:
            msg = f"{name!r} is not in {what}, which has {', '.join(map(repr, table)) or 'nothing'}"
            raise KeyError(msg) from None


def load(path: Path) -> Task:
    """Read and check an analysis.

    Raises:
        InputError: the file cannot be read, is not Python, or lacks a part of the contract.
        AnalysisError: its top level raised an exception.
    """
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("cannot read the analysis", got=str(error), where=str(path)) from error
    module = _module(source, path.name)
    problems = _problems(module)
    if problems:
        raise InputError(
            "the analysis lacks a part of its contract",
            got="; ".join(problems),
            where=str(path),
            remedy="see examples/analysis/dimuon.py",
        )
    return Task(
        name=path.name,
        source=source,
        tree=str(getattr(module, "tree", "Events")),
        columns=tuple(module.columns),
        histograms=dict(module.histograms),
        cutflow=tuple(getattr(module, "cutflow", ())),
        ntuple=dict(getattr(module, "ntuple", {})),
        description=(module.__doc__ or "").strip().split("\n")[0],
    )


def run(task: Task, events: Events) -> Output:
    """Run the user's code over one chunk.

    Raises:
        AnalysisError: it raised an exception; the message shows the user's own line.
    """
    out = Output(task)
    process: Callable[[Events, Output], None] = _module(task.source, task.name).process
    try:
        process(events, out)
    except Exception as error:  # noqa: BLE001 - the user's code may raise anything
        raise failure(error, task.name) from None
    return out


def failure(error: BaseException, name: str) -> AnalysisError:
    """An exception from the user's file, told by the user's own line."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == _filename(name)]
    where = f"{name}, line {frames[-1].lineno}, in {frames[-1].name}: {frames[-1].line}" if frames else name
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    return AnalysisError("the analysis raised an exception", got=f"{type(error).__name__}: {text}", where=where)


@lru_cache(maxsize=8)
def _module(source: str, name: str) -> ModuleType:
    filename = _filename(name)
    module = ModuleType(Path(name).stem)
    module.__file__ = name
    # Tracebacks look source lines up here: on a worker there is no file.
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    try:
        exec(compile(source, filename, "exec"), module.__dict__)  # noqa: S102 - running the user's code is the purpose
    except SyntaxError as error:
        where = f"{name}, line {error.lineno}: {(error.text or '').strip()}"
        raise InputError("the analysis is not valid Python", got=error.msg, where=where) from None
    except Exception as error:  # noqa: BLE001 - the user's code may raise anything
        raise failure(error, name) from None
    return module


def _filename(name: str) -> str:
    return f"<analysis {name}>"


def _problems(module: ModuleType) -> list[str]:
    problems = []
    if not callable(getattr(module, "process", None)):
        problems.append("no function process(events, out)")
    columns = getattr(module, "columns", None)
    if not columns or isinstance(columns, str) or not all(isinstance(column, str) for column in columns):
        problems.append("no columns = (names of branches)")
    histograms = getattr(module, "histograms", None)
    if not isinstance(histograms, Mapping) or not all(isinstance(each, Histogram) for each in histograms.values()):
        problems.append("no histograms = {name: Histogram(...)}")
    elif odd := [name for name in histograms if not _FILE_NAME.fullmatch(str(name))]:
        problems.append(f"histogram names become file names: letters, digits, '_', '-' only, not {', '.join(odd)}")
    cutflow = getattr(module, "cutflow", ())
    if isinstance(cutflow, str) or len(set(cutflow)) != len(cutflow):
        problems.append("cutflow is not a tuple of different names")
    try:
        for dtype in dict(getattr(module, "ntuple", {})).values():
            np.dtype(dtype)
    except (TypeError, ValueError) as error:
        problems.append(f"ntuple is not {{column: NumPy type}}: {error}")
    return problems
