"""An analysis over files on real storage: any protocol, through the cache or not, gives what the local file gives."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import uproot

from boathouse.analysis import reader as reader_module
from boathouse.analysis import rootwrite
from boathouse.analysis import task as tasks
from boathouse.analysis.dataset import Dataset, InputFile, from_paths
from boathouse.analysis.reader import Reader, Reading
from boathouse.analysis.run import Histograms, run
from boathouse.analysis.samples import BRANCHES, Sample, make_file
from boathouse.analysis.sources import Access, RemoteSource
from boathouse.compute.inline import Inline
from boathouse.compute.local import LocalDask
from boathouse.errors import AuthError, BoathouseError, StorageError
from boathouse.lake.routing import Router
from boathouse.testing.wait import wait_for

from .conftest import LAYERS

EXAMPLE = Path(__file__).parents[3] / "examples" / "analysis" / "dimuon.py"
NAMES = ("NORTH-DISK", "SOUTH-DISK", "NORTH-CACHE")


def write_token(path: Path, token: str) -> None:
    new = path.with_suffix(".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(token)
    new.replace(path)


@pytest.fixture(scope="module")
def access(box, tmp_path_factory) -> Access:
    token = tmp_path_factory.mktemp("reader") / "token"
    write_token(token, box.token("storage.read:/lake/cms", *NAMES))
    return Access(str(token), str(box.context.layout.ca_bundle))


@pytest.fixture(scope="module")
def dask(access) -> Iterator[LocalDask]:
    with LocalDask(2, environment=access.environment()) as backend:
        yield backend


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> Dataset:
    directory = tmp_path_factory.mktemp("sample")
    sample = Sample(events=60_000, files=3, seed=11)
    return from_paths([make_file(sample, index, directory).path for index in range(3)])


@pytest.fixture(scope="module")
def reference(local) -> Histograms:
    return run(tasks.load(EXAMPLE), local, Inline())


@dataclass(frozen=True)
class Job:
    """An analysis over remote files, and what it must give."""

    dask: LocalDask
    access: Access
    reference: Histograms

    def run(self, dataset: Dataset, **options) -> Histograms:
        return run(tasks.load(EXAMPLE), dataset, self.dask, access=self.access, **options)

    def check(self, result: Histograms) -> None:
        assert_same(result, self.reference)


@pytest.fixture(scope="module")
def job(dask, access, reference) -> Job:
    return Job(dask, access, reference)


def lake_path(file: InputFile) -> str:
    return f"/lake/cms/analysis/{Path(file.name).name}"


@pytest.fixture(scope="module")
def stored(box, local) -> Dataset:
    """The same files on two storage elements; without URLs."""
    for file in local.files:
        for name in ("NORTH-DISK", "SOUTH-DISK"):
            box.put(name, lake_path(file), Path(file.name).read_bytes())
    return local


def root(box, name: str, file: InputFile) -> str:
    return box.context.url(f"{name}.root", "root") + "/" + lake_path(file)


def with_urls(dataset: Dataset, *forms) -> Dataset:
    return replace(
        dataset, files=tuple(replace(file, urls=tuple(form(file) for form in forms)) for file in dataset.files)
    )


def assert_same(result: Histograms, reference: Histograms) -> None:
    assert result.output.counts == reference.output.counts
    for name, filled in reference.output.histograms.items():
        assert np.array_equal(result.output.histograms[name].sums, filled.sums)
    for name, rows in reference.output.rows.items():
        assert np.array_equal(result.output.rows[name], rows)
    assert result.events == reference.events


def assert_short(error: BoathouseError) -> str:
    """What an error says, in lines without the wrapping of client libraries."""
    got = str(error.got)
    assert all(len(reason) <= 160 for reason in got.split("; ")), got
    assert not any(noise in got for noise in ("[ERROR]", "[FATAL]", "Server responded", "Error:", "/lake/", "<")), got
    return got


FORMS = {
    "root": lambda box, file: root(box, "NORTH-DISK", file),
    "https": lambda box, file: box.url("NORTH-DISK", lake_path(file)),
    "root through the cache": lambda box, file: box.through_cache("SOUTH-DISK", lake_path(file), "root"),
    "https through the cache": lambda box, file: box.through_cache("SOUTH-DISK", lake_path(file)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_way_gives_the_same_bits(box, job, stored, form) -> None:
    remote = with_urls(stored, lambda file: FORMS[form](box, file))
    result = job.run(remote, chunk_entries=7_000)
    job.check(result)
    assert result.failed == ()
    assert result.bytes_read > 0


@pytest.mark.parametrize("scheme", ["root", "https"])
def test_baskets_larger_than_a_vector_read_allows(box, job, tmp_path, scheme) -> None:
    path = tmp_path / "large.root"
    values = np.random.default_rng(1).normal(size=1_200_000)
    with uproot.recreate(path, compression=uproot.ZSTD(1)) as file:
        file.mktree("Events", {"x": "float64"}).extend({"x": values})
    analysis = tmp_path / "sum.py"
    analysis.write_text(
        "from boathouse.analysis import Axis, Histogram\n"
        'columns = ("x",)\nhistograms = {"x": Histogram(Axis(100, -5, 5))}\n'
        "def process(events, out):\n"
        '    out.fill("x", events["x"])\n'
    )
    dataset = from_paths([path])
    there = f"/lake/cms/analysis/large-{scheme}.root"
    box.put("NORTH-DISK", there, path.read_bytes())
    root_url = box.context.url("NORTH-DISK.root", "root") + "/" + there
    url = root_url if scheme == "root" else box.url("NORTH-DISK", there)
    task = tasks.load(analysis)
    result = run(task, with_urls(dataset, lambda _: url), job.dask, access=job.access)
    assert_same(result, run(task, dataset, Inline()))
    assert result.bytes_read > 8_000_000


WHOLE = (0, 20_000)


@dataclass(frozen=True)
class Surveyed:
    """A file that a reader knows, and bytes of which it has asked for ahead."""

    reader: Reader
    file: InputFile

    @property
    def source(self) -> RemoteSource:
        return self.reader._open[self.file.urls[0]].source

    def ask_ahead(self) -> None:
        self.reader.ask_ahead(self.file.urls[0], "Events", ("nMuon", "Muon_pt"), WHOLE)

    def arrive(self) -> None:
        futures = list(self.source._coming.values())
        wait_for("what was asked for ahead", lambda: all(future.done() for future in futures))

    def pt(self) -> Reading:
        return self.reader.read(self.file, "Events", lambda tree: tree["Muon_pt"].array(library="np"))


@pytest.fixture
def surveyed(box, access, stored) -> Iterator[Surveyed]:
    file = with_urls(stored, lambda file: FORMS["https"](box, file)).files[0]
    found = Surveyed(Reader(access), file)
    assert found.reader.read(file, "Events", lambda tree: tree.num_entries).answer == WHOLE[1]
    yield found
    for url in list(found.reader._open):
        found.reader._drop(url)


def test_bytes_asked_for_ahead_are_not_asked_for_again(surveyed, stored, monkeypatch) -> None:
    surveyed.ask_ahead()
    assert surveyed.source.coming_bytes > 0
    asked = []
    real = surveyed.source._request
    monkeypatch.setattr(surveyed.source, "_request", lambda futures: asked.extend(futures) or real(futures))
    reading = surveyed.pt()
    assert (asked, reading.failed) == ([], ())
    assert reading.bytes_read > 0
    with uproot.open({stored.files[0].urls[0]: None}) as local:
        wanted = local["Events"]["Muon_pt"].array(library="np")
    assert np.array_equal(np.concatenate(reading.answer), np.concatenate(wanted))
    # Muon_pt is used up, nMuon is not.
    left = surveyed.source.coming_bytes
    assert left > 0
    surveyed.pt()
    assert asked
    assert surveyed.source.coming_bytes == left


def test_no_more_is_asked_for_ahead_than_may_be_kept(surveyed, monkeypatch) -> None:
    monkeypatch.setattr(reader_module, "_AHEAD_BYTES", 1000)
    surveyed.ask_ahead()
    assert surveyed.source.coming_bytes == 0


def test_what_failed_ahead_is_asked_for_again(surveyed, access) -> None:
    token = Path(access.token_file)
    good = token.read_text()
    try:
        write_token(token, "nonsense")
        surveyed.ask_ahead()
        surveyed.arrive()
    finally:
        write_token(token, good)
    reading = surveyed.pt()
    assert len(reading.answer) == WHOLE[1]
    assert [attempt.reason for attempt in reading.failed] == ["the storage refused the token: HTTP 403"]


def test_bytes_on_their_way_keep_their_file_open(box, surveyed, stored, monkeypatch) -> None:
    monkeypatch.setattr(reader_module, "_OPEN_FILES", 2)
    surveyed.ask_ahead()
    other = FORMS["https"](box, stored.files[1])
    others = [replace(stored.files[1], urls=(f"{other}?again={turn}",)) for turn in range(2)]
    for file in others:
        surveyed.reader.read(file, "Events", lambda tree: tree.num_entries)
    assert list(surveyed.reader._open) == [surveyed.file.urls[0], others[1].urls[0]]


def test_an_empty_tree_has_nothing_to_ask_for(box, job, tmp_path) -> None:
    path = tmp_path / "empty.root"
    with rootwrite.recreate(path) as file:
        rootwrite.add_tree(file, "Events", BRANCHES, [], cluster_entries=1000)
    box.put("NORTH-DISK", "/lake/cms/analysis/empty.root", path.read_bytes())
    url = box.url("NORTH-DISK", "/lake/cms/analysis/empty.root")
    assert job.run(with_urls(from_paths([path]), lambda _: url)).events == 0


def test_a_dead_cache_is_passed_by(box, job, stored) -> None:
    box.stop("cache-north-cache")
    try:
        remote = with_urls(
            stored,
            lambda file: box.through_cache("SOUTH-DISK", lake_path(file), "root"),
            lambda file: root(box, "SOUTH-DISK", file),
        )
        result = job.run(remote)
    finally:
        box.start("cache-north-cache")
    job.check(result)
    cache = box.context.url("NORTH-CACHE.root", "root")
    assert result.failed
    assert all(attempt.url.startswith(cache) for attempt in result.failed)


@pytest.fixture
def near(layered, local, tmp_path) -> tuple[Dataset, Access]:
    """The files as the lake client lists them for readers at NORTH, with replicas at SOUTH; and a person's token."""
    for file in local.files:
        layered.put("SOUTH-DISK", lake_path(file), Path(file.name).read_bytes())
    layers = tuple(cache for cache in layered.plan.endpoints.caches if cache.name in LAYERS)
    router = Router(replace(layered.plan.endpoints, caches=layers), "NORTH")
    routed = with_urls(local)
    files = (
        replace(file, urls=router.ways({root(layered, "SOUTH-DISK", file): "SOUTH-DISK"}, file.name))
        for file in routed.files
    )
    write_token(
        tmp_path / "token", layered.token("storage.read:/lake/cms", *layered.context.facility.caches, "SOUTH-DISK")
    )
    return replace(routed, files=tuple(files)), Access(str(tmp_path / "token"), str(layered.context.layout.ca_bundle))


