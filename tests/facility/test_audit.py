"""The audit finds what is lost, dark, cut or changed, says what to do, and does it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from boathouse.analysis.samples import Sample, make_file
from boathouse.errors import AuthError, PartialError
from boathouse.lake.audit import Finding, Kind, known_now, repair
from boathouse.lake.lake import OPERATOR, Lake
from boathouse.lake.names import Did
from boathouse.testing.box import Box
from boathouse.testing.wait import wait_for

RSE = "EULAKE-1"
COPY = "SARA-DCACHE"
RAW = "CNAF_CMS_TEMP"
"""It keeps paths."""


@pytest.fixture
def operator(lake_box: Box) -> Lake:
    return Lake.operator(lake_box.endpoints, lake_box.local.plan.layout.secret(f"client-{OPERATOR}"))


@pytest.fixture
def files(lake_box: Box, tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, str]:
    """URL at the RSE by name, of four files with a copy elsewhere."""
    paths = []
    for name in ("good", "lost", "cut", "rotten"):
        path = tmp_path / f"audit-{request.node.name}-{name}.dat".replace("[", "-").replace("]", "")
        path.write_bytes(os.urandom(5000))
        paths.append(path)
    lake = lake_box.login("alice")
    results = lake.put(paths, scope="testing", rse_expression=RSE)
    for result in results:
        (rule_id,) = lake.rules.add([result.did], COPY, account="alice")
        lake.rules.wait(rule_id, timeout_s=180)
    replicas = lake.catalogue.replicas([result.did for result in results], schemes=["https"], rse_expression=RSE)
    return {found.did.name.rpartition("-")[2].removesuffix(".dat"): next(iter(found.pfns)) for found in replicas}


def run(lake_box: Box, *arguments: str) -> tuple[int, dict[str, object]]:
    done = lake_box.cli("audit", "--rse", RSE, "--in-flight", "0", "--json", *arguments, check=False)
    return done.returncode, json.loads(done.stdout)


def settled(report: dict[str, object]) -> bool:
    """Whether all is well and nothing is being copied or deleted any more."""
    return bool(report["clean"]) and report["in_flight"] == 0


def test_a_clean_lake(lake_box: Box, files: dict[str, str]) -> None:
    # case audit-1
    status, report = run(lake_box, "--checksums")
    assert (status, report["clean"], report["findings"]) == (0, True, [])
    assert report["catalogued"] == report["stored"] == report["summed"]


def test_each_kind_of_damage_is_found_and_repaired(lake_box: Box, operator: Lake, files: dict[str, str]) -> None:
    # cases audit-2 audit-3 audit-4 audit-5 audit-7
    storage = operator.storage
    rotten = bytearray(b"".join(storage.get(files["rotten"])))
    rotten[17] ^= 1
    storage.delete(files["lost"])
    storage.put(files["cut"], b"short", 5, overwrite=True)
    storage.put(files["rotten"], bytes(rotten), len(rotten), overwrite=True)
    dark = files["good"].rpartition("/")[0] + "/nobody-knows.dat"
    storage.put(dark, b"dark", 4)

    status, report = run(lake_box, "--checksums")
    assert status == PartialError.exit_code
    found = {(str(item["kind"]), str(item["url"])): item for item in report["findings"]}  # type: ignore[attr-defined]
    assert set(found) == {
        ("lost", files["lost"]),
        ("size", files["cut"]),
        ("checksum", files["rotten"]),
        ("dark", dark),
    }
    assert f"boathouse audit --state {lake_box.state} --repair" in found["dark", dark]["remedy"]
    assert COPY in found["lost", files["lost"]]["remedy"]
    quick = run(lake_box)[1]
    assert {item["kind"] for item in quick["findings"]} == {"lost", "size", "dark"}  # type: ignore[attr-defined]
    text = lake_box.cli("audit", "--rse", RSE, "--in-flight", "0", check=False)
    assert text.returncode == PartialError.exit_code
    assert "disagree about 3 files" in text.stdout

    lake_box.cli("audit", "--rse", RSE, "--in-flight", "0", "--checksums", "--repair")
    wait_for(
        "the catalogue has replaced the bad replicas", lambda: settled(run(lake_box, "--checksums")[1]), timeout_s=120
    )
    for name in ("lost", "cut", "rotten"):
        stat = storage.stat(files[name])
        assert stat is not None, name
        assert stat.size_bytes == 5000


def test_young_unknown_files_are_taken_for_uploads(lake_box: Box, operator: Lake, files: dict[str, str]) -> None:
    # case audit-6
    young = files["good"].rpartition("/")[0] + "/young.dat"
    operator.storage.put(young, b"young", 5)
    done = lake_box.cli("audit", "--rse", RSE, "--json")
    report = json.loads(done.stdout)
    assert report["clean"]
    assert report["in_flight"] >= 1
    operator.storage.delete(young)


@pytest.mark.parametrize(("rse", "more"), [(RSE, ()), (RAW, ("--path", "raw"))])
def test_a_file_that_was_registered_meanwhile_is_not_deleted_as_dark(
    lake_box: Box, operator: Lake, tmp_path: Path, rse: str, more: tuple[str, ...]
) -> None:
    # case audit-5
    source = make_file(Sample(events=100, files=1, seed=5), 0, tmp_path).path
    to = f"testing:meanwhile-{rse}"
    lake_box.cli("import", source, "--to", to, "--rse", rse, "--prefix", f"{rse}/v2/", *more, user="alice")
    found = operator.catalogue.replicas([Did.parse(to)], schemes=["https"], rse_expression=rse)
    (url,) = (url for replicas in found for url in replicas.pfns)
    beside = url.rpartition("/")[0] + "/nobody-knows.dat"
    operator.storage.put(beside, b"dark", 4)
    path, dark = (urlsplit(each).path for each in (url, beside))
    assert known_now(operator.catalogue, operator.catalogue.rse(rse), [path, dark]) == {path}

    listed_before = [Finding(Kind.dark, rse, each, "", "no file", "4 bytes", "") for each in (url, beside)]
    assert repair(operator, listed_before) == 1
    assert operator.storage.stat(url) is not None
    assert operator.storage.stat(beside) is None


def test_a_file_that_the_catalogue_keeps_from_its_readers(lake_box: Box, operator: Lake, files: dict[str, str]) -> None:
    # cases audit-7 audit-8
    names = {name: url.rpartition("/")[2] for name, url in files.items()}
    rotten = bytearray(b"".join(operator.storage.get(files["rotten"])))
    rotten[17] ^= 1
    operator.storage.put(files["rotten"], bytes(rotten), len(rotten), overwrite=True)
    held = ("good", "rotten")
    states = [{"scope": "testing", "name": names[name], "state": "C"} for name in held]
    operator.catalogue.rest.call("PUT", "/replicas", {"rse": RSE, "files": states})

    young = json.loads(lake_box.cli("audit", "--rse", RSE, "--json").stdout)
    assert young["clean"]
    assert young["in_flight"] >= len(held)
    status, report = run(lake_box)
    assert status == PartialError.exit_code
    found = {item["url"]: item for item in report["findings"]}  # type: ignore[attr-defined]
    assert {(url, item["kind"], item["got"]) for url, item in found.items()} == {
        (files[name], "withheld", "COPYING, and 5000 bytes") for name in held
    }
    assert "--repair, which reads the file" in found[files["good"]]["remedy"]

    lake_box.cli("audit", "--rse", RSE, "--in-flight", "0", "--repair")
    good = [Did("testing", names["good"])]
    (replicas,) = operator.catalogue.replicas(good, all_states=True)
    assert replicas.at(RSE) == "AVAILABLE"
    wait_for(
        "the catalogue has replaced the rotten file", lambda: settled(run(lake_box, "--checksums")[1]), timeout_s=120
    )


def test_only_the_operator_may_audit(lake_box: Box, tmp_path: Path) -> None:
    with pytest.raises(AuthError, match="secret cannot be read"):
        Lake.operator(lake_box.endpoints, tmp_path / "none")
