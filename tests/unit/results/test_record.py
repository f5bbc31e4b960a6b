from __future__ import annotations

import copy
import json
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from boathouse.analysis import task as tasks
from boathouse.analysis.dataset import from_paths
from boathouse.analysis.run import Histograms, run
from boathouse.analysis.samples import Sample, make_file
from boathouse.compute.inline import Inline
from boathouse.errors import InputError
from boathouse.results import record
from boathouse.results.write import require_writable, write

DIMUON = Path(__file__).parents[3] / "examples" / "analysis" / "dimuon.py"


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Histograms:
    made = make_file(Sample(events=5_000, files=1, seed=3), 0, tmp_path_factory.mktemp("sample"))
    return run(tasks.load(DIMUON), from_paths([made.path]), Inline())


def context(code: Path = DIMUON) -> record.Context:
    return record.Context(user="alice", facility="laptop", code=code)


def test_a_result_is_a_directory_with_a_record(result: Histograms, tmp_path: Path) -> None:
    document = write(result, tmp_path / "r", context()).document
    assert sorted(path.name for path in (tmp_path / "r").iterdir()) == [
        "dimuon_mass.png",
        "histograms.json",
        "histograms.root",
        "ntuple.root",
        "record.json",
    ]
    assert record.load(tmp_path / "r") == document
    assert set(document["result"]) == {"dimuon_mass.png", "histograms.json", "histograms.root", "ntuple.root"}


def test_a_record_names_inputs_code_environment_and_counts(result: Histograms, tmp_path: Path) -> None:
    document = write(result, tmp_path, context()).document
    (file,) = document["inputs"]["files"]
    assert file == {
        "did": result.dataset.files[0].name,
        "size_bytes": result.dataset.files[0].size_bytes,
        "adler32": result.dataset.files[0].adler32,
    }
    assert document["code"]["sha256"] == result.task.sha256
    assert document["environment"]["packages"]["uproot"]
    assert document["environment"]["python"].startswith("3.")
    assert document["events"]["read"] == 5_000
    assert document["events"]["cutflow"][0] == {"step": "all events", "events": 5_000}
    assert document["run"]["user"] == "alice"
    assert document["run"]["facility"] == "laptop"


def test_the_file_is_in_canonical_form(result: Histograms, tmp_path: Path) -> None:
    write(result, tmp_path, context())
    text = (tmp_path / "record.json").read_bytes()
    assert text == record.canonical(json.loads(text))
    assert text.count(b"\n") == 1


def test_content_is_the_same_when_made_again(result: Histograms, tmp_path: Path) -> None:
    first = write(result, tmp_path / "a", context()).document
    second = write(result, tmp_path / "b", record.Context(user="bob", facility=None, code=DIMUON)).document
    assert first["content"] == second["content"]
    assert first["sha256"] != second["sha256"]


def test_content_differs_with_the_code(result: Histograms, tmp_path: Path) -> None:
    first = write(result, tmp_path / "a", context()).document
    changed = json.loads(json.dumps(first))
    changed["code"]["sha256"] = "0" * 64
    assert record.content_hash(changed) != first["content"]


def test_an_altered_record_is_refused(result: Histograms, tmp_path: Path) -> None:
    write(result, tmp_path, context())
    path = tmp_path / "record.json"
    path.write_text(path.read_text().replace('"user":"alice"', '"user":"mallory"'))
    with pytest.raises(InputError, match="altered"):
        record.load(tmp_path)


def test_an_altered_or_missing_file_is_refused(result: Histograms, tmp_path: Path) -> None:
    write(result, tmp_path, context())
    (tmp_path / "histograms.json").write_text("{}")
    with pytest.raises(InputError, match="not the one that the record names"):
        record.load(tmp_path)
    (tmp_path / "histograms.json").unlink()
    with pytest.raises(InputError, match="missing"):
        record.load(tmp_path)


