from __future__ import annotations

import itertools

import awkward as ak
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boathouse.analysis.events import Events


def events(lists: list[list[float]]) -> Events:
    jagged = ak.values_astype(ak.Array([*lists, [0.0]])[:-1], "float32")
    return Events({"n": np.array([len(each) for each in lists]), "x": jagged}, count=len(lists))


@given(st.lists(st.lists(st.floats(-9, 9, width=32), max_size=4), max_size=20), st.data())
def test_choosing_twice_is_choosing_from_what_was_chosen(lists: list[list[float]], data: st.DataObject) -> None:
    masks = st.lists(st.booleans(), min_size=len(lists), max_size=len(lists))
    first = np.array(data.draw(masks), dtype=bool)
    chosen = [each for each, kept in zip(lists, first, strict=True) if kept]
    second = np.array([len(each) > 1 for each in chosen], dtype=bool)
    twice = events(lists)[first][second]
    expected = [each for each in chosen if len(each) > 1]
    assert len(twice) == len(expected)
    assert twice["n"].tolist() == [len(each) for each in expected]
    assert twice.nth("x", 1).tolist() == [each[1] for each in expected]
    offsets, values = twice.jagged("x")
    assert [values[a:b].tolist() for a, b in itertools.pairwise(offsets)] == expected
    assert twice.awkward()["x"].tolist() == expected


def test_a_jagged_column_of_all_events() -> None:
    offsets, values = events([[1.0], [], [2.0, 3.0]]).jagged("x")
    assert offsets.tolist() == [0, 1, 1, 3]
    assert values.tolist() == [1.0, 2.0, 3.0]


def test_mistakes_say_what_to_do() -> None:
    some = events([[1.0], []])
    with pytest.raises(KeyError, match="add it to columns"):
        some["y"]
    with pytest.raises(ValueError, match=r"use nth\(\)"):
        some["x"]
    with pytest.raises(ValueError, match="one value an event"):
        some.nth("n", 0)
    with pytest.raises(ValueError, match="fewer than 1 values of x"):
        some.nth("x", 0)
    with pytest.raises(ValueError, match="boolean mask of 2 events"):
        some[np.array([True])]
    assert some.columns == ("n", "x")