def served_by(result: Histograms) -> set[str]:
    return {urlsplit(url).netloc for account in result.accounts for url in account.urls}


def test_a72_a80_readers_go_through_the_cache_of_their_node_or_to_the_next_layer(layered, reference, near) -> None:
    """And ask what failed last for a while: the second file goes to the next layer at once."""
    dataset, access = near
    node, site = (urlsplit(layered.context.url(f"{name}.root", "root")).netloc for name in LAYERS[:2])
    with LocalDask(1, environment=access.environment()) as dask:
        first = run(tasks.load(EXAMPLE), dataset, dask, access=access)
        layered.stop("cache-north-node")
        try:
            second = run(tasks.load(EXAMPLE), dataset, dask, access=access)
        finally:
            layered.start("cache-north-node")
    assert_same(first, reference)
    assert served_by(first) == {node}
    assert first.failed == ()
    assert_same(second, reference)
    assert served_by(second) == {site}
    # Once as it had been opened before, once by each protocol.
    assert 1 <= len(second.failed) <= 3
    assert {urlsplit(attempt.url).hostname for attempt in second.failed} == {node.partition(":")[0]}


def test_a_server_may_die_in_the_middle(box, job, stored) -> None:
    remote = with_urls(stored, lambda file: root(box, "NORTH-DISK", file), lambda file: root(box, "SOUTH-DISK", file))

    def progress(done: int, total: int) -> None:
        if 0 < done < total and "se-north-disk" in box.processes:
            box.stop("se-north-disk", number=9)

    try:
        result = job.run(remote, chunk_entries=1_000, progress=progress)
    finally:
        box.start("se-north-disk")
    job.check(result)
    assert result.failed


