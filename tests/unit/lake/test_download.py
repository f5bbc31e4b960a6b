"""Files that are fetched from a small server of the test's own, which is as slow, false or short as a test wants it."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from boathouse.checksums import Adler32
from boathouse.errors import HostError, InputError, NotFoundError, PartialError, StorageError
from boathouse.lake.access import LakeFile
from boathouse.lake.caching import Care, prestage
from boathouse.lake.download import download
from boathouse.lake.http import Http
from boathouse.lake.names import Did
from boathouse.lake.progress import Progress
from boathouse.lake.storage import READ_BYTES, Storage
from boathouse.plan.model import CacheEndpoint, Endpoints, StorageEndpoint
from boathouse.testing.https import Handler, HttpsServer
from boathouse.testing.pki import Authority
from boathouse.testing.scratch import free_port

BODY = os.urandom(3 * READ_BYTES + 17)
LONG = os.urandom(READ_BYTES) * 64
PAUSE_S = 0.3
"""Between two blocks of a slow file: all of ``LONG`` takes far longer than whoever is interrupted needs to notice."""


class Element(HttpsServer):
    """Gives files by their paths, and the care of caches that has none of them."""

    def __init__(self, directory: Path) -> None:
        tls = Authority(directory).certificate("element", "127.0.0.1")
        super().__init__(partial(_Element, element=self), "127.0.0.1", free_port(), tls)
        self.bundle = directory / "bundle.pem"
        self.held: dict[str, bytes] = {}
        self.slow: set[str] = set()
        self.gone = threading.Event()
        self.asked: list[tuple[str, int]] = []
        """Paths that were read, and from which byte on."""

    def file(self, name: str, content: bytes, *replicas: bytes) -> LakeFile:
        """A file with as many replicas as contents are given, or with one that is right."""
        paths = [f"/{number}/{name}" for number in range(len(replicas) or 1)]
        self.held |= zip(paths, replicas or (content,), strict=True)
        urls = tuple(self.url + path for path in paths)
        return LakeFile(Did("cms", name), len(content), Adler32(content).hexdigest(), urls)


class _Element(Handler):
    def __init__(self, *args: Any, element: Element) -> None:
        self._element = element
        super().__init__(*args)

    def respond(self) -> None:
        element = self._element
        if self.command == "POST":
            self.body()
            self.answer([])
            return
        content = element.held.get(self.path)
        if content is None:
            self.send_error(404)
            return
        ranged = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(ranged[1]) if ranged else 0
        element.asked.append((self.path, start))
        self.send_response(206 if ranged else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        for first in range(start, len(content), READ_BYTES):
            self.wfile.write(content[first : first + READ_BYTES])
            if self.path in element.slow:
                element.gone.wait(PAUSE_S)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pki")


@pytest.fixture
def element(pki: Path) -> Iterator[Element]:
    made = Element(pki)
    made.start()
    yield made
    made.gone.set()
    made.stop()


@pytest.fixture
def http(element: Element) -> Iterator[Http]:
    made = Http(str(element.bundle), failure=StorageError)
    yield made
    made.close()


@pytest.fixture
def storage(http: Http) -> Storage:
    return Storage(http, lambda: "token")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    made = tmp_path / "out"
    made.mkdir()
    return made


class Told:
    """What came to be told of the progress."""

    def __init__(self) -> None:
        self.size_bytes = self.files = 0

    def __call__(self, *, size_bytes: int = 0, files: int = 0) -> None:
        self.size_bytes += size_bytes
        self.files += files


@pytest.fixture
def ctrl_c() -> Iterator[Callable[[Told], Progress]]:
    """Makes a progress that tells another one, and presses Ctrl-C at the first byte."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def pressing(told: Told) -> Progress:
        def progress(*, size_bytes: int = 0, files: int = 0) -> None:
            is_first = size_bytes and not told.size_bytes
            told(size_bytes=size_bytes, files=files)
            if is_first:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        return progress

    yield pressing
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_leaves_a_part_and_does_not_wait_for_the_other_files(
    element: Element, storage: Storage, out: Path, ctrl_c: Callable[[Told], Progress]
) -> None:
    # case get-8
    files = [element.file("long", LONG), *(element.file(f"later-{number}", BODY) for number in range(3))]
    element.slow.add("/0/long")
    told = Told()
    with pytest.raises(KeyboardInterrupt):
        download(storage, files, out, workers=1, progress=ctrl_c(told))
    assert element.asked == [("/0/long", 0)]
    assert 0 < told.size_bytes < len(LONG)
    assert [path.name for path in out.iterdir()] == ["long~part"]
    element.slow.clear()
    download(storage, files, out, workers=1)
    assert element.asked[1] == ("/0/long", told.size_bytes)
    assert (out / "long").read_bytes() == LONG


