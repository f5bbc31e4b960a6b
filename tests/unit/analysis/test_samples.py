from __future__ import annotations

import hashlib
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from boathouse.analysis import rootwrite
from boathouse.analysis.collisions import MUON_MASS_GEV, Uniforms, muons, shorten
from boathouse.analysis.physics import FourMomenta
from boathouse.analysis.samples import BRANCHES, Sample, make_file
from boathouse.errors import InputError
from boathouse.lake.rootfile import check

SHA256 = "d08e5bd9843347043e8bedd7fd29787b2debddcf01e6ff089b4e6b27c5def137"
"""Of the file below. If it changes, so does every file that anybody has generated: raise samples.FORMAT."""

REAL_TYPES = {
    "run": "uint32_t",
    "luminosityBlock": "uint32_t",
    "event": "uint64_t",
    "HLT_IsoMu24": "bool",
    "PV_npvs": "int32_t",
    "PV_x": "float",
    "PV_y": "float",
    "PV_z": "float",
    "MET_pt": "float",
    "MET_phi": "float",
    "nMuon": "uint32_t",
    "Muon_pt": "float[]",
    "Muon_eta": "float[]",
    "Muon_phi": "float[]",
    "Muon_mass": "float[]",
    "Muon_charge": "int32_t[]",
    "Muon_pfRelIso04_all": "float[]",
    "Muon_tightId": "bool[]",
    "Muon_dxy": "float[]",
    "Muon_dz": "float[]",
}
"""As uproot shows them for CMS's Run2018A DoubleMuon NanoAODv6."""

REAL_FILES = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_file(Sample(events=40_000, files=2, seed=7), 1, tmp_path_factory.mktemp("sample")).path


def test_the_bytes_are_those_that_everybody_gets(sample: Path) -> None:
    assert hashlib.sha256(sample.read_bytes()).hexdigest() == SHA256


def test_the_file_is_whole(sample: Path) -> None:
    assert check(sample).compression == "ZSTD 5"


def test_branches_have_the_types_of_real_files(sample: Path) -> None:
    with uproot.open(sample) as file:
        assert {branch.name: branch.typename for branch in file["Events"].branches} == REAL_TYPES
        leaves = {branch.name: branch.title for branch in file["Events"].branches}
    assert leaves["nMuon"] == "nMuon/i"
    assert leaves["Muon_pt"] == "Muon_pt[nMuon]/F"


def test_types_agree_with_the_real_file_at_hand() -> None:
    path = REAL_FILES / "cms2018_nanoaod_dimuon_40.root"
    if not path.exists():
        pytest.skip("the real file is not part of the project")
    with uproot.open(path) as file:
        real = {branch.name: branch.typename for branch in file["Events"].branches}
    assert {name: real[name] for name in REAL_TYPES} == REAL_TYPES


def test_counters_count_and_muons_are_in_order(sample: Path) -> None:
    with uproot.open(sample) as file:
        tree = file["Events"]
        events = tree.arrays()
        assert tree.num_entries == 20_000
        assert tree.member("fAutoFlush") == 125_000
    assert set(events.fields) == {*BRANCHES, "nMuon"}
    assert ak.all(ak.num(events.Muon_pt) == events.nMuon)
    assert ak.all(events.Muon_pt[:, :-1] >= events.Muon_pt[:, 1:])
    assert ak.min(events.Muon_pt) > 3.0 - 1e-3
    assert set(np.unique(ak.to_numpy(ak.flatten(events.Muon_charge)))) == {-1, 1}
    assert events.event.to_list() == list(range(20_000, 40_000))


def test_peaks_are_where_they_belong() -> None:
    seen = muons(Uniforms(1, 2, 3), 300_000)
    first = np.cumsum(seen.counts) - seen.counts
    two = first[seen.counts == 2]
    pairs = two[seen.charge[two] != seen.charge[two + 1]]
    one, other = (
        FourMomenta.from_pt_eta_phi_mass(seen.pt[i], seen.eta[i], seen.phi[i], MUON_MASS_GEV)
        for i in (pairs, pairs + 1)
    )
    mass = (one + other).mass
    for peak, window, expected_gev, within_gev in (
        ("J/psi", (2.9, 3.3), 3.0969, 0.005),
        ("Y(1S)", (9.2, 9.7), 9.4604, 0.02),
        ("Z", (80.0, 102.0), 91.188, 0.3),
    ):
        inside = mass[(mass > window[0]) & (mass < window[1])]
        assert abs(np.median(inside) - expected_gev) < within_gev, peak
        assert len(inside) > 1000, peak
    assert 0.40 < np.mean(seen.counts == 2) < 0.55


def test_shortening_keeps_the_asked_precision() -> None:
    values = np.random.default_rng(0).normal(size=1000) * 10.0 ** np.arange(-5, 5).repeat(100)
    for bits in (10, 14):
        short = shorten(values, bits)
        assert np.all(np.abs(short - values) <= np.abs(values) * 2.0 ** -(bits + 1) * 1.0001)
        assert len(np.unique(np.frexp(short)[0])) <= 2 ** (bits + 1) + 1


def test_names_tell_what_the_content_depends_on() -> None:
    sample = Sample(events=10, files=3, seed=5)
    assert [sample.events_in(index) for index in range(3)] == [4, 3, 3]
    assert sample.name(0) == "dimuon_v1_s5_4_000.root"
    with pytest.raises(InputError, match="spread"):
        Sample(events=2, files=3)


def test_a_trees_bytes_do_not_depend_on_place_or_time(tmp_path: Path) -> None:
    contents = []
    for directory in ("one", "two"):
        path = tmp_path / directory / "same.root"
        path.parent.mkdir()
        with rootwrite.recreate(path) as file:
            rootwrite.add_tree(
                file,
                "t",
                {"x": rootwrite.Branch("int32", "n"), "y": rootwrite.Branch("float64")},
                [{"x": rootwrite.Jagged(np.array([2, 0]), np.array([7, 8])), "y": np.array([0.5, 1.5])}],
                cluster_entries=2,
            )
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]
    with uproot.open(tmp_path / "one" / "same.root") as file:
        assert file["t"]["x"].array().to_list() == [[7, 8], []]
        assert file["t"]["n"].array().to_list() == [2, 0]
        assert file["t"]["y"].array().to_list() == [0.5, 1.5]