def used_up(box, job, remote: Dataset) -> str:
    """A token that was good for reading a file, and lives hardly longer than that takes."""
    for life_s in (3, 12, 48):
        token = box.token("storage.read:/lake/cms", *NAMES, life_s=life_s)
        write_token(Path(job.access.token_file), token)
        try:
            assert job.run(remote).events == 20_000
        except AuthError:
            # A busy machine took longer.
            continue
        return token
    raise AssertionError("a file is not read in the life of a token")


@pytest.mark.parametrize("form", ["root", "https"])
def test_a_renewed_token_is_used_at_once(box, job, stored, form) -> None:
    """Connections that were made with the old token do not keep the new one from being used."""
    remote = with_urls(stored, lambda file: FORMS[form](box, file))
    # The same files by URLs that no worker has open.
    fresh = with_urls(stored, lambda file: FORMS[form](box, file) + "?fresh=1")
    token, good = Path(job.access.token_file), box.token("storage.read:/lake/cms", *NAMES)
    url = box.url("NORTH-DISK", lake_path(stored.files[0]))
    try:
        short = used_up(box, job, replace(remote, files=remote.files[:1]))
        wait_for("the token's end", lambda: box.http("HEAD", url, short).status in {401, 403}, timeout_s=120)
        with pytest.raises(AuthError, match="refused"):
            job.run(replace(fresh, files=fresh.files[1:2]))
        write_token(token, good)
        job.check(job.run(fresh))
    finally:
        write_token(token, good)


