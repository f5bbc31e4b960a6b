"""ROOT's RDataFrame, unmodified, over the XRootD protocol and with a token file: each element, each layer of caches."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from boathouse.analysis import task as tasks
from boathouse.analysis.dataset import from_paths
from boathouse.analysis.run import run
from boathouse.analysis.samples import Sample, make_file
from boathouse.compute.inline import Inline
from boathouse.plan.service import Programs

from .conftest import Box
from .doors import CACHES, CHAIN, ELEMENTS, Door, servers

EXAMPLE = Path(__file__).parents[3] / "examples" / "analysis" / "dimuon.py"
PLACE = "/lake/cms/rdataframe/dimuon.root"

# What the example does, in ROOT's own words (its tutorial df102); a line for each URL.
DIMUON = """
import json
import sys

import ROOT

for url in sys.argv[1:]:
    events = ROOT.RDataFrame("Events", url)
    two = events.Filter("nMuon == 2")
    pairs = two.Filter("Muon_charge[0] != Muon_charge[1]")
    masses = pairs.Define("mass", "ROOT::VecOps::InvariantMass(Muon_pt, Muon_eta, Muon_phi, Muon_mass)")
    counts, mean = [each.Count() for each in (events, two, pairs)], masses.Mean("mass")
    print(json.dumps({"counts": [each.GetValue() for each in counts], "mean": mean.GetValue()}), flush=True)
"""


@dataclass(frozen=True)
class Wanted:
    """A file, and what Boathouse's own analysis finds in it."""

    content: bytes
    counts: list[int]
    mean: float


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> Wanted:
    path = make_file(Sample(events=20_000, files=1, seed=5), 0, tmp_path_factory.mktemp("sample")).path
    found = run(tasks.load(EXAMPLE), from_paths([path]), Inline()).output
    return Wanted(Path(path).read_bytes(), list(found.counts.values()), float(np.mean(found.rows["mass"])))


@pytest.mark.parametrize(("place", "doors"), [("box", (*ELEMENTS, *CACHES)), ("layered", CHAIN)])
def test_a110_rdataframe_reads_at_every_element_and_layer(  # noqa: PLR0917 - fixtures
    request: pytest.FixtureRequest,
    programs: Programs,
    wanted: Wanted,
    place: str,
    doors: Sequence[Door],
    tmp_path: Path,
) -> None:
    box: Box = request.getfixturevalue(place)
    for element in {door.element for door in doors}:
        box.put(element, PLACE, wanted.content)
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text(box.token("storage.read:/lake/cms", *servers(box)))
    python = programs.python.parents[2] / "peers" / "bin" / "python"
    assert python.exists(), f"{python} is missing: run `make install`"
    urls = [box.context.url(f"{door.server}.root", "root") + "/" + door.path(box, PLACE) for door in doors]
    done = subprocess.run(
        [str(python), "-c", DIMUON, *urls],
        env={
            "PATH": os.defpath,
            "HOME": str(tmp_path),
            "BEARER_TOKEN_FILE": str(token),
            "X509_CERT_DIR": str(box.context.layout.ca_directory),
            "XrdSecPROTOCOL": "ztn",
        },
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    for door, line in zip(doors, done.stdout.splitlines(), strict=True):
        found = json.loads(line)
        assert found["counts"] == wanted.counts, door
        assert found["mean"] == pytest.approx(wanted.mean, rel=1e-5), door
