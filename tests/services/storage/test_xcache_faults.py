"""Caches that lose their disk, their element or their life: right bytes or a refusal, never wrong ones."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import urllib3

from boathouse.plan.service import Programs
from boathouse.services.xcache import unit_name
from boathouse.testing.scratch import scratch
from boathouse.testing.wait import wait_for

from .conftest import Box

ELEMENT, CACHE, FULL = "SE", "CACHE", "FULL"
BLOCK = 524_288
FACILITY = {
    "name": "faults",
    "vo": "escape",
    "sites": {
        "A": {"storage": {ELEMENT: {"qos": "FAST"}}, "caches": {CACHE: {"size": "1 GB"}, FULL: {"size": "12 MB"}}}
    },
}


class Caching(Box):
    """One element and its caches."""

    def cached(self, cache: str, path: str) -> str:
        """URL of a file of the element, through a cache."""
        return self.url(cache, "//" + self.context.url(f"{ELEMENT}.root", "roots") + "/" + path)

    def reader(self) -> str:
        return self.token("storage.read:/lake", ELEMENT, CACHE, FULL)

    def kept(self, path: str, cache: str = CACHE) -> Path:
        return self.data(unit_name(cache)) / path.lstrip("/")


@pytest.fixture(scope="module")
def caching(programs: Programs) -> Iterator[Caching]:
    with scratch() as directory, Caching(FACILITY, programs, directory) as made:
        for name in made.servers:
            made.trust(name, made.issuer.url, made.issuer.jwks)
        made.write_service_tokens()
        made.on_small_disk(unit_name(FULL), made.data(unit_name(FULL)), "16m")
        made.start("se-se", unit_name(CACHE), unit_name(FULL))
        yield made


@pytest.fixture
def blocks() -> bytes:
    """Twelve blocks of a cache and a bit, none of them like another."""
    return os.urandom(12 * BLOCK + 1234)


def origin_read(caching: Caching) -> int:
    """Bytes that the element has read from files and sockets since it started."""
    text = Path(f"/proc/{caching.processes['se-se'].pid}/io").read_text(encoding="ascii")
    return int(text.split("rchar: ")[1].split()[0])


def test_readers_who_come_together_read_the_element_once(caching: Caching, fresh_path: str, blocks: bytes) -> None:
    caching.put(ELEMENT, fresh_path, blocks)
    before = origin_read(caching)
    url, token = caching.cached(CACHE, fresh_path), caching.reader()
    with ThreadPoolExecutor(4) as threads:
        read = list(threads.map(lambda _: caching.http("GET", url, token).body, range(4)))
    assert all(body == blocks for body in read)
    assert len(blocks) <= origin_read(caching) - before < 1.2 * len(blocks)


def test_a_part_that_is_kept_outlives_the_element(caching: Caching, fresh_path: str, blocks: bytes) -> None:
    caching.put(ELEMENT, fresh_path, blocks)
    url, token = caching.cached(CACHE, fresh_path), caching.reader()

    def given(first: int) -> bytes:
        """A hundred bytes; nothing if they are refused, or do not come after the head of the answer."""
        try:
            answer = caching.http("GET", url, token, Range=f"bytes={first}-{first + 99}")
        except urllib3.exceptions.ProtocolError:
            return b""
        assert answer.status >= 500 or answer.body == blocks[first : first + 100]
        return answer.body if answer.status == 206 else b""

    def whole() -> bool:
        try:
            return caching.http("GET", url, token).body == blocks
        except urllib3.exceptions.ProtocolError:
            return False

    assert given(100)
    caching.stop("se-se", number=signal.SIGKILL)
    try:
        for _ in range(2):
            # A read that has just failed may still be on its way out.
            wait_for("the part that is kept", lambda: given(100))
            assert not given(5 * BLOCK)
        assert caching.http("GET", caching.cached(CACHE, f"{fresh_path}.never"), token).status >= 500
    finally:
        caching.start("se-se")

    # For some seconds after a failure the cache does not try to connect again.
    wait_for("the element's bytes once more", lambda: given(5 * BLOCK), timeout_s=60)
    wait_for("all of it", whole, timeout_s=60)
    # It connects for each reader anew, and some of these may still wait.
    caching.stop(unit_name(CACHE))
    caching.start(unit_name(CACHE))


def test_killed_while_it_fills(caching: Caching, fresh_path: str, blocks: bytes) -> None:
    large = blocks * 5
    caching.put(ELEMENT, fresh_path, large)
    url, token = caching.cached(CACHE, fresh_path), caching.reader()
    answer = caching.connections.request(
        "GET", url, headers={"Authorization": f"Bearer {token}"}, preload_content=False
    )
    assert answer.read(BLOCK) == large[:BLOCK]
    caching.stop(unit_name(CACHE), number=signal.SIGKILL)
    answer.close()
    assert caching.kept(fresh_path).stat().st_blocks * 512 < len(large)
    caching.start(unit_name(CACHE))
    for _ in range(2):
        assert caching.http("GET", url, token).body == large


@pytest.mark.parametrize("broken", ["nobody is believed", "nothing can be read", "nothing can be loaded"])
def test_c6_a_cache_that_cannot_decide_does_not_serve(
    caching: Caching, fresh_path: str, blocks: bytes, broken: str
) -> None:
    caching.put(ELEMENT, fresh_path, blocks)
    url, token = caching.cached(CACHE, fresh_path), caching.reader()
    assert caching.http("GET", url, token).body == blocks
    name = unit_name(CACHE)
    unit = caching.units[name]
    changes = {
        "nobody is believed": ("scitokens.cfg", r"(?s).*", ""),
        "nothing can be read": ("scitokens.cfg", r"\[Global\]", "[Global"),
        "nothing can be loaded": ("xrootd.cfg", r"libXrdAccSciTokens\.so", "libXrdAccNobody.so"),
    }
    wanted, pattern, put = changes[broken]
    files = [
        replace(file, text=re.sub(pattern, put, file.text, count=1)) if file.path.name == wanted else file
        for file in unit.files
    ]
    caching.stop(name)
    caching.units[name] = replace(unit, files=tuple(files))
    try:
        if broken == "nobody is believed":
            caching.start(name)
            assert caching.http("GET", url, token).status == 403
            caching.stop(name)
        else:
            with pytest.raises(AssertionError, match=f"{name} ended with"):
                caching.start(name)
            caching.processes.pop(name).wait()
    finally:
        caching.units[name] = unit
        caching.start(name)
    assert caching.http("GET", url, token).body == blocks


def test_its_files_are_lost(caching: Caching, fresh_path: str, blocks: bytes) -> None:
    caching.put(ELEMENT, fresh_path, blocks)
    url, token = caching.cached(CACHE, fresh_path), caching.reader()
    assert caching.http("GET", url, token).body == blocks
    data = caching.data(unit_name(CACHE))
    for path in data.iterdir():
        shutil.rmtree(path)
    for _ in range(2):
        assert caching.http("GET", url, token).body == blocks
    caching.check(unit_name(CACHE))
    assert "eyJ" not in caching.log(unit_name(CACHE))


def test_its_disk_is_full(caching: Caching, fresh_path: str, blocks: bytes) -> None:
    paths = [f"{fresh_path}/{number}" for number in range(4)]
    bodies = {path: path.encode() + blocks for path in paths}
    for path, body in bodies.items():
        caching.put(ELEMENT, path, body)
    token = caching.reader()
    for _ in range(2):
        for path in paths:
            answer = caching.http("GET", caching.cached(FULL, path), token)
            assert answer.body == bodies[path], (answer.status, len(answer.body))
    # The disk is in the server's own view of the file system.
    disk = os.statvfs(f"/proc/{caching.processes[unit_name(FULL)].pid}/root{caching.data(unit_name(FULL))}")
    assert disk.f_bavail * disk.f_frsize < BLOCK
    caching.check(unit_name(FULL))
    # Errors name URLs, and those of https readers hold their tokens.
    assert "eyJ" not in caching.log(unit_name(FULL))


def downloaded(caching: Caching, path: str) -> str:
    """What a cache's record of a file says of its blocks, such as ``13 of 13``; empty if there is none yet."""
    program = caching.context.programs.xrootd_bin / "xrdpfc_print"
    shown = subprocess.run([program, caching.kept(f"{path}.cinfo")], capture_output=True, text=True, check=False)
    found = re.search(r"n_blocks (\d+), n_downloaded (\d+)", shown.stdout)
    return f"{found[2]} of {found[1]}" if found else ""


