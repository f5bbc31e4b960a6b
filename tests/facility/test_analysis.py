"""From a dataset of the lake to a plot and back: the commands that a physicist types."""

from __future__ import annotations

import json
import subprocess
import uuid
from pathlib import Path

import pytest
import uproot

from boathouse.analysis.samples import Sample, generate
from boathouse.errors import InputError
from boathouse.lake.lake import Lake
from boathouse.lake.names import Did
from boathouse.testing.box import Box

DIMUON = Path(__file__).parents[2] / "examples" / "analysis" / "dimuon.py"
REAL = Path(__file__).parents[3] / "shared" / "data" / "cms2012_dimuon_100k.root"
EVENTS = 60_000


@pytest.fixture(scope="module")
def dataset(lake_box: Box) -> Did:
    """Generated events in the lake."""
    made = generate(Sample(events=EVENTS, files=3, seed=9), lake_box.work / "analysis-samples")
    did = Did("cms", f"Analysis.{uuid.uuid4().hex[:8]}")
    lake_box.cli("import", *(file.path for file in made), "--to", str(did), "--qos", "FAST", user="alice")
    return did


@pytest.fixture(scope="module")
def result(lake_box: Box, dataset: Did) -> Path:
    """The result of the example on them."""
    directory = lake_box.work / "result"
    lake_box.cli("run", DIMUON, str(dataset), "--out", directory, "--site", "CNAF", "--workers", "2", user="alice")
    return directory


@pytest.fixture(scope="module")
def lake(lake_box: Box) -> Lake:
    return lake_box.login("alice")


def test_a2_readers_learn_where_files_are_from_the_catalogue(lake: Lake, dataset: Did, result: Path) -> None:
    read_from = json.loads((result / "record.json").read_text())["run"]["read_from"]
    offered = {url for file in lake.files(dataset, site="CNAF") for url in file.urls}
    assert len(read_from) == 3
    assert set(read_from) <= offered


def test_a110_a_dimuon_plot_from_lake_input_through_the_cache(lake: Lake, dataset: Did, result: Path) -> None:
    document = json.loads((result / "record.json").read_text())
    assert document["events"]["read"] == EVENTS
    assert document["events"]["cutflow"][0] == {"step": "all events", "events": EVENTS}
    assert {file["did"]: file["adler32"] for file in document["inputs"]["files"]} == {
        str(file.did): file.adler32 for file in lake.files(dataset)
    }
    cache = next(each for each in lake.endpoints.caches if each.site == "CNAF")
    assert all(url.startswith(cache.root) for url in document["run"]["read_from"])
    assert document["run"]["failed_urls"] == []
    assert (result / "dimuon_mass.png").read_bytes().startswith(b"\x89PNG")
    with uproot.open(result / "histograms.root") as file:
        assert file["dimuon_mass"].member("fEntries") == document["events"]["cutflow"][2]["events"]


def test_c9_the_same_job_gives_the_same_content(lake_box: Box, dataset: Did, result: Path, tmp_path: Path) -> None:
    again = lake_box.cli("run", DIMUON, str(dataset), "--out", tmp_path / "r", "--workers", "0", "--json", user="alice")
    first = json.loads((result / "record.json").read_text())
    second = json.loads(again.stdout)
    assert second["content"] == first["content"]
    assert second["result"] == first["result"]


