from __future__ import annotations

import json
from pathlib import Path

import boost_histogram as bh
import numpy as np
import uproot
from boost_histogram.serialization import from_uhi

from boathouse.analysis.histograms import Axis, Filled, Histogram
from boathouse.results.files import write_histograms_json, write_histograms_root, write_ntuple
from boathouse.results.plots import draw

CUTFLOW = {"all": 10, "some": 4}


def one(*, weighted: bool = False) -> Filled:
    filled = Filled(Histogram(Axis(100, 0.5, 10.0, "$m$", "GeV"), title="One", logarithmic=True, marks={3.1: "J"}))
    values = np.random.default_rng(1).exponential(2.0, 5_000)
    filled.fill(values, weight=values if weighted else None)
    return filled


def two() -> Filled:
    filled = Filled(Histogram(Axis(4, 0, 4, "x"), Axis(3, 0, 3, "y"), title="Two"))
    filled.fill([0.5, 1.5, 1.5, 9.0], [0.5, 2.5, 2.5, 1.5])
    return filled


def test_root_histograms_read_back(tmp_path: Path) -> None:
    histograms = {"one": one(), "weighted": one(weighted=True), "two": two()}
    write_histograms_root(tmp_path / "h.root", histograms, CUTFLOW)
    with uproot.open(tmp_path / "h.root") as file:
        assert file.classnames(cycle=False) == {"one": "TH1D", "weighted": "TH1D", "two": "TH2D", "cutflow": "TH1D"}
        for name, filled in histograms.items():
            assert np.array_equal(file[name].values(flow=True), filled.sums)
            assert np.array_equal(file[name].variances(flow=True), filled.squares)
            assert file[name].member("fEntries") == filled.entries
            assert file[name].title == filled.histogram.title
        assert file["one"].axis().member("fTitle") == "$m$ [GeV]"
        assert file["cutflow"].axis().labels() == list(CUTFLOW)
        assert file["cutflow"].values().tolist() == [10.0, 4.0]


def test_json_histograms_are_read_by_the_fields_library(tmp_path: Path) -> None:
    histograms = {"one": one(), "weighted": one(weighted=True), "two": two()}
    write_histograms_json(tmp_path / "h.json", histograms, CUTFLOW)
    document = json.loads((tmp_path / "h.json").read_text())
    assert document["cutflow"] == [{"step": "all", "events": 10}, {"step": "some", "events": 4}]
    for name, filled in histograms.items():
        read = bh.Histogram(from_uhi(document["histograms"][name]))
        assert np.array_equal(read.values(flow=True), filled.sums)
        assert np.allclose(read.variances(flow=True), filled.squares)
        assert np.allclose(read.axes[0].edges, filled.histogram.axes[0].edges)


def test_an_ntuple_reads_back(tmp_path: Path) -> None:
    columns = {"mass": np.arange(450_000, dtype=np.float32), "n": np.arange(450_000, dtype=np.int32)}
    write_ntuple(tmp_path / "n.root", columns, "Pairs")
    with uproot.open(tmp_path / "n.root") as file:
        tree = file["Pairs"]
        assert tree.num_entries == 450_000
        assert tree.common_entry_offsets() == [0, 200_000, 400_000, 450_000]
        for name, values in columns.items():
            assert np.array_equal(tree[name].array(library="np"), values)


def test_an_empty_ntuple_is_a_tree_without_entries(tmp_path: Path) -> None:
    write_ntuple(tmp_path / "n.root", {"mass": np.empty(0, np.float32)})
    with uproot.open(tmp_path / "n.root") as file:
        assert file["Events"].num_entries == 0


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    made = []
    for name in ("a", "b"):
        directory = tmp_path / name
        directory.mkdir()
        write_histograms_root(directory / "h.root", {"one": one(), "two": two()}, CUTFLOW)
        write_histograms_json(directory / "h.json", {"one": one(), "two": two()}, CUTFLOW)
        write_ntuple(directory / "n.root", {"x": np.arange(10.0)})
        draw(one(), directory / "one.png", note="a note")
        draw(two(), directory / "two.png")
        made.append({path.name: path.read_bytes() for path in sorted(directory.iterdir())})
    assert made[0] == made[1]
    assert all(content[:4] == b"\x89PNG" for name, content in made[0].items() if name.endswith(".png"))


def test_empty_histograms_are_drawn(tmp_path: Path) -> None:
    draw(Filled(one().histogram), tmp_path / "one.png")
    draw(Filled(two().histogram), tmp_path / "two.png")
    assert (tmp_path / "one.png").stat().st_size > 1000