def test_a_file_that_fails_stops_the_others_unless_they_are_to_go_on(
    element: Element, storage: Storage, out: Path
) -> None:
    # case get-8
    long, lost = element.file("long", LONG), element.file("lost", BODY)
    del element.held["/0/lost"]
    element.slow.add("/0/long")
    told = Told()
    with pytest.raises(NotFoundError):
        download(storage, [long, lost], out, workers=2, progress=told)
    assert told.size_bytes < len(LONG)
    assert not (out / "long").exists()
    element.slow.clear()
    with pytest.raises(PartialError, match="2 of 3 files were fetched"):
        download(storage, [lost, long, element.file("other", BODY)], out, workers=2, keep_going=True)
    assert (out / "long").read_bytes() == LONG


def full(part: Path) -> None:
    part.symlink_to("/dev/full")


@pytest.mark.parametrize("keep_going", [False, True])
@pytest.mark.parametrize(
    ("spoil", "what", "got"),
    [
        (full, "the disk here is full", "No space left on device"),
        (Path.mkdir, "the file cannot be written here", "Is a directory"),
    ],
)
def test_a_fault_of_the_disk_here_is_one_error_and_the_end(
    element: Element,
    storage: Storage,
    out: Path,
    *,
    spoil: Callable[[Path], None],
    what: str,
    got: str,
    keep_going: bool,
) -> None:
    # case get-9
    spoil(out / "spoilt~part")
    spoilt, long, other = element.file("spoilt", BODY, BODY, BODY), element.file("long", LONG), element.file("o", BODY)
    # What is begun before the fault is noticed cannot end until it is.
    element.slow.add("/0/long")
    with pytest.raises(HostError) as caught:
        download(storage, [spoilt, long, other], out, workers=1, keep_going=keep_going)
    error = caught.value
    assert (error.what, error.got, error.where) == (what, got, str(out / "spoilt~part"))
    assert {path for path, _ in element.asked} <= {"/0/spoilt", "/0/long"}
    assert not (out / "long").exists()


def test_no_part_has_the_name_of_another_file(element: Element, storage: Storage, out: Path) -> None:
    # case get-10
    names = ("x.part", "x", "y" * 250)
    bodies = {name: os.urandom(1000) for name in names}
    download(storage, [element.file(name, bodies[name]) for name in names], out, workers=1)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == bodies
    for name in names:
        (out / name).unlink()
    with pytest.raises(StorageError, match="ended early"):
        download(storage, [element.file("x", BODY, BODY[:1000])], out)
    (part,) = out.iterdir()
    with pytest.raises(InputError, match="not a DID name"):
        Did("cms", part.name).checked()


WRONG = bytes(len(BODY))
EARLY = BODY[:5000]


@pytest.mark.parametrize(
    ("there", "replicas"),
    [
        (b"", [BODY]),
        (BODY[:1000], [BODY]),
        (b"", [EARLY, BODY]),
        (BODY[:1000], [EARLY, EARLY, BODY]),
        (WRONG[:1000], [BODY]),
        (WRONG, [EARLY, BODY]),
        (BODY + b"more", [BODY]),
        (b"", [WRONG, EARLY, BODY]),
        (b"", [BODY + b"more", BODY]),
    ],
    ids=[
        *("fresh", "resumed", "ended early", "twice early", "part of other content", "whole part of other content"),
        *("part too long", "wrong replica", "replica too long"),
    ],
)
def test_each_byte_is_told_once(
    element: Element, storage: Storage, out: Path, there: bytes, replicas: list[bytes]
) -> None:
    if there:
        (out / "x~part").write_bytes(there)
    told = Told()
    download(storage, [element.file("x", BODY, *replicas)], out, progress=told)
    assert (out / "x").read_bytes() == BODY
    assert (told.size_bytes, told.files) == (len(BODY), 1)
    again = Told()
    download(storage, [element.file("x", BODY)], out, progress=again)
    assert (again.size_bytes, again.files) == (len(BODY), 1)


def test_ctrl_c_does_not_wait_until_all_is_in_the_cache(
    element: Element, http: Http, storage: Storage, ctrl_c: Callable[[Told], Progress]
) -> None:
    storage_endpoint = StorageEndpoint("RSE", "CNAF", "FAST", True, "/lake", "https://se:1", "root://se:1", "")
    cache = CacheEndpoint("CACHE", "CNAF", "site", element.url, "", "", ("RSE",), origins={"RSE": "se:1"})
    endpoints = Endpoints(
        *("laptop", "cms", element.url, "", "", str(element.bundle)),
        storage=(storage_endpoint,),
        caches=(cache,),
        care=element.url,
    )
    files = []
    for name, content in (("long", LONG), ("later", BODY)):
        element.held[f"/roots://se:1//lake/{name}"] = content
        checksum = Adler32(content).hexdigest()
        files.append(LakeFile(Did("cms", name), len(content), checksum, (f"root://se:1//lake/{name}",)))
    element.slow.add("/roots://se:1//lake/long")
    told = Told()
    with pytest.raises(KeyboardInterrupt):
        prestage(
            Care(http, endpoints, lambda: "token"), storage, endpoints, cache, files, workers=1, progress=ctrl_c(told)
        )
    assert element.asked == [("/roots://se:1//lake/long", 0)]
    assert 0 < told.size_bytes < len(LONG)