def test_no_file_is_taken_for_a_record(caching: Caching, fresh_path: str, blocks: bytes) -> None:
    """Beside each kept file lies a record of what of it is there, which who may write could hope to replace."""
    token = caching.reader()
    # What a cache of one's own would write for a file of this size that is all there.
    model, forged = f"{fresh_path}.model", f"{fresh_path}.cinfo"
    caching.put(ELEMENT, model, blocks)
    assert caching.http("GET", caching.cached(CACHE, model), token).body == blocks
    wait_for("the record of a whole file", lambda: downloaded(caching, model) == "13 of 13")
    record = caching.kept(f"{model}.cinfo").read_bytes()
    caching.put(ELEMENT, fresh_path, blocks)
    caching.put(ELEMENT, forged, record)
    url = caching.cached(CACHE, fresh_path)
    # The end first: the kept file is as long as the whole, and has holes.
    assert caching.http("GET", url, token, Range=f"bytes={12 * BLOCK}-").body == blocks[12 * BLOCK :]
    wait_for("the record of the end", lambda: downloaded(caching, fresh_path) == "1 of 13")
    assert caching.http("GET", caching.cached(CACHE, forged), token).body == record
    assert caching.http("GET", url, token).body == blocks
    assert not caching.kept(f"{forged}.cinfo").exists()
