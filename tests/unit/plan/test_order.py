from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boathouse.plan.model import Probe, ProbeKind, Unit
from boathouse.plan.order import start_order


def unit(name: str, *needs: str) -> Unit:
    return Unit(
        name=name, title=name, command=("true",), probe=Probe(ProbeKind.command, command=("true",)), needs=needs
    )


def names(units: tuple[Unit, ...]) -> list[str]:
    return [each.name for each in units]


def test_needs_come_first_and_otherwise_the_given_order_is_kept() -> None:
    assert names(start_order([unit("c", "a"), unit("b"), unit("a")])) == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ([unit("a"), unit("a")], "two units of one name: a"),
        ([unit("a", "ghost")], "unit a needs ghost, which no driver plans"),
        ([unit("a", "b"), unit("b", "a")], "in a circle"),
    ],
)
def test_contradictions_of_drivers_are_named(units: list[Unit], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        start_order(units)


@given(
    st.integers(1, 12).flatmap(
        lambda n: st.tuples(st.just(n), st.sets(st.tuples(st.integers(0, 11), st.integers(0, 11))))
    )
)
def test_every_unit_comes_after_all_that_it_needs(case: tuple[int, set[tuple[int, int]]]) -> None:
    count, edges = case
    # Edges from higher to lower numbers only, so that there is no circle.
    needs = {n: sorted({low for high, low in edges if high == n and low < n}) for n in range(count)}
    ordered = names(start_order([unit(str(n), *map(str, needs[n])) for n in reversed(range(count))]))
    assert sorted(ordered) == sorted(map(str, range(count)))
    for n, below in needs.items():
        assert all(ordered.index(str(low)) < ordered.index(str(n)) for low in below)
