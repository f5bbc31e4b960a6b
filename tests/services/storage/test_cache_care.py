"""The care of caches on a running cache: what it counts, whom it believes, what leaves a cache and who may say so."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3

from boathouse.plan.service import Programs
from boathouse.testing.wait import wait_for

from .busy import SIZE_BYTES, Busy, busy
from .care import CACHE, WRITE, Care, caring

COUNTED = ("uses", "hits", "served_bytes", "fetched_bytes", "saved_bytes")


@pytest.fixture(scope="module", autouse=True)
def load(programs: Programs) -> Iterator[Busy]:
    """Begins before the other tests here, which wait much themselves: so hardly anybody waits for its minute."""
    with busy(programs) as made:
        yield made


@pytest.fixture(scope="module")
def care(box: Any) -> Iterator[Care]:
    with caring(box, CACHE) as made:
        yield made


def ask_reader(reader: subprocess.Popen[str], offset: int) -> str:
    assert reader.stdin
    assert reader.stdout
    reader.stdin.write(f"{offset}\n")
    reader.stdin.flush()
    return reader.stdout.readline().strip()


def test_a71_cold_warm_and_part_reads_are_counted(care, box, fresh_path, content):
    box.put("NORTH-DISK", fresh_path, content)
    size = len(content)
    care.read(fresh_path)
    cold = care.wait_served(fresh_path, size)
    assert (cold["fetched_bytes"], cold["saved_bytes"], cold["complete"]) == (size, 0, True)
    care.read(fresh_path)
    warm = care.wait_served(fresh_path, 2 * size)
    assert (warm["fetched_bytes"], warm["saved_bytes"], warm["hit_ratio"]) == (size, size, 0.5)
    assert care.status()["scopes"]["cms"]["saved_bytes"] >= size
    text = care.ask("GET", "/metrics", box.token(WRITE, CACHE)).text
    assert f'boathouse_cache_served_bytes_total{{cache="{CACHE}",scope="cms"}}' in text
    others = care.ask("GET", "/metrics", box.token("storage.read:/lake/magic", CACHE)).text
    assert 'scope="cms"' not in others


def test_a71_counts_outlive_the_process(care, box, fresh_path, content):
    box.put("NORTH-DISK", fresh_path, content)
    care.read(fresh_path)
    before = care.wait_served(fresh_path, len(content))
    box.stop("caches", number=signal.SIGKILL)
    box.start("caches")
    after = care.counted(fresh_path)
    assert {name: after[name] for name in COUNTED} == {name: before[name] for name in COUNTED}
    care.wait_heard()


def test_a_datagram_of_another_process_is_not_believed(care, box, fresh_path):
    refused = care.status()["datagrams"]["refused"]
    record = {"event": "file_close", "lfn": fresh_path, "size": 9, "attach_t": 1, "detach_t": 2, "remotes": []}
    record |= dict.fromkeys(("b_hit", "b_miss", "b_bypass", "b_todisk", "b_prefetch", "n_cks_errs"), 9)
    header = {"code": "g", "pseq": 1, "stod": 1, "sid": 1, "gs": {"type": "C"}}
    forged = "\n".join(map(json.dumps, (header, record))).encode() + b"\0"
    with socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.sendto(forged, ("127.0.0.1", box.context.ports[f"{CACHE}.stream"]))
        wait_for("it is refused", lambda: care.status()["datagrams"]["refused"] > refused, timeout_s=120)
    assert care.counted(fresh_path)["uses"] == 0


def test_stale_data_is_evicted_and_the_disk_shrinks(care, box, fresh_path, content):
    box.put("NORTH-DISK", fresh_path, content)
    assert care.read(fresh_path) == content
    care.wait_served(fresh_path, len(content))
    wait_for("the cache has let go of it", lambda: put_anew(box, fresh_path), timeout_s=120)
    assert care.read(fresh_path) == content
    care.wait_served(fresh_path, 2 * len(content))
    wait_for("nobody reads it", lambda: care.evicted(fresh_path)["outcome"] != "in use", timeout_s=120)
    assert not care.kept(fresh_path).exists()
    assert care.counted(fresh_path)["kept_bytes"] == 0
    assert care.read(fresh_path) == b"declared anew"
    assert care.status()["evictions"]["asked"]["bytes"] >= len(content)
    assert care.evicted(f"{fresh_path}.never")["outcome"] == "absent"


@pytest.mark.parametrize("scheme", ["https", "root"])
def test_c8_a_flipped_bit_reaches_no_reader(care, fresh_path, content, scheme, tmp_path):
    """The cache compares what it reads from its disk with the checksum of the page, and gives nothing rather."""
    box = care.box
    box.put("NORTH-DISK", fresh_path, content)
    care.read(fresh_path)
    care.wait_served(fresh_path, len(content))
    with care.kept(fresh_path).open("r+b") as stream:
        stream.seek(654_321)
        (byte,) = stream.read(1)
        stream.seek(654_321)
        stream.write(bytes([byte ^ 4]))
    if scheme == "https":
        with pytest.raises(urllib3.exceptions.HTTPError):
            care.read(fresh_path)
    else:
        token = box.token("storage.read:/lake/cms", "NORTH-DISK", CACHE)
        url = box.through_cache("NORTH-DISK", fresh_path, "root")
        assert box.client("xrdcp", "-s", url, str(tmp_path / "out"), token=token).returncode != 0
    assert care.evicted(fresh_path, force=True)["outcome"] == "evicted"
    wait_for("it is fetched anew", lambda: right(care, fresh_path, content), timeout_s=120)


def right(care, path, content) -> bool:
    """Whether the cache gives the content, and not an error of a reader that has not yet left."""
    try:
        return care.read(path) == content
    except (urllib3.exceptions.HTTPError, AssertionError):
        return False


def test_what_is_read_stays_unless_it_is_forced_out(care, box, fresh_path, content):
    box.put("NORTH-DISK", fresh_path, content)
    with care.open(fresh_path) as reader:
        try:
            assert reader.stdout.readline().strip() == "open"
            assert ask_reader(reader, 0) == content[:1000].hex()
            assert care.evicted(fresh_path)["outcome"] == "in use"
            assert ask_reader(reader, 5000) == content[5000:6000].hex()
            assert care.evicted(fresh_path, force=True)["outcome"] == "evicted"
            assert not care.kept(fresh_path).exists()
            assert ask_reader(reader, 700_000) == "error"
        finally:
            reader.stdin.close()
            reader.wait(timeout=180)
    # Until then the cache gives the one that it has forgotten to those who ask for the same URL.
    wait_for("nobody holds it", lambda: put_anew(box, fresh_path), timeout_s=120)
    assert care.read(fresh_path) == b"declared anew"
    assert care.kept(fresh_path).exists()


def put_anew(box, path) -> bool:
    """An element lets nobody write a file that the cache reads."""
    token = box.token("storage.modify:/ storage.read:/", "NORTH-DISK")
    return box.http("PUT", box.url("NORTH-DISK", path), token, b"declared anew").status in {200, 201}


@pytest.mark.parametrize(
    ("scope", "names", "status"),
    [
        ("storage.read:/", (CACHE,), 403),
        ("storage.modify:/lake/magic storage.read:/", (CACHE,), 403),
        ("storage.create:/", (CACHE,), 403),
        (WRITE, ("NORTH-DISK",), 401),
        (WRITE, (CACHE,), 200),
    ],
)
def test_only_who_may_write_a_file_evicts_it(care, fresh_path, scope, names, status):
    token = care.box.token(scope, *names)
    assert care.ask("POST", "/evictions", token, {"paths": [fresh_path], "caches": [CACHE]}).status == status


@pytest.mark.parametrize(
    ("document", "status"),
    [
        ({"paths": ["/lake/cms/../magic/f"]}, 400),
        ({"paths": ["/lake/cms/f x"]}, 400),
        ({"paths": []}, 400),
        ({"paths": "/lake/cms/f"}, 400),
        ({"paths": [f"/lake/cms/{number}" for number in range(501)]}, 400),
        ({"paths": ["/lake/cms/f"], "caches": ["ELSEWHERE"]}, 400),
        ({"paths": ["/lake/cms/f"], "caches": 7}, 400),
        ([], 400),
        ({"paths": ["/lake/magic/f"]}, 403),
    ],
)
@pytest.mark.parametrize("path", ["/evictions", "/files"])
def test_bad_requests(care, box, path, document, status):
    assert care.ask("POST", path, box.token(WRITE, CACHE), document).status == status


@pytest.mark.parametrize("path", ["/caches", "/metrics", "/scrubs/x"])
def test_nobody_is_told_anything(care, path):
    assert care.ask("GET", path).status == 401
    assert care.ask("GET", path, "nonsense").status == 401


def test_scrubs_are_for_who_looks_after_the_facility(care, box):
    assert care.ask("POST", "/scrubs", box.token(WRITE, CACHE), {}).status == 403


def test_a_reader_cannot_evict_with_the_caches_own_command(care, box, fresh_path, content):
    """Who may read everything, by the path in the cache and by the one that it is asked by."""
    box.put("NORTH-DISK", fresh_path, content)
    care.read(fresh_path)
    token = box.token("storage.read:/ storage.modify:/", "NORTH-DISK", "SOUTH-DISK", CACHE)
    host = box.context.url("NORTH-DISK.root", "x").removeprefix("x://")
    server = box.context.url(f"{CACHE}.root", "roots")
    for path in (fresh_path, f"/roots:/{host}{fresh_path}"):
        assert box.client("xrdfs", server, "cache", "fevict", path, token=token).returncode != 0
    assert care.kept(fresh_path).exists()


def test_nothing_is_read_by_the_name_that_is_for_eviction(care, box, fresh_path, content):
    box.put("NORTH-DISK", fresh_path, content)
    care.read(fresh_path)
    token = box.token("storage.read:/", "NORTH-DISK", "SOUTH-DISK", CACHE)
    answer = box.http("GET", box.url(CACHE, fresh_path), token)
    assert answer.status in {403, 404}
    assert content[:100] not in answer.body


def test_a_cache_makes_room_while_it_is_read(load):
    """It had grown beyond its size. What nobody reads goes, the rest stays, and everything comes right."""
    wait_for("it has made room", lambda: load.kept_bytes() < SIZE_BYTES or not load.goes_on(), timeout_s=300)
    assert load.goes_on()
    assert [path for path in load.new if not load.place(path).exists()] == []
    load.end()
    for files in (load.new, load.old):
        for path in files:
            load.read(path, files)
