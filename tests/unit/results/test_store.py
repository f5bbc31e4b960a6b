from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from boathouse.errors import InputError, StorageError
from boathouse.lake.names import Did
from boathouse.plan.model import Endpoints, StorageEndpoint
from boathouse.results import record
from boathouse.results.store import lineage, publish

PLOTS = Did("cms", "DoubleMu.plots")
# Column names of Rucio 41, which custom metadata may not use (rucio.common.constants, models.DataIdentifier).
COLUMNS = {
    *("scope", "name", "account", "did_type", "is_open", "monotonic", "obsolete", "complete", "availability"),
    *("suppressed", "bytes", "length", "md5", "adler32", "rule_evaluation_action", "rule_evaluation_required"),
    *("expired_at", "deleted_at", "created_at", "updated_at", "events", "guid", "project", "datatype", "run_number"),
    *(
        "stream_name",
        "prod_step",
        "version",
        "campaign",
        "task_id",
        "panda_id",
        "lumiblocknr",
        "provenance",
        "phys_group",
    ),
    *("transient", "is_new", "is_archive", "constituent", "access_cnt", "purge_replicas", "eol_at", "closed_at"),
}


def result(directory: Path, text: str, *, user: str = "alice") -> Path:
    """A result directory with one file."""
    directory.mkdir()
    (directory / "plot.png").write_text(text)
    document: dict[str, Any] = {
        "format": 1,
        "inputs": {
            "dataset": "cms:DoubleMu",
            "sha256": "11",
            "files": [{"did": "cms:a.root", "size_bytes": 5, "adler32": "0000000a"}],
        },
        "code": {"file": "dimuon.py", "sha256": "22"},
        "environment": {"python": "3.13.0"},
        "events": {"read": 7, "cutflow": []},
        "result": {"plot.png": record._describe(directory / "plot.png")},
        "run": {"user": user},
    }
    document["content"] = record.content_hash(document)
    document["sha256"] = record.self_hash(document)
    (directory / record.FILE_NAME).write_bytes(record.canonical(document))
    return directory


def facility(*labels: str) -> Endpoints:
    """A facility with storage of these qualities of service."""
    storage = tuple(
        StorageEndpoint(f"SE-{label}", "CERN", label, True, "/lake", "https://x:1", "root://x:2", "x")
        for label in labels
    )
    return Endpoints("small", "cms", "https://i", "https://c", "https://t", "/ca.pem", storage=storage)


class Shelf:
    """Keeps datasets in memory, with the part of a lake's face that publishing uses."""

    def __init__(self) -> None:
        self.about: dict[Did, dict[str, object]] = {}
        self.members: dict[Did, list[Did]] = {}
        self.puts: list[tuple[str, str]] = []
        self.broken = False
        self.catalogue = self
        self.endpoints = facility("CHEAP-ANALYSIS", "SAFE")

    def known(self, dids: list[Did]) -> dict[Did, object]:
        return {did: did for did in dids if did in self.members}

    def metadata(self, did: Did) -> dict[str, object]:
        return self.about.get(did, {})

    def set_metadata(self, did: Did, values: dict[str, object]) -> None:
        assert not COLUMNS & set(values)
        self.about.setdefault(did, {}).update(json.loads(json.dumps(values)))

    def ensure_dataset(self, did: Did) -> None:
        self.members.setdefault(did, [])

    def content(self, did: Did) -> list[Any]:
        return [_Named(member) for member in self.members[did]]

    def put(self, paths, *, scope, dataset, rse_expression, names, metadata, progress) -> list[Any]:
        for number, path in enumerate(paths):
            if self.broken and number == 1:
                raise StorageError("the storage is down")
            did = Did(scope, names[str(path)])
            if did not in self.members[dataset]:
                self.members[dataset].append(did)
                self.puts.append((str(did), rse_expression))
                self.set_metadata(did, metadata)
        return self.content(dataset)


class _Named:
    def __init__(self, did: Did) -> None:
        self.did = did


def test_a_result_is_published_with_its_lineage(tmp_path: Path) -> None:
    lake = Shelf()
    done = publish(lake, result(tmp_path / "r", "one"), PLOTS)
    assert (done.dataset, done.outcome) == (PLOTS, "published")
    assert done.files[0] == Did("cms", "DoubleMu.plots.plot.png")
    assert done.files[1].name.startswith("DoubleMu.plots.record-")
    assert {expression for _, expression in lake.puts} == {"QOS=CHEAP-ANALYSIS"}
    for did in (PLOTS, *done.files):
        assert lake.about[did]["inputs"] == {"cms:a.root": "0000000a"}
        assert lake.about[did]["code_sha256"] == "22"
        assert lake.about[did]["environment"] == {"python": "3.13.0"}
    assert lake.about[PLOTS]["state"] == "complete"