def test_a_directory_without_a_record_is_no_result(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a result"):
        record.load(tmp_path)
    (tmp_path / "record.json").write_text("[]")
    with pytest.raises(InputError, match="cannot be read"):
        record.load(tmp_path)


def test_a_directory_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such directory"):
        record.load(tmp_path / "nothing")


def test_the_record_before_is_found(result: Histograms, tmp_path: Path) -> None:
    assert record.earlier(tmp_path / "r") is None
    document = write(result, tmp_path / "r", context()).document
    assert record.earlier(tmp_path / "r") == document
    (tmp_path / "r" / record.FILE_NAME).write_text("[]")
    assert record.earlier(tmp_path / "r") is None


def with_histograms(result: Histograms, *names: str) -> Histograms:
    """The same result of an analysis with other histograms."""
    output = copy.copy(result.output)
    output.histograms = {name: next(iter(result.output.histograms.values())) for name in names}
    return replace(result, output=output)


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_a_result_replaces_the_one_before_as_a_whole(result: Histograms, tmp_path: Path) -> None:
    place = tmp_path / "r"
    write(with_histograms(result, "one", "two"), place, context())
    place.chmod(0o750)
    document = write(with_histograms(result, "two", "three"), place, context()).document
    assert {name for name in names(place) if name.endswith(".png")} == {"two.png", "three.png"}
    assert names(place) == {*document["result"], record.FILE_NAME}
    assert record.load(place) == document
    assert stat.S_IMODE(place.stat().st_mode) == 0o750
    assert names(tmp_path) == {"r"}


def test_a_result_that_cannot_be_finished_leaves_the_one_before(result: Histograms, tmp_path: Path) -> None:
    place = tmp_path / "r"
    document = write(result, place, context()).document
    with pytest.raises(InputError, match="cannot be written"):
        write(with_histograms(result, "x" * 300), place, context())
    assert record.load(place) == document
    assert names(tmp_path) == {"r"}


def test_a_result_with_a_file_less_is_replaced(result: Histograms, tmp_path: Path) -> None:
    write(result, tmp_path / "r", context())
    (tmp_path / "r" / "histograms.json").unlink()
    document = write(result, tmp_path / "r", context()).document
    assert record.load(tmp_path / "r") == document


def test_a_link_stays_and_its_target_is_replaced(result: Histograms, tmp_path: Path) -> None:
    write(with_histograms(result, "one"), tmp_path / "r", context())
    (tmp_path / "link").symlink_to("r")
    document = write(result, tmp_path / "link", context()).document
    assert (tmp_path / "link").is_symlink()
    assert record.load(tmp_path / "r") == document


@pytest.mark.parametrize("other", ["notes.txt", "sub/notes.txt", "record.json"])
@pytest.mark.parametrize("result_there", [True, False])
def test_what_is_no_result_of_ours_is_refused_and_left_alone(
    result: Histograms, tmp_path: Path, other: str, result_there: bool
) -> None:
    place = tmp_path / "r"
    if result_there:
        write(result, place, context())
    (place / other).parent.mkdir(parents=True, exist_ok=True)
    (place / other).write_text("mine")
    before = sorted(place.rglob("*"))
    with pytest.raises(InputError, match="other files are there") as caught:
        require_writable(place)
    assert set(str(caught.value.got).split(", ")) <= {*names(place), "…"}
    assert caught.value.where == str(place)
    assert "--out" in str(caught.value.remedy)
    # It came after the question: hours of reading are not thrown away for it.
    for beside in ("r-2", "r-3"):
        written = write(result, place, context())
        assert written.directory == tmp_path / beside
        assert record.load(written.directory) == written.document
    assert names(tmp_path) == {"r", "r-2", "r-3"}
    assert sorted(place.rglob("*")) == before
    assert (place / other).read_text() == "mine"


def test_the_working_directory_is_not_replaced(
    result: Histograms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for place in (Path(), Path(".."), tmp_path, Path("/proc")):
        with pytest.raises(InputError, match="cannot take the place of this directory") as caught:
            write(result, place, context())
        assert "--out" in str(caught.value.remedy)
    write(result, Path("result"), context())
    assert record.load(tmp_path / "here" / "result")


@pytest.mark.parametrize("place", ["/proc/result", "/proc/version/result"])
def test_whether_a_result_can_be_written_is_known_before_there_is_one(place: str) -> None:
    with pytest.raises(InputError, match="the result cannot be written") as caught:
        require_writable(Path(place))
    assert caught.value.where == place
    assert "--out" in str(caught.value.remedy)


def test_to_look_whether_a_result_can_be_written_leaves_no_trace(tmp_path: Path) -> None:
    require_writable(tmp_path / "a" / "b")
    require_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_commit_of_the_code_is_recorded(tmp_path: Path) -> None:
    code = tmp_path / "a.py"
    code.write_text("x = 1\n")
    assert record.git_state(code) == {}
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "a.py"], ["commit", "-q", "-m", "Begin"]):
        subprocess.run([*git, *command], check=True)
    state = record.git_state(code)
    assert len(state["commit"]) == 40
    assert state["changed_since_commit"] is False
    code.write_text("x = 2\n")
    assert record.git_state(code)["changed_since_commit"] is True


def test_a_directory_that_cannot_be_written_is_named(result: Histograms, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "r", tmp_path / "file"):
        for refused in (
            lambda place=place: require_writable(place),
            lambda place=place: write(result, place, context()),
        ):
            with pytest.raises(InputError, match="cannot be written"):
                refused()
