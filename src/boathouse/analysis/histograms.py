"""Histograms: their definition, and what fills them. Bins are found with the arithmetic of ROOT's ``TAxis``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Axis:
    """Bins of equal width, from ``low`` (included) to ``high`` (excluded), with an underflow and an overflow."""

    bins: int
    low: float
    high: float
    label: str = ""
    """What is on the axis; TeX between dollar signs."""
    unit: str = ""

    def __post_init__(self) -> None:
        if self.bins < 1 or not self.low < self.high:
            msg = f"an axis needs a bin and low < high, not {self.bins} bins from {self.low} to {self.high}"
            raise ValueError(msg)

    @property
    def edges(self) -> NDArray[np.float64]:
        """The ``bins + 1`` edges."""
        return np.linspace(self.low, self.high, self.bins + 1)

    def index(self, values: ArrayLike) -> NDArray[np.intp]:
        """Bin of each value, as ``TAxis::FindFixBin``: 0 below; ``bins + 1`` above, and for not-a-number."""
        x = np.asarray(values, dtype=np.float64)
        found = np.where(x < self.low, 0, self.bins + 1)
        inside = (x >= self.low) & (x < self.high)
        found[inside] = 1 + (self.bins * (x[inside] - self.low) / (self.high - self.low)).astype(np.intp)
        return found


class Histogram:
    """The definition of a histogram: one axis or two, and how it is drawn."""

    def __init__(
        self, *axes: Axis, title: str = "", logarithmic: bool = False, marks: Mapping[float, str] | None = None
    ) -> None:
        """Define a histogram.

        Args:
            axes: one axis or two.
            title: what it shows; TeX between dollar signs.
            logarithmic: whether both axes of its plot are.
            marks: names to write at positions on the first axis, e.g. of resonances.
        """
        if len(axes) not in (1, 2):
            msg = f"a histogram has one axis or two, not {len(axes)}"
            raise ValueError(msg)
        self.axes = axes
        self.title = title
        self.logarithmic = logarithmic
        self.marks = dict(marks or {})

    @property
    def shape(self) -> tuple[int, ...]:
        """Bins of each axis, with underflow and overflow."""
        return tuple(axis.bins + 2 for axis in self.axes)


class Filled:
    """A histogram's content: sums of weights and of squared weights, flow bins included.

    Without weights both are whole numbers, which float64 adds exactly up to 2**53: then the order of filling and
    merging does not matter. With weights it does, which is why chunks are merged in the order of the events.
    """

    def __init__(self, histogram: Histogram) -> None:
        self.histogram = histogram
        self.entries = 0
        self.sums = np.zeros(histogram.shape)
        self.squares = np.zeros(histogram.shape)

    def fill(self, *values: ArrayLike, weight: ArrayLike | None = None) -> None:
        """Fill with one array an axis, and optionally a weight for each entry.

        Raises:
            ValueError: the number of arrays is not that of the axes, or their lengths differ.
        """
        if len(values) != len(self.histogram.axes):
            msg = f"the histogram has {len(self.histogram.axes)} axes and was filled with {len(values)} arrays"
            raise ValueError(msg)
        indices = [np.atleast_1d(axis.index(array)) for axis, array in zip(self.histogram.axes, values, strict=True)]
        if len({len(index) for index in indices}) != 1:
            msg = f"arrays of different lengths: {', '.join(str(len(index)) for index in indices)}"
            raise ValueError(msg)
        flat = np.ravel_multi_index(tuple(indices), self.histogram.shape)
        counted = self._count(flat, None)
        if weight is None:
            self.sums += counted
            self.squares += counted
        else:
            weights = np.broadcast_to(np.asarray(weight, dtype=np.float64), flat.shape)
            self.sums += self._count(flat, weights)
            self.squares += self._count(flat, weights * weights)
        self.entries += len(flat)

    def _count(self, flat: NDArray[np.intp], weights: NDArray[np.float64] | None) -> NDArray[Any]:
        size = self.sums.size
        return np.bincount(flat, weights=weights, minlength=size).reshape(self.histogram.shape)

    def add(self, other: Filled) -> None:
        """Add another content of the same histogram."""
        self.entries += other.entries
        self.sums += other.sums
        self.squares += other.squares

    @property
    def inside(self) -> NDArray[np.float64]:
        """Sums of weights without the flow bins."""
        return self.sums[tuple(slice(1, -1) for _ in self.histogram.axes)]