@pytest.mark.parametrize(("qos", "got"), [(None, "CHEAP-ANALYSIS, which is the default"), ("FASTER", "FASTER")])
def test_a_label_that_no_storage_has_is_refused_at_once(tmp_path: Path, qos: str | None, got: str) -> None:
    lake = Shelf()
    lake.endpoints = facility("SAFE", "FAST")
    with pytest.raises(InputError, match="small has no storage") as caught:
        publish(lake, result(tmp_path / "r", "one"), PLOTS, **({"qos": qos} if qos else {}))
    assert (caught.value.expected, caught.value.got) == ("one of FAST, SAFE", got)
    assert "--qos" in str(caught.value.remedy)
    assert (lake.members, lake.puts) == ({}, [])


def test_the_same_content_is_published_once(tmp_path: Path) -> None:
    lake = Shelf()
    first = publish(lake, result(tmp_path / "a", "one"), PLOTS)
    puts = list(lake.puts)
    again = publish(lake, result(tmp_path / "b", "one", user="bob"), PLOTS)
    assert again.outcome == "present"
    assert again.files == first.files
    assert lake.puts == puts


def test_other_content_becomes_the_next_version(tmp_path: Path) -> None:
    lake = Shelf()
    publish(lake, result(tmp_path / "a", "one"), PLOTS)
    second = publish(lake, result(tmp_path / "b", "two"), PLOTS, qos="SAFE")
    third = publish(lake, result(tmp_path / "c", "three"), PLOTS)
    assert second.dataset == Did("cms", "DoubleMu.plots.v2")
    assert third.dataset == Did("cms", "DoubleMu.plots.v3")
    assert second.files[0] == Did("cms", "DoubleMu.plots.v2.plot.png")
    assert publish(lake, tmp_path / "b", PLOTS).outcome == "present"


def test_an_interrupted_publication_goes_on(tmp_path: Path) -> None:
    lake = Shelf()
    lake.broken = True
    with pytest.raises(StorageError):
        publish(lake, result(tmp_path / "a", "one"), PLOTS)
    lake.broken = False
    done = publish(lake, tmp_path / "a", PLOTS)
    assert (done.dataset, done.outcome) == (PLOTS, "published")
    assert len(done.files) == 2


def test_an_empty_dataset_is_taken_and_a_foreign_one_is_not(tmp_path: Path) -> None:
    lake = Shelf()
    lake.ensure_dataset(PLOTS)
    assert publish(lake, result(tmp_path / "a", "one"), PLOTS).dataset == PLOTS
    other = Did("cms", "data")
    lake.members[other] = [Did("cms", "raw.root")]
    assert publish(lake, result(tmp_path / "b", "one"), other).dataset == Did("cms", "data.v2")


def test_files_of_a_dataset_whose_name_begins_with_a_slash_have_paths(tmp_path: Path) -> None:
    # case name-5
    done = publish(Shelf(), result(tmp_path / "a", "one"), Did("cms", "/DoubleMu/plots"))
    assert str(done.dataset) == "cms:/DoubleMu/plots"
    assert [did.checked_file().name.partition(".")[0] for did in done.files] == ["DoubleMu/plots"] * 2


def test_datasets_that_differ_by_the_first_slash_have_files_of_the_same_names(tmp_path: Path) -> None:
    # case name-6
    lake, made = Shelf(), result(tmp_path / "a", "one")
    one, other = (publish(lake, made, Did("cms", name)) for name in ("/DoubleMu/plots", "DoubleMu/plots"))
    assert one.dataset != other.dataset
    assert one.outcome == other.outcome == "published"
    assert one.files == other.files


def test_lineage_is_plain_json(tmp_path: Path) -> None:
    document = record.load(result(tmp_path / "a", "one"))
    assert json.loads(json.dumps(lineage(document))) == lineage(document)


def test_a_result_does_not_go_into_its_own_input(tmp_path: Path) -> None:
    lake = Shelf()
    with pytest.raises(InputError, match="does not go into the dataset that it was made from"):
        publish(lake, result(tmp_path / "r", "one"), Did("cms", "DoubleMu"))
    assert lake.members == {}
