from __future__ import annotations

import re
from pathlib import Path

import awkward as ak
import numpy as np

from boathouse.analysis import task as tasks
from boathouse.analysis.events import Events

PAGE = Path(__file__).parents[3] / "docs" / "topics" / "analysis.md"


def test_the_example_of_the_documentation_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "leading.py").write_text(code)
    task = tasks.load(tmp_path / "leading.py")
    pt = ak.values_astype(ak.Array([[30.0, 10.0], [], [7.0]]), "float32")
    out = tasks.run(task, Events({"nMuon": np.array([2, 0, 1]), "Muon_pt": pt}, count=3))
    assert out.counts == {"all events": 3, "with a muon": 2}
    assert out.rows["pt"].tolist() == [30.0, 7.0]


def test_the_picture_of_the_documentation_is_there() -> None:
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", PAGE.read_text()):
        assert (PAGE.parent / picture).resolve().is_file()
