from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from boathouse.analysis import task as tasks
from boathouse.analysis.events import Events
from boathouse.errors import AnalysisError, InputError

GOOD = '''"""Counts things.

More words."""
from boathouse.analysis import Axis, Histogram
columns = ("n",)
histograms = {"n": Histogram(Axis(4, 0, 4))}
cutflow = ("all", "some")
ntuple = {"n": "int32"}
def process(events, out):
    out.count("all", events)
    some = events[events["n"] > 1]
    out.count("some", len(some))
    out.fill("n", some["n"])
    out.keep(n=some["n"])
'''


def load(tmp_path: Path, source: str) -> tasks.Task:
    path = tmp_path / "user.py"
    path.write_text(source)
    return tasks.load(path)


def three() -> Events:
    return Events({"n": np.array([1, 2, 3])}, count=3)


def test_a_task_says_what_it_reads_and_fills(tmp_path: Path) -> None:
    task = load(tmp_path, GOOD)
    assert (task.name, task.tree, task.columns, task.cutflow) == ("user.py", "Events", ("n",), ("all", "some"))
    assert task.description == "Counts things."
    assert len(task.sha256) == 64


def test_a_task_runs_after_a_journey(tmp_path: Path) -> None:
    task = pickle.loads(pickle.dumps(load(tmp_path, GOOD)))
    out = tasks.run(task, three())
    assert out.counts == {"all": 3, "some": 2}
    assert out.histograms["n"].inside.tolist() == [0.0, 0.0, 1.0, 1.0]
    assert out.rows["n"].tolist() == [2, 3]
    assert out.rows["n"].dtype == np.int32


def test_outputs_merge(tmp_path: Path) -> None:
    task = load(tmp_path, GOOD)
    first, second = tasks.run(task, three()), tasks.run(task, three())
    first.merge(second)
    assert first.counts == {"all": 6, "some": 4}
    assert first.rows["n"].tolist() == [2, 3, 2, 3]
    assert first.histograms["n"].entries == 4


@pytest.mark.parametrize(
    ("line", "got", "shown"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero", "1 / 0"),
        ("events['m']", "KeyError: m: the analysis reads n; add it to columns", "events['m']"),
        ("out.count('sme', 1)", "KeyError: 'sme' is not in cutflow, which has 'all', 'some'", "out.count('sme', 1)"),
        ("out.fill('m', [1])", "KeyError: 'm' is not in histograms, which has 'n'", "out.fill('m', [1])"),
        ("out.keep(m=[1])", "ValueError: the ntuple has the columns n, not m", "out.keep(m=[1])"),
    ],
)
def test_a_users_exception_shows_the_users_line(tmp_path: Path, line: str, got: str, shown: str) -> None:
    task = load(tmp_path, GOOD + f"    {line}\n")
    with pytest.raises(AnalysisError) as caught:
        tasks.run(task, three())
    assert caught.value.got == got
    assert caught.value.where == f"user.py, line 15, in process: {shown}"
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (GOOD.replace("def process", "def proces"), "no function process(events, out)"),
        (GOOD.replace('columns = ("n",)', 'columns = "n"'), "no columns = (names of branches)"),
        (GOOD.replace("histograms = {", "histogram = {"), "no histograms = {name: Histogram(...)}"),
        (GOOD.replace('{"n": Histogram', '{"n/m": Histogram'), "histogram names become file names"),
        (GOOD.replace('"some")', '"all")'), "cutflow is not a tuple of different names"),
        (GOOD.replace('"int32"', '"int33"'), "ntuple is not {column: NumPy type}"),
    ],
)
def test_a_broken_contract_is_named(tmp_path: Path, source: str, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        load(tmp_path, source)
    assert problem in str(caught.value.got)


def test_python_that_is_none_is_shown(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not valid Python") as caught:
        load(tmp_path, "x = 1\ndef f(:\n")
    assert caught.value.where == "user.py, line 2: def f(:"


def test_an_exception_at_the_top_level_is_shown(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError) as caught:
        load(tmp_path, "import does_not_exist_anywhere\n")
    assert caught.value.where == "user.py, line 1, in <module>: import does_not_exist_anywhere"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        tasks.load(tmp_path / "no.py")
    assert caught.value.where == str(tmp_path / "no.py")
