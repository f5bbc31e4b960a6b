"""The nearest name to a misspelt one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boathouse.facility.faults import nearest

_KNOWN = ("qos", "capacity", "prefix", "protocols", "address", "vo")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("capcity", "capacity"),
        ("CAPACITY", "capacity"),
        ("prot", "protocols"),
        ("adress", "address"),
        ("ov", "vo"),
        ("colour", None),
        ("", None),
        ("x", None),
    ],
)
def test_nearest(word: str, expected: str | None) -> None:
    assert nearest(word, _KNOWN) == expected


@given(st.sampled_from(_KNOWN))
def test_a_name_is_nearest_to_itself(name: str) -> None:
    assert nearest(name, _KNOWN) == name


def test_among_no_names_none_is_near() -> None:
    assert nearest("qos", ()) is None