def test_a_result_is_replaced_as_a_whole_and_nothing_else_is(lake_box: Box, tmp_path: Path) -> None:
    # cases run-1 run-2 run-3
    (sample,) = generate(Sample(events=2_000, files=1, seed=4), tmp_path / "samples")
    renamed = tmp_path / "renamed.py"
    renamed.write_text(DIMUON.read_text().replace("dimuon_mass", "pair_mass"))

    def run(analysis: Path, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        return lake_box.cli("run", analysis, sample.path, "--workers", "0", "--out", tmp_path / "r", check=check)

    run(DIMUON)
    assert "held another result" in run(renamed).stderr
    assert {path.name for path in (tmp_path / "r").glob("*.png")} == {"pair_mass.png"}
    (tmp_path / "r" / "notes.txt").write_text("mine")
    refused = run(DIMUON, check=False)
    assert refused.returncode == InputError.exit_code
    assert all(words in refused.stderr for words in ("other files are there", "notes.txt", "--out"))
    assert (tmp_path / "r" / "notes.txt").read_text() == "mine"
    assert (tmp_path / "r" / "pair_mass.png").exists()


def test_a112_results_go_back_with_their_lineage(lake_box: Box, lake: Lake, dataset: Did, result: Path) -> None:
    to = Did(dataset.scope, f"{dataset.name}.plots")
    done = json.loads(lake_box.cli("publish", result, "--to", str(to), "--json", user="alice").stdout)
    assert (done["dataset"], done["outcome"]) == (str(to), "published")
    files = {str(file.did): file for file in lake.files(to, prefer="replica")}
    assert set(files) == set(done["files"])
    assert len(files) == 5
    cheap = set(lake.catalogue.rses("QOS=CHEAP-ANALYSIS"))
    assert all(set(file.rses) <= cheap for file in files.values())
    inputs = {str(file.did): file.adler32 for file in lake.files(dataset)}
    for did in (str(to), *files):
        about = lake.metadata(Did.parse(did))
        assert about["inputs"] == inputs
        assert about["input_dataset"] == str(dataset)
        assert len(about["code_sha256"]) == 64
        assert about["environment"]["packages"]["uproot"]

    again = json.loads(lake_box.cli("publish", result, "--to", str(to), "--json", user="alice").stdout)
    assert again["outcome"] == "present"
    assert set(again["files"]) == set(files)


def test_a112_a_published_ntuple_is_the_one_that_was_made(lake_box: Box, result: Path, tmp_path: Path) -> None:
    to = f"cms:Ntuple.{uuid.uuid4().hex[:8]}"
    done = json.loads(lake_box.cli("publish", result, "--to", to, "--json", user="alice").stdout)
    (ntuple,) = (did for did in done["files"] if did.endswith("ntuple.root"))
    lake_box.cli("get", ntuple, "--to", tmp_path, user="alice")
    (copy,) = tmp_path.rglob("*ntuple.root")
    assert copy.read_bytes() == (result / "ntuple.root").read_bytes()


def test_a_changed_analysis_becomes_the_next_version(
    lake_box: Box, lake: Lake, dataset: Did, result: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "dimuon.py"
    changed.write_text(DIMUON.read_text().replace("30_000", "3_000"))
    to = f"cms:Versions.{uuid.uuid4().hex[:8]}"
    lake_box.cli("publish", result, "--to", to, user="alice")
    lake_box.cli("run", changed, str(dataset), "--out", tmp_path / "r", "--workers", "0", user="alice")
    done = json.loads(lake_box.cli("publish", tmp_path / "r", "--to", to, "--json", user="alice").stdout)
    assert done["dataset"] == f"{to}.v2"
    assert lake.metadata(Did.parse(to))["state"] == "complete"


def test_the_published_cut_flow_of_real_data(lake_box: Box, tmp_path: Path) -> None:
    if not REAL.exists():
        pytest.skip("the real file is not part of the project")
    did = f"cms:Real.{uuid.uuid4().hex[:8]}"
    lake_box.cli("import", REAL, "--to", did, "--qos", "FAST", user="alice")
    ran = lake_box.cli("run", DIMUON, did, "--out", tmp_path / "r", "--json", user="alice")
    assert [step["events"] for step in json.loads(ran.stdout)["events"]["cutflow"]] == [100_000, 48_976, 37_183]


def test_what_is_wrong_is_said_in_one_message(lake_box: Box, dataset: Did, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text(DIMUON.read_text().replace("    two = ", "    1 / 0\n    two = "))
    for arguments, status, words in (
        (("run", broken, str(dataset), "--out", tmp_path / "r"), 12, ("ZeroDivisionError", "broken.py, line 3")),
        (("run", DIMUON, "cms:no-such-dataset", "--out", tmp_path / "r"), 8, ("no-such-dataset", "not found")),
        (("run", tmp_path / "no.py", str(dataset), "--out", tmp_path / "r"), 2, ("no.py",)),
        (("publish", tmp_path, "--to", "cms:x"), 2, ("not a result",)),
        (("publish", tmp_path / "none", "--to", "cms:x"), 2, ("no such directory",)),
        (("run", DIMUON, str(dataset), "--site", "NOPE", "--out", tmp_path / "r"), 2, ("NOPE", "CERN, CNAF")),
        (("run", DIMUON, str(dataset), "--out", "/proc/r"), 2, ("cannot be written", "/proc/r", "--out")),
    ):
        failed = lake_box.cli(*arguments, user="alice", check=False)
        assert failed.returncode == status, failed.stderr
        assert all(word in failed.stderr for word in words), failed.stderr
        assert "Traceback" not in failed.stderr
    assert not (tmp_path / "r").exists()
