"""The cases of docs/behaviour.md that no other test of this folder tries."""

from __future__ import annotations

import os
import threading
import time
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from boathouse.checksums import Adler32
from boathouse.errors import BoathouseError, ChecksumError, ConflictError, InputError
from boathouse.lake.catalogue import Registration
from boathouse.lake.http import Http
from boathouse.lake.lake import OPERATOR, Lake
from boathouse.lake.names import Did, hash_path
from boathouse.lake.sources import WebSource
from boathouse.lake.upload import Item, Order
from boathouse.testing.box import Box
from boathouse.testing.wait import wait_for

RSE = "CNAF-STORM"
UNIT = "se-cnaf-storm"


@pytest.fixture
def lake(lake_box: Box) -> Lake:
    return lake_box.login("alice")


@pytest.fixture
def operator(lake_box: Box) -> Lake:
    return Lake.operator(lake_box.endpoints, lake_box.local.plan.layout.secret(f"client-{OPERATOR}"))


@pytest.fixture
def file(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / f"{zlib.crc32(request.node.nodeid.encode()):08x}.dat"
    path.write_bytes(os.urandom(10_000))
    return path


def url_of(lake: Lake, file: Path) -> str:
    return f"{lake.catalogue.rse(RSE).base('write')}/{hash_path(Did('cms', file.name))}"


def test_an_old_torso_is_written_again(lake_box: Box, lake: Lake, file: Path) -> None:
    # case import-3
    url = url_of(lake, file)
    lake.storage.put(url, b"half a fi", 9)
    on_disk = next((lake_box.local.plan.layout.data / UNIT).rglob(file.name))
    os.utime(on_disk, (time.time() - 120, time.time() - 120))
    (result,) = lake.put([file], scope="cms", rse_expression=RSE)
    assert result.outcome == "uploaded"
    assert b"".join(lake.storage.get(url)) == file.read_bytes()


def test_a_young_stranger_is_waited_for_and_wins_when_it_registers(lake: Lake, file: Path) -> None:
    # case import-4
    body = b"another import's bytes"
    url = url_of(lake, file)
    lake.storage.put(url, body, len(body))
    caught: list[BoathouseError] = []

    def upload() -> None:
        try:
            lake.put([file], scope="cms", rse_expression=RSE)
        except BoathouseError as error:
            caught.append(error)

    thread = threading.Thread(target=upload)
    thread.start()
    try:
        lake.catalogue.register(
            RSE, [Registration(Did("cms", file.name), len(body), Adler32(body).hexdigest())], dataset=None
        )
    finally:
        thread.join(timeout=300)
    assert [type(error) for error in caught] == [ConflictError]
    assert b"".join(lake.storage.get(url)) == body


def test_a_replica_that_was_never_finished_is_finished(lake: Lake, file: Path) -> None:
    # case import-7
    body = file.read_bytes()
    entry = {"scope": "cms", "name": file.name, "bytes": len(body), "adler32": Adler32(body).hexdigest(), "state": "C"}
    lake.catalogue.rest.call("POST", "/replicas", {"rse": RSE, "files": [entry]})
    (result,) = lake.put([file], scope="cms", rse_expression=RSE)
    assert result.outcome == "uploaded"
    (known,) = lake.catalogue.replicas([result.did], all_states=True)
    assert known.states == {RSE: "AVAILABLE"}


def test_a_replica_that_is_being_deleted_is_waited_out(lake: Lake, lake_box: Box, file: Path) -> None:
    """An import that comes while the same file is on its way out must not lose it to the deletion."""
    (first,) = lake.put([file], scope="cms", rse_expression=RSE)
    (rule,) = lake.rules.of(first.did)
    lake.rules.remove(rule.id, now=True)
    wait_for(
        "the replica is on its way out, or gone",
        lambda: (
            [found.states for found in lake.catalogue.replicas([first.did], all_states=True)] != [{RSE: "AVAILABLE"}]
        ),
        timeout_s=180,
        period_s=0.01,
    )
    (second,) = lake.put([file], scope="cms", rse_expression=RSE)
    assert second.outcome in ("uploaded", "found")
    (known,) = lake.catalogue.replicas([first.did], all_states=True)
    assert known.states == {RSE: "AVAILABLE"}
    assert b"".join(lake.storage.get(url_of(lake, file))) == file.read_bytes()


def test_a_file_that_is_there_without_a_rule_gets_one_again(lake: Lake, file: Path) -> None:
    (first,) = lake.put([file], scope="cms", rse_expression=RSE, lifetime_s=3600)
    (rule,) = lake.rules.of(first.did)
    lake.put([file], scope="cms", rse_expression="QOS=FAST")
    lake.rules.remove(rule.id, now=True)
    wait_for(
        "the first rule has ended", lambda: [found.rse_expression for found in lake.rules.of(first.did)] == ["QOS=FAST"]
    )
    (known,) = lake.catalogue.replicas([first.did], all_states=True)
    assert known.states == {RSE: "AVAILABLE"}


def test_the_name_of_a_dataset_is_taken(lake: Lake, file: Path) -> None:
    # case import-8
    lake.catalogue.ensure_dataset(Did("cms", file.name))
    with pytest.raises(ConflictError, match="taken by a dataset"):
        lake.put([file], scope="cms", rse_expression=RSE)
    other = file.with_name(f"x-{file.name}")
    other.write_bytes(b"x")
    (result,) = lake.put([other], scope="cms", rse_expression=RSE)
    with pytest.raises(ConflictError, match="files cannot be added here"):
        lake.put([file], scope="cms", dataset=result.did, rse_expression=RSE)


def test_wrong_bytes_on_storage_are_taken_away(lake: Lake, lake_box: Box, file: Path) -> None:
    # case import-14
    http = Http(lake_box.endpoints.ca_bundle)
    lying = WebSource(f"{lake.endpoints.issuer}/health", size_bytes=0, adler32="deadbeef", http=http)
    answer = http.request("GET", lying.where)
    lying = replace(lying, size_bytes=len(answer.data))
    with pytest.raises(ChecksumError):
        lake.upload([Item(lying, Did("cms", file.name))], Order(RSE))
    assert lake.storage.stat(url_of(lake, file)) is None
    assert Did("cms", file.name) not in lake.catalogue.known([Did("cms", file.name)])


def test_two_sources_with_one_name(lake: Lake, file: Path, tmp_path: Path) -> None:
    # case import-19
    other = tmp_path / "elsewhere" / file.name
    other.parent.mkdir()
    other.write_bytes(b"other")
    with pytest.raises(InputError, match="two files want one name"):
        lake.put([file, other], scope="cms", rse_expression=RSE)
    assert lake.storage.stat(url_of(lake, file)) is None


def test_get_is_whole_resumed_or_refused(lake: Lake, file: Path, tmp_path: Path) -> None:
    # cases get-1 get-2 get-3 get-4 get-6
    body = file.read_bytes()
    (result,) = lake.put([file], scope="cms", rse_expression=RSE)
    out = tmp_path / "out"
    part, whole = out / f"{file.name}~part", out / file.name
    out.mkdir()

    part.write_bytes(body[:4000])
    moved: list[int] = []
    lake.get(result.did, out, progress=lambda *, size_bytes=0, files=0: moved.append(size_bytes))
    assert whole.read_bytes() == body
    assert moved[0] == 4000
    assert sum(moved) == len(body)
    assert not part.exists()

    (again,) = lake.get(result.did, out)
    assert again.url == ""

    whole.write_bytes(b"mine")
    with pytest.raises(InputError, match="in the way"):
        lake.get(result.did, out)
    assert whole.read_bytes() == b"mine"

    whole.unlink()
    part.write_bytes(bytes(4000))
    (fresh,) = lake.get(result.did, out)
    assert fresh.url
    assert whole.read_bytes() == body


def test_get_goes_on_with_the_next_replica(lake: Lake, operator: Lake, file: Path, tmp_path: Path) -> None:
    # case get-5
    body = file.read_bytes()
    (result,) = lake.put([file], scope="cms", rse_expression=RSE)
    (rule_id,) = lake.rules.add([result.did], "DESY-DCACHE", account="alice")
    lake.rules.wait(rule_id, timeout_s=180)
    (found,) = lake.files(result.did, prefer="replica")
    first, second = (url for url in found.urls if url.startswith("https:"))
    operator.storage.put(first, bytes(len(body)), len(body), overwrite=True)
    (fetched,) = lake.get(result.did, tmp_path / "a")
    assert (fetched.path.read_bytes(), fetched.url) == (body, second)
    operator.storage.put(second, bytes(len(body)), len(body), overwrite=True)
    with pytest.raises(ChecksumError):
        lake.get(result.did, tmp_path / "b")
    assert not list((tmp_path / "b").iterdir())
    for url in (first, second):
        operator.storage.put(url, body, len(body), overwrite=True)
    wait_for("the replicas are whole again", lambda: lake.storage.stat(first) == lake.storage.stat(second))


def test_metadata_of_any_shape_comes_back(lake: Lake, file: Path) -> None:
    inputs = [{"did": "cms:a", "adler32": "00000001"}, {"did": "cms:b", "adler32": "09600001"}]
    (result,) = lake.put([file], scope="cms", rse_expression=RSE, metadata={"inputs": inputs, "events": 3})
    lake.set_metadata(result.did, {"note": "ä 'quoted' \"text\""})
    assert lake.metadata(result.did) == {"inputs": inputs, "events": 3, "note": "ä 'quoted' \"text\""}
