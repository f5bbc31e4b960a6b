"""Datasets and containers that are called as in CMS, with a slash before the name, on their whole way."""

from __future__ import annotations

import json
import subprocess
import uuid
from pathlib import Path

import pytest

from boathouse.analysis.samples import Sample, generate
from boathouse.errors import InputError
from boathouse.lake.names import Did
from boathouse.testing.box import Box

DIMUON = Path(__file__).parents[2] / "examples" / "analysis" / "dimuon.py"
EVENTS = 4_000


def run(lake_box: Box, *words: str | Path) -> str:
    return lake_box.cli(*words, user="alice").stdout


def stock(lake_box: Box, *words: str | Path) -> str:
    """What the stock client says."""
    environment = lake_box.env("alice")
    done = subprocess.run(["rucio", *map(str, words)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
    return done.stdout


def new_name() -> Did:
    """Such a name, for a dataset that is not there yet."""
    return Did("cms", f"/DoubleMuon/Run2016B-{uuid.uuid4().hex[:8]}/NANOAOD")


@pytest.fixture(scope="module")
def dataset(lake_box: Box) -> Did:
    """Generated events in a dataset of such a name."""
    made = generate(Sample(events=EVENTS, files=2, seed=5), lake_box.work / "names-samples")
    did = new_name()
    run(lake_box, "import", *(file.path for file in made), "--to", str(did), "--qos", "FAST")
    return did


def test_it_is_found_and_copied(lake_box: Box, dataset: Did) -> None:
    # case name-2
    assert str(dataset) in {line["did"] for line in json.loads(run(lake_box, "ls", dataset.scope, "--json"))}
    files = {line["did"] for line in json.loads(run(lake_box, "ls", str(dataset), "--json"))}
    assert len(files) == 2
    assert files == {line["did"] for line in json.loads(run(lake_box, "ls", "--replicas", str(dataset), "--json"))}
    rule = json.loads(run(lake_box, "rule", "add", str(dataset), "QOS=SAFE", "--wait", "--json"))
    assert rule["state"] == "OK"
    assert rule["id"] in {line["id"] for line in json.loads(run(lake_box, "rule", "list", str(dataset), "--json"))}


def test_a_second_import_adds_to_it(lake_box: Box, tmp_path: Path) -> None:
    # case name-2
    did = new_name()
    first, more = (file.path for file in generate(Sample(events=1_000, files=2, seed=6), tmp_path))
    for path in (first, more, more):
        run(lake_box, "import", path, "--to", str(did), "--qos", "FAST")
    found = {info.did.name for info in lake_box.login("alice").catalogue.content(did)}
    assert found == {first.name, more.name}


def test_it_is_analysed_and_takes_results(lake_box: Box, dataset: Did, tmp_path: Path) -> None:
    # cases name-2 name-5
    shown = run(lake_box, "run", DIMUON, str(dataset), "--workers", "0", "--out", tmp_path / "r", "--json")
    document = json.loads(shown)
    assert (document["inputs"]["dataset"], document["events"]["read"]) == (str(dataset), EVENTS)
    to = Did(dataset.scope, f"{dataset.name}.plots")
    for outcome in ("published", "present"):
        done = json.loads(run(lake_box, "publish", tmp_path / "r", "--to", str(to), "--json"))
        assert (done["dataset"], done["outcome"]) == (str(to), outcome)
    stem = f"{to.scope}:{to.name.removeprefix('/')}."
    assert all(did.startswith(stem) for did in done["files"])
    run(lake_box, "get", str(to), "--to", tmp_path / "copy")
    names = {path.name for path in (tmp_path / "copy").iterdir()}
    assert "NANOAOD.plots.dimuon_mass.png" in names


def test_the_stock_client_knows_it(lake_box: Box, dataset: Did, tmp_path: Path) -> None:
    # case name-2
    assert dataset.name in stock(lake_box, "did", "show", str(dataset))
    pattern = f"{dataset.scope}:/DoubleMuon/{dataset.name.split('/')[2]}/*"
    assert str(dataset) in stock(lake_box, "did", "list", "--short", "--filter", "type=all", pattern)
    files = {str(info.did) for info in lake_box.login("alice").catalogue.content(dataset)}
    listed = stock(lake_box, "did", "content", "list", str(dataset))
    assert all(file in listed for file in files)
    container = f"cms:/DoubleMuon/{uuid.uuid4().hex[:8]}/NANOAOD"
    stock(lake_box, "did", "add", "--type", "container", container)
    stock(lake_box, "did", "content", "add", "--to-did", container, str(dataset))
    assert str(dataset) in stock(lake_box, "did", "content", "list", container)
    rule = stock(lake_box, "rule", "add", container, "--copies", "1", "--rses", "QOS=FAST").split()[-1]
    assert container.partition(":")[2] in stock(lake_box, "rule", "show", rule)
    stock(lake_box, "download", "--dir", tmp_path, str(dataset))
    got = {path.name for path in (tmp_path / dataset.name.removeprefix("/")).iterdir()}
    assert got == {file.partition(":")[2] for file in files}


def test_a_file_may_not_be_called_so(lake_box: Box, tmp_path: Path) -> None:
    # case name-3
    (tmp_path / "a.txt").write_text("a")
    refused = lake_box.cli("put", tmp_path / "a.txt", "--name", "/a.txt", "--qos", "FAST", user="alice", check=False)
    assert refused.returncode == InputError.exit_code
    assert "its path is made of it" in refused.stderr


def test_a_file_takes_the_name_that_is_given_for_its_own(lake_box: Box, tmp_path: Path) -> None:
    (tmp_path / "a b.txt").write_text("a")
    put = ("put", tmp_path / "a b.txt", "--scope", "testing", "--qos", "FAST")
    refused = lake_box.cli(*put, user="alice", check=False)
    assert refused.returncode == InputError.exit_code
    assert "--name a_b.txt" in refused.stderr
    name = f"a-b-{uuid.uuid4().hex[:8]}.txt"
    assert f"; as testing:{name}; at " in run(lake_box, *put, "--name", name)
