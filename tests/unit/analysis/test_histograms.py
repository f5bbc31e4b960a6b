from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boathouse.analysis.histograms import Axis, Filled, Histogram


def find_fix_bin(axis: Axis, x: float) -> int:
    """``TAxis::FindFixBin`` of ROOT 6, word for word."""
    if x < axis.low:
        return 0
    if not x < axis.high:
        return axis.bins + 1
    return 1 + int(axis.bins * (x - axis.low) / (axis.high - axis.low))


@given(st.lists(st.floats(-10, 400) | st.sampled_from([math.nan, math.inf, -math.inf, 0.25, 300.0])))
def test_bins_are_those_of_root(values: list[float]) -> None:
    axis = Axis(30_000, 0.25, 300.0)
    assert axis.index(values).tolist() == [find_fix_bin(axis, x) for x in values]


def test_every_edge_falls_as_in_root() -> None:
    axis = Axis(30_000, 0.25, 300.0)
    assert axis.index(axis.edges).tolist() == [find_fix_bin(axis, x) for x in axis.edges]


def test_flow_bins_keep_what_lies_outside() -> None:
    filled = Filled(Histogram(Axis(2, 0.0, 2.0)))
    filled.fill([-1.0, 0.0, 0.5, 1.5, 2.0, math.nan])
    assert filled.sums.tolist() == [1.0, 2.0, 1.0, 2.0]
    assert filled.inside.tolist() == [2.0, 1.0]
    assert filled.entries == 6


def test_weights_fill_sums_and_squares() -> None:
    filled = Filled(Histogram(Axis(1, 0.0, 1.0)))
    filled.fill([0.5, 0.5], weight=[2.0, 3.0])
    filled.fill(0.5, weight=4.0)
    assert filled.inside.tolist() == [9.0]
    assert filled.squares[1] == 29.0


def test_two_axes() -> None:
    filled = Filled(Histogram(Axis(2, 0, 2), Axis(3, 0, 3)))
    filled.fill([0.5, 1.5, 1.5], [0.5, 2.5, 9.0])
    assert filled.inside.tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    assert filled.sums[2, 4] == 1.0


@given(st.lists(st.floats(-5, 15), max_size=60), st.integers(0, 60))
def test_merging_equals_filling_at_once(values: list[float], cut: int) -> None:
    histogram = Histogram(Axis(7, 0.0, 10.0))
    whole, first, second = Filled(histogram), Filled(histogram), Filled(histogram)
    whole.fill(values)
    first.fill(values[:cut])
    second.fill(values[cut:])
    first.add(second)
    assert np.array_equal(first.sums, whole.sums)
    assert first.entries == whole.entries


def test_what_does_not_fit_is_refused() -> None:
    filled = Filled(Histogram(Axis(2, 0, 2)))
    with pytest.raises(ValueError, match="1 axes and was filled with 2"):
        filled.fill([1.0], [1.0])
    with pytest.raises(ValueError, match="different lengths: 2, 1"):
        Filled(Histogram(Axis(2, 0, 2), Axis(2, 0, 2))).fill([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="low < high"):
        Axis(10, 5.0, 5.0)
    with pytest.raises(ValueError, match="one axis or two"):
        Histogram()
