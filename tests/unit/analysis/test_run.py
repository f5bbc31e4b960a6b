from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from boathouse.analysis import task as tasks
from boathouse.analysis.dataset import Dataset, InputFile, from_lake, from_paths
from boathouse.analysis.reader import Attempt, _all_failed, _reason
from boathouse.analysis.run import Histograms, run
from boathouse.analysis.samples import Sample, make_file
from boathouse.compute.base import Item, Result
from boathouse.compute.inline import Inline
from boathouse.errors import AnalysisError, InputError, NotFoundError, StorageError
from boathouse.lake.names import Did

ROOT = Path(__file__).parents[3]
DIMUON = ROOT / "examples" / "analysis" / "dimuon.py"
REAL = ROOT.parent / "shared" / "data" / "cms2012_dimuon_100k.root"


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    directory = tmp_path_factory.mktemp("sample")
    sample = Sample(events=50_000, files=2, seed=3)
    return [make_file(sample, index, directory).path for index in range(2)]


class Backwards(Inline):
    """Completes the last item first, as many workers may."""

    def apply(
        self, function: Callable[[Item], Result], items: Sequence[Item], subjects: Sequence[Hashable] | None = None
    ) -> Iterator[tuple[int, Result]]:
        for index in reversed(range(len(items))):
            yield index, function(items[index])


class Forgetful(Inline):
    """Loses the last item."""

    def apply(
        self, function: Callable[[Item], Result], items: Sequence[Item], subjects: Sequence[Hashable] | None = None
    ) -> Iterator[tuple[int, Result]]:
        lost = len(items) - 1 if function.__name__ == "process" else len(items)
        for index, item in enumerate(items):
            if index != lost:
                yield index, function(item)


def same(one: Histograms, other: Histograms) -> bool:
    equal = one.output.counts == other.output.counts
    for name, filled in one.output.histograms.items():
        equal &= np.array_equal(filled.sums, other.output.histograms[name].sums)
        equal &= np.array_equal(filled.squares, other.output.histograms[name].squares)
    for name, rows in one.output.rows.items():
        equal &= np.array_equal(rows, other.output.rows[name])
    return equal


def test_the_published_cut_flow_of_the_real_file() -> None:
    if not REAL.exists():
        pytest.skip("the real file is not part of the project")
    result = run(tasks.load(DIMUON), from_paths([REAL]), Inline(), chunk_entries=30_000)
    assert list(result.output.counts.values()) == [100_000, 48_976, 37_183]
    assert result.output.histograms["dimuon_mass"].entries == 37_183
    assert result.events == 100_000


def test_the_cut_flow_of_generated_events(paths: list[Path]) -> None:
    result = run(tasks.load(DIMUON), from_paths(paths), Inline())
    assert list(result.output.counts.values()) == [50_000, 23510, 16347]
    assert len(result.output.rows["mass"]) == result.output.counts["opposite charges"]
    assert [account.read for account in result.accounts] == [25_000, 25_000]


def test_the_result_does_not_depend_on_chunks_or_their_order(paths: list[Path]) -> None:
    task, dataset = tasks.load(DIMUON), from_paths(paths)
    reference = run(task, dataset, Inline())
    assert same(reference, run(task, dataset, Inline(), chunk_entries=3_333))
    assert same(reference, run(task, dataset, Backwards(), chunk_entries=5_000))
    assert same(reference, run(task, from_paths(paths[::-1]), Inline()))


def test_weighted_sums_do_not_depend_on_the_order_of_completion(paths: list[Path], tmp_path: Path) -> None:
    source = DIMUON.read_text().replace('"dimuon_mass", dimuon.mass)', '"dimuon_mass", dimuon.mass, weight=dimuon.pt)')
    weighted = tmp_path / "weighted.py"
    weighted.write_text(source)
    task, dataset = tasks.load(weighted), from_paths(paths)
    assert same(run(task, dataset, Inline(), chunk_entries=4_000), run(task, dataset, Backwards(), chunk_entries=4_000))


