from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from boathouse.analysis.chunks import split


@given(st.integers(0, 5000), st.lists(st.integers(0, 5000)), st.integers(1, 700))
def test_chunks_cover_every_entry_once(entries: int, clusters: list[int], wanted: int) -> None:
    chunks = split(entries, clusters, wanted)
    assert sum(stop - start for start, stop in chunks) == entries
    position = 0
    for start, stop in chunks:
        assert start == position < stop
        position = stop


@given(st.integers(1, 5000), st.lists(st.integers(0, 5000)), st.integers(1, 700))
def test_chunks_are_neither_tiny_nor_huge(entries: int, clusters: list[int], wanted: int) -> None:
    sizes = [stop - start for start, stop in split(entries, clusters, wanted)]
    assert all(size >= wanted for size in sizes[:-1])
    assert all(size < 2 * wanted for size in sizes)


def test_chunks_end_with_clusters_where_these_are_small() -> None:
    assert split(1000, range(0, 1001, 90), 200) == ((0, 270), (270, 540), (540, 810), (810, 1000))


def test_one_large_cluster_is_cut() -> None:
    assert split(1000, (0, 1000), 300) == ((0, 300), (300, 600), (600, 1000))


def test_an_empty_file_has_no_chunk() -> None:
    assert split(0, (0,), 100) == ()
