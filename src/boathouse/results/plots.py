"""Plots of histograms, as a publication would show them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from boathouse.analysis.histograms import Axis, Filled

_STYLE = {
    "font.family": "sans-serif",
    "font.size": 13.0,
    "mathtext.fontset": "dejavusans",
    "axes.linewidth": 1.1,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "xtick.minor.visible": True,
    "ytick.minor.visible": True,
    "xtick.major.size": 7.0,
    "ytick.major.size": 7.0,
    "xtick.minor.size": 3.5,
    "ytick.minor.size": 3.5,
}
_INK, _FILL = "#12355b", "#8fb8de"
_LOG_BINS_A_DECADE = 160


def draw(filled: Filled, path: Path, *, note: str = "") -> None:
    """Draw a histogram into a PNG file; the same content gives the same bytes.

    Args:
        filled: a histogram with one axis or two.
        path: file to write.
        note: a line above the frame on the right: which data these are.
    """
    with mpl.rc_context(_style()):
        figure = Figure(figsize=(9.6, 6.0), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        if len(filled.histogram.axes) == 1:
            _draw_one(axes, filled)
        else:
            _draw_two(figure, axes, filled)
        if filled.histogram.title:
            axes.set_title(filled.histogram.title, loc="left", fontweight="bold", fontsize=14)
        if note:
            axes.set_title(note, loc="right", fontsize=11, color="0.35")
        figure.savefig(path, dpi=160, metadata={"Software": None})


def _style() -> Any:
    """Our settings over the library's own, whatever the user's configuration says."""
    return dict(mpl.rcParamsDefault) | _STYLE | {"backend": "agg"}


def _draw_one(axes: Any, filled: Filled) -> None:
    histogram = filled.histogram
    (axis,) = histogram.axes
    contents, variances, edges = filled.inside, filled.squares[1:-1], axis.edges
    unit = axis.unit or "unit"
    # An empty histogram has no place on a logarithmic axis.
    logarithmic = histogram.logarithmic and axis.low > 0 and bool((contents > 0).any())
    if logarithmic:
        contents, variances, edges = _logarithmic(contents, variances, edges)
        widths = np.diff(edges)
        contents, variances = contents / widths, variances / widths**2
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylabel(f"Events / {unit}")
    else:
        axes.set_ylabel(f"Events / {(axis.high - axis.low) / axis.bins:.3g} {unit}")
    floor = contents[contents > 0].min() * 0.5 if logarithmic else 0.0
    axes.stairs(contents, edges, baseline=floor, fill=True, color=_FILL, alpha=0.55, linewidth=0)
    axes.stairs(contents, edges, baseline=floor, color=_INK, linewidth=1.3)
    errors = np.sqrt(variances)
    low, high = np.maximum(contents - errors, floor), contents + errors
    axes.fill_between(
        edges, np.append(low, low[-1]), np.append(high, high[-1]), step="post", color=_INK, alpha=0.25, lw=0
    )
    axes.set_xlim(edges[0], edges[-1])
    _label(axes.set_xlabel, axis)
    if contents.any():
        _limit_and_mark(axes, filled, contents, edges, floor)


def _limit_and_mark(
    axes: Any, filled: Filled, contents: NDArray[np.float64], edges: NDArray[np.float64], floor: float
) -> None:
    """Leave room above the highest bin, and write each mark above the peak that it names."""
    top = contents.max()
    logarithmic = axes.get_yscale() == "log"
    if logarithmic:
        axes.set_ylim(max(floor, top * 1e-8), top * 6)
        axes.xaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
    else:
        axes.set_ylim(0, top * 1.25)
    for position, name in filled.histogram.marks.items():
        if not edges[0] < position < edges[-1]:
            continue
        near = (edges[1:] > position * 0.97) & (edges[:-1] < position * 1.03)
        height = contents[near].max()
        if height > 0:
            axes.annotate(
                name,
                (position, height),
                xytext=(0, 9),
                textcoords="offset points",
                ha="center",
                va="bottom",
                color=_INK,
            )


def _draw_two(figure: Figure, axes: Any, filled: Filled) -> None:
    x, y = filled.histogram.axes
    contents = np.ma.masked_less_equal(filled.inside.T, 0)
    norm = mpl.colors.LogNorm() if filled.histogram.logarithmic and contents.count() else None
    mesh = axes.pcolormesh(x.edges, y.edges, contents, norm=norm, cmap="cividis", rasterized=True)
    figure.colorbar(mesh, ax=axes, label="Events")
    _label(axes.set_xlabel, x)
    _label(axes.set_ylabel, y)


def _label(put: Any, axis: Axis) -> None:
    put(
        f"{axis.label} [{axis.unit}]" if axis.unit else axis.label,
        loc="right" if put.__name__ == "set_xlabel" else "top",
    )


def _logarithmic(
    contents: NDArray[np.float64], variances: NDArray[np.float64], edges: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Join neighbouring bins so that they are about equally wide on a logarithmic axis; no bin is split."""
    decades = np.log10(edges[-1] / edges[0])
    wanted = np.geomspace(edges[0], edges[-1], max(2, round(decades * _LOG_BINS_A_DECADE)))
    chosen = np.unique(np.searchsorted(edges, wanted).clip(0, len(edges) - 1))
    return np.add.reduceat(contents, chosen[:-1]), np.add.reduceat(variances, chosen[:-1]), edges[chosen]