def test_a_lost_chunk_is_an_error(paths: list[Path]) -> None:
    with pytest.raises(AnalysisError, match="not every event was processed") as caught:
        run(tasks.load(DIMUON), from_paths(paths), Forgetful())
    assert caught.value.expected == f"25000 of {paths[1]}"
    assert caught.value.got == "0"


def test_progress_reaches_the_total(paths: list[Path]) -> None:
    calls: list[tuple[int, int]] = []
    run(
        tasks.load(DIMUON), from_paths(paths), Inline(), chunk_entries=10_000, progress=lambda *call: calls.append(call)
    )
    assert calls[0] == (0, 50_000)
    assert calls[-1] == (50_000, 50_000)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_a_missing_branch_is_answered_with_the_nearest(paths: list[Path], tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(DIMUON.read_text().replace('"Muon_pt", "Muon_eta"', '"Muon_ptt", "Muon_eta"'))
    with pytest.raises(AnalysisError) as caught:
        run(tasks.load(wrong), from_paths(paths), Inline())
    assert caught.value.expected == "Muon_ptt"
    assert str(caught.value.remedy).startswith("nearest names, instead of Muon_ptt: Muon_pt")


def test_a_missing_tree_is_answered_with_those_there_are(paths: list[Path], tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(DIMUON.read_text() + '\ntree = "events"\n')
    dataset = from_paths(paths[:1])
    in_lake = replace(dataset, files=(replace(dataset.files[0], name="cms:one.root"),))
    with pytest.raises(AnalysisError, match="no such tree") as caught:
        run(tasks.load(wrong), in_lake, Inline())
    assert (caught.value.expected, caught.value.got) == ("events", "the trees Events")
    assert caught.value.where == "cms:one.root"
    assert "tree = 'Events'" in str(caught.value.remedy)


def elsewhere(paths: list[Path], *urls: str) -> Dataset:
    dataset = from_paths(paths)
    return replace(dataset, files=tuple(replace(file, urls=(*urls, *file.urls)) for file in dataset.files))


def test_the_next_replica_is_read_when_one_is_gone(paths: list[Path], tmp_path: Path) -> None:
    task = tasks.load(DIMUON)
    gone = str(tmp_path / "gone.root")
    result = run(task, elsewhere(paths, gone), Inline())
    assert same(result, run(task, from_paths(paths), Inline()))
    assert {attempt.url for attempt in result.failed} == {gone}


@pytest.mark.parametrize("damage", ["short", "foreign", "baskets"])
def test_a_damaged_replica_is_passed_over(paths: list[Path], tmp_path: Path, damage: str) -> None:
    content = bytearray(paths[0].read_bytes())
    if damage == "short":
        content = content[: len(content) // 2]
    elif damage == "foreign":
        content = bytearray(b"<html>not found</html>" * 100)
    else:
        content[3000 : len(content) - 3000] = bytes(len(content) - 6000)
    bad = tmp_path / "bad.root"
    bad.write_bytes(content)
    task = tasks.load(DIMUON)
    result = run(task, elsewhere(paths[:1], str(bad)), Inline())
    assert same(result, run(task, from_paths(paths[:1]), Inline()))
    assert {attempt.url for attempt in result.failed} == {str(bad)}


def test_when_all_replicas_are_gone_each_is_named(tmp_path: Path) -> None:
    gone = InputFile("cms:x.root", 1000, "00000000", (str(tmp_path / "a.root"), str(tmp_path / "b.root")))
    with pytest.raises(StorageError, match="no replica could be read") as caught:
        run(tasks.load(DIMUON), Dataset("cms:x", (gone,)), Inline())
    assert caught.value.where == "cms:x.root"
    assert "a.root" in str(caught.value.got)
    assert "b.root" in str(caught.value.got)


def test_a_replica_of_the_wrong_size_is_refused(paths: list[Path]) -> None:
    dataset = from_paths(paths[:1])
    (file,) = dataset.files
    with pytest.raises(StorageError) as caught:
        run(tasks.load(DIMUON), replace(dataset, files=(replace(file, size_bytes=1),)), Inline())
    assert "wrong size" in str(caught.value.got)


def test_a_truncated_input_is_refused_by_name(paths: list[Path], tmp_path: Path) -> None:
    short = tmp_path / "short.root"
    short.write_bytes(paths[0].read_bytes()[:-100])
    with pytest.raises(InputError, match="truncated") as caught:
        from_paths([paths[0], short])
    assert caught.value.where == str(short)


class Finder:
    """Answers as a lake does."""

    def __init__(self, *files: InputFile) -> None:
        self.found = [_Found(Did.parse(file.name), file.size_bytes, file.adler32, file.urls) for file in files]

    def files(self, did: Did, *, site: str | None = None) -> list[_Found]:
        return self.found


class _Found:
    def __init__(self, did: Did, size_bytes: int, adler32: str, urls: tuple[str, ...]) -> None:
        self.did, self.size_bytes, self.adler32, self.urls = did, size_bytes, adler32, urls


def test_an_input_of_the_lake_that_is_no_root_file_is_named_by_its_did(tmp_path: Path) -> None:
    text = tmp_path / "README.md"
    text.write_text("no events here\n" * 100)
    file = InputFile("cms:README.md", text.stat().st_size, "00000000", (f"root://nowhere//{text}",))
    error = _all_failed(
        file, [Attempt(file.urls[0], "")], [InputError("not a ROOT file", got="text", where=file.urls[0])]
    )
    assert isinstance(error, InputError)
    assert (error.what, error.where) == ("not a ROOT file", "cms:README.md")
    assert "boathouse ls" in str(error.remedy)


def test_replicas_that_all_failed_are_told_in_short_lines() -> None:
    first, second = "root://127.0.1.12:1094//roots://127.0.1.11:1094//lake/cms/x", "root://127.0.1.11:1094//lake/cms/x"
    gone = StorageError("the storage has no such file", got="no such file", where=second, remedy="boathouse audit")
    failed = [Attempt(first, _reason(gone)), Attempt(first, _reason(gone)), Attempt(second, _reason(OSError()))]
    file = InputFile("cms:x", 500, "00000000", (first, second))
    error = _all_failed(file, failed, [gone, gone, OSError()])
    assert error.got == "127.0.1.12:1094: the storage has no such file: no such file; 127.0.1.11:1094: OSError"
    assert (error.where, error.remedy) == ("cms:x", "boathouse status")
    assert _all_failed(file, failed[:2], [gone, gone]).remedy == "boathouse audit"


def test_an_input_that_is_shorter_than_any_root_file_is_said_to_be_none(tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.write_text("hi")
    file = InputFile(str(short), 2, "00000000", (str(short),))
    with pytest.raises(InputError, match="not a ROOT file") as caught:
        run(tasks.load(DIMUON), Dataset("local files", (file,)), Inline())
    assert caught.value.got == "2 bytes"


def test_a_dataset_is_named_by_its_content() -> None:
    one = InputFile("cms:a", 1, "00000001", ("root://x//a",))
    two = InputFile("cms:b", 2, "00000002", ("root://x//b",))
    did = Did("cms", "set")
    dataset = from_lake(Finder(two, one), did)
    assert [file.name for file in dataset.files] == ["cms:a", "cms:b"]
    assert dataset.size_bytes == 3
    moved = replace(one, urls=("root://y//a",))
    assert from_lake(Finder(moved, two), did).sha256 == dataset.sha256
    changed = replace(one, adler32="00000003")
    assert from_lake(Finder(changed, two), did).sha256 != dataset.sha256


def test_an_empty_dataset_and_lost_files_are_named() -> None:
    with pytest.raises(NotFoundError, match="empty"):
        from_lake(Finder(), Did("cms", "set"))
    with pytest.raises(InputError) as caught:
        from_lake(Finder(InputFile("cms:a", 1, "00000001", ())), Did("cms", "set"))
    assert caught.value.got == "cms:a"
