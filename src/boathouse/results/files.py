"""Histograms and ntuples as files: ROOT for ROOT, JSON for everything else; equal content gives equal bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from uproot.writing.identify import to_TAxis, to_TH1x, to_TH2x, to_THashList, to_TObjString

from boathouse.analysis.histograms import Axis, Filled
from boathouse.analysis.rootwrite import Branch, add_tree, recreate

_CLUSTER_ROWS = 200_000


def write_histograms_root(path: Path, histograms: Mapping[str, Filled], cutflow: Mapping[str, int]) -> None:
    """Write histograms as ``TH1D`` and ``TH2D``, and the cut-flow as one with a labelled bin a step."""
    with recreate(path) as file:
        for name, filled in histograms.items():
            file[name] = _th1(filled) if len(filled.histogram.axes) == 1 else _th2(filled)
        if cutflow:
            file["cutflow"] = _th_cutflow(cutflow)


def write_histograms_json(path: Path, histograms: Mapping[str, Filled], cutflow: Mapping[str, int]) -> None:
    """Write histograms in the JSON of the Unified Histogram Interface (uhi, schema 1), which hist and ROOT users read.

    The cut-flow stands beside them under ``cutflow``.
    """
    steps = [{"step": step, "events": count} for step, count in cutflow.items()]
    document = {"cutflow": steps, "histograms": {name: _uhi(filled) for name, filled in histograms.items()}}
    path.write_text(json.dumps(document, separators=(",", ":"), allow_nan=False) + "\n", encoding="utf-8")


def write_ntuple(path: Path, columns: Mapping[str, NDArray[Any]], tree: str = "Events") -> None:
    """Write a reduced ntuple as a tree with one flat branch a column."""
    rows = len(next(iter(columns.values())))
    branches = {name: Branch(array.dtype) for name, array in columns.items()}

    def clusters() -> Iterator[dict[str, NDArray[Any]]]:
        for start in range(0, rows, _CLUSTER_ROWS):
            yield {name: array[start : start + _CLUSTER_ROWS] for name, array in columns.items()}

    with recreate(path) as file:
        add_tree(file, tree, branches, clusters(), cluster_entries=_CLUSTER_ROWS)


def _th1(filled: Filled) -> Any:
    (axis,) = filled.histogram.axes
    inside = filled.inside
    centres = (axis.edges[:-1] + axis.edges[1:]) / 2
    return to_TH1x(
        fName=None,
        fTitle=filled.histogram.title,
        data=filled.sums.copy(),
        fEntries=float(filled.entries),
        fTsumw=inside.sum(),
        fTsumw2=filled.squares[1:-1].sum(),
        fTsumwx=(inside * centres).sum(),
        fTsumwx2=(inside * centres**2).sum(),
        fSumw2=filled.squares.copy(),
        fXaxis=_axis("xaxis", axis),
    )


def _th2(filled: Filled) -> Any:
    x, y = filled.histogram.axes
    inside = filled.inside
    x_centres, y_centres = ((axis.edges[:-1] + axis.edges[1:]) / 2 for axis in (x, y))
    by_x, by_y = inside.sum(axis=1), inside.sum(axis=0)
    return to_TH2x(
        fName=None,
        fTitle=filled.histogram.title,
        # ROOT counts cells along x first.
        data=filled.sums.T.ravel().copy(),
        fEntries=float(filled.entries),
        fTsumw=inside.sum(),
        fTsumw2=filled.squares[1:-1, 1:-1].sum(),
        fTsumwx=(by_x * x_centres).sum(),
        fTsumwx2=(by_x * x_centres**2).sum(),
        fTsumwy=(by_y * y_centres).sum(),
        fTsumwy2=(by_y * y_centres**2).sum(),
        fTsumwxy=(inside * np.outer(x_centres, y_centres)).sum(),
        fSumw2=filled.squares.T.ravel().copy(),
        fXaxis=_axis("xaxis", x),
        fYaxis=_axis("yaxis", y),
    )


def _th_cutflow(cutflow: Mapping[str, int]) -> Any:
    counts = np.array([0, *cutflow.values(), 0], dtype=np.float64)
    labels = [to_TObjString(step) for step in cutflow]
    for number, label in enumerate(labels, start=1):
        # ROOT finds a label's bin by this number.
        label._bases[0]._members["@fUniqueID"] = np.uint32(number)  # noqa: SLF001 - uproot has no option for it
    return to_TH1x(
        fName=None,
        fTitle="Events after each step",
        data=counts,
        fEntries=float(counts.sum()),
        fTsumw=counts.sum(),
        fTsumw2=counts.sum(),
        fTsumwx=0.0,
        fTsumwx2=0.0,
        fSumw2=counts.copy(),
        fXaxis=to_TAxis("xaxis", "", len(cutflow), 0.0, float(len(cutflow)), fLabels=to_THashList(labels)),
    )


def _axis(name: str, axis: Axis) -> Any:
    return to_TAxis(name, f"{axis.label} [{axis.unit}]" if axis.unit else axis.label, axis.bins, axis.low, axis.high)


def _uhi(filled: Filled) -> dict[str, Any]:
    weighted = not np.array_equal(filled.sums, filled.squares)
    storage = (
        {"type": "weighted", "values": _numbers(filled.sums), "variances": _numbers(filled.squares)}
        if weighted
        else {"type": "double", "values": _numbers(filled.sums)}
    )
    return {
        "uhi_schema": 1,
        "axes": [
            {
                "type": "regular",
                "lower": axis.low,
                "upper": axis.high,
                "bins": axis.bins,
                "underflow": True,
                "overflow": True,
                "circular": False,
                "metadata": {"label": axis.label, "unit": axis.unit},
            }
            for axis in filled.histogram.axes
        ],
        "storage": storage,
        "metadata": {"title": filled.histogram.title, "entries": filled.entries},
    }


def _numbers(values: NDArray[np.float64]) -> list[Any]:
    """Nested lists in which whole numbers are written as such."""
    if np.array_equal(values, np.rint(values)):
        return list(values.astype(np.int64).tolist())
    return list(values.tolist())
