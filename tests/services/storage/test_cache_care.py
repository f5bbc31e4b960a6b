"""The care of caches on a running cache: what it counts, whom it believes, what leaves a cache and who may say so."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3

from boathouse.run.local import files
from boathouse.services import trust
from boathouse.testing.wait import wait_for
from boathouse.wlcg import keycache

CACHE = "NORTH-CACHE"
COUNTED = ("uses", "hits", "served_bytes", "fetched_bytes", "saved_bytes")
WRITE = "storage.read:/lake/cms storage.modify:/lake/cms"

# Opens a file and keeps it open: reads once when told to, and says how that went.
READER = """
import sys
from XRootD import client
file = client.File()
status, _ = file.open(sys.argv[1])
print("open" if status.ok else status.message, flush=True)
for line in sys.stdin:
    status, data = file.read(int(line), 1000)
    print(data.hex() if status.ok else "error", flush=True)
file.close()
"""


@dataclass
class Care:
    box: Any

    def ask(self, method: str, path: str, token: str | None = None, document: Any = None) -> Any:
        body = None if document is None else json.dumps(document).encode()
        return self.box.http(method, self.box.context.url("caches") + path, token, body)

    def read(self, path: str, *, element: str = "NORTH-DISK") -> bytes:
        token = self.box.token("storage.read:/lake/cms", "NORTH-DISK", "SOUTH-DISK", CACHE)
        answer = self.box.http("GET", self.box.through_cache(element, path), token)
        assert answer.status == 200, answer.text
        return answer.body

    def counted(self, path: str) -> dict[str, Any]:
        return self.counted_at(path, CACHE)[CACHE]

    def counted_at(self, path: str, *caches: str) -> dict[str, dict[str, Any]]:
        answer = self.ask("POST", "/files", self.box.token(WRITE, CACHE), {"paths": [path], "caches": caches})
        assert answer.status == 200, answer.text
        return {found["cache"]: found for found in json.loads(answer.body)}

    def wait_served(self, path: str, size_bytes: int) -> dict[str, Any]:
        wait_for(f"{size_bytes} bytes counted", lambda: self.counted(path)["served_bytes"] == size_bytes, timeout_s=120)
        return self.counted(path)

    def wait_heard(self) -> None:
        """Read until something is counted: what a cache sends first after it sent something in vain is lost."""
        path = f"/lake/cms/{uuid.uuid4().hex[:12]}"
        self.box.put("NORTH-DISK", path, b"heard")

        def counted_after_a_read() -> int:
            self.read(path)
            return self.counted(path)["served_bytes"]

        wait_for("the cache is heard", counted_after_a_read, timeout_s=120)

    def evict(self, path: str, scope: str = WRITE, **more: Any) -> Any:
        document = {"paths": [path], "caches": [CACHE], **more}
        return self.ask("POST", "/evictions", self.box.token(scope, CACHE), document)

    def evicted(self, path: str, **more: Any) -> dict[str, Any]:
        answer = self.evict(path, **more)
        assert answer.status == 200, answer.text
        (result,) = json.loads(answer.body)
        return result

    def status(self) -> dict[str, Any]:
        answer = self.ask("GET", "/caches", self.box.token(WRITE, CACHE))
        return next(cache for cache in json.loads(answer.body)["caches"] if cache["name"] == CACHE)

    def kept(self, path: str) -> Path:
        return self.box.data("cache-north-cache") / path.lstrip("/")

    def open(self, path: str) -> subprocess.Popen[str]:
        token = self.box.token("storage.read:/lake/cms", "NORTH-DISK", "SOUTH-DISK", CACHE)
        env = {
            "PATH": os.environ["PATH"],
            "X509_CERT_DIR": str(self.box.context.layout.ca_directory),
            "XrdSecPROTOCOL": "ztn",
            "BEARER_TOKEN": token,
            "XRD_STREAMERRORWINDOW": "0",
            "XRD_REQUESTTIMEOUT": "30",
        }
        url = self.box.through_cache("NORTH-DISK", path, "root")
        return subprocess.Popen(
            [sys.executable, "-c", READER, url], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )


@pytest.fixture(scope="module")
def care(box: Any) -> Iterator[Care]:
    directory = trust.key_cache(box.context)
    files.make_directory(directory, box.state.account)
    with box.state.account.acting():
        keycache.seed(directory, box.issuer.url, box.issuer.jwks)
    box.start("caches")
    made = Care(box)
    made.wait_heard()
    yield made
    box.stop("caches")


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