@pytest.mark.parametrize("form", ["root", "https"])
def test_a_token_for_something_else_is_refused(box, job, stored, form) -> None:
    token = Path(job.access.token_file)
    good = token.read_text()
    try:
        write_token(token, box.token("storage.read:/lake/other", *NAMES))
        remote = with_urls(stored, lambda file: FORMS[form](box, file) + "?other=1")
        with pytest.raises(AuthError, match="reading was refused") as caught:
            job.run(remote)
        assert caught.value.remedy == "boathouse login"
        assert "the storage refused the token" in assert_short(caught.value)
    finally:
        write_token(token, good)


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_is_nowhere_is_told_in_short_lines(box, job, stored, form) -> None:
    one = replace(stored, files=stored.files[:1])
    gone = with_urls(one, lambda file: FORMS[form](box, replace(file, name=f"{file.name}-gone")))
    with pytest.raises(StorageError, match="no replica could be read") as caught:
        job.run(gone)
    assert "the storage has no such file" in assert_short(caught.value)
    assert (caught.value.where, caught.value.remedy) == (gone.files[0].name, "boathouse audit")


def test_a_dead_storage_element_is_told_in_short_lines(box, job, stored) -> None:
    box.stop("se-south-disk")
    try:
        remote = with_urls(
            stored,
            lambda file: box.through_cache("SOUTH-DISK", f"{lake_path(file)}?cold=1", "root"),
            lambda file: root(box, "SOUTH-DISK", file),
            lambda file: box.url("SOUTH-DISK", lake_path(file)),
        )
        with pytest.raises(StorageError, match="no replica could be read") as caught:
            job.run(remote)
    finally:
        box.start("se-south-disk")
    assert "onnection" in assert_short(caught.value)
    assert caught.value.remedy == "boathouse status"


def test_an_old_token_in_the_callers_environment_is_in_nobodys_way(box, job, stored, monkeypatch) -> None:
    monkeypatch.setenv("BEARER_TOKEN", box.token("storage.read:/lake/other", *NAMES))
    remote = with_urls(stored, lambda file: FORMS["root"](box, file))
    with LocalDask(1, environment=job.access.environment()) as backend:
        job.check(run(tasks.load(EXAMPLE), remote, backend, access=job.access))


@pytest.mark.parametrize("form", ["root", "https"])
def test_a_server_of_another_authority_is_not_believed(box, access, stored, form) -> None:
    strangers = replace(access, ca_bundle="/etc/ssl/certs/ca-certificates.crt")
    remote = with_urls(stored, lambda file: FORMS[form](box, file))
    with LocalDask(1, environment=strangers.environment()) as backend, pytest.raises(StorageError) as caught:
        run(tasks.load(EXAMPLE), remote, backend, access=strangers)
    assert "TLS" in str(caught.value.got) or "CERTIFICATE_VERIFY_FAILED" in str(caught.value.got)
