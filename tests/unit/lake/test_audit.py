from __future__ import annotations

import pytest

from boathouse.lake.audit import _hashed_to
from boathouse.lake.names import Did, hash_path


@pytest.mark.parametrize(
    "did",
    [
        Did("cms", "x.root"),
        Did("cms", "run/1/x.root"),
        Did("cms.raw", "x.root"),
        Did("user.alice", "plots/mass.png"),
        Did("group.phys.muon", "x.root"),
    ],
)
def test_a_file_that_was_registered_meanwhile_is_asked_for_by_its_name(did: Did) -> None:
    assert _hashed_to(hash_path(did)) == [did]


@pytest.mark.parametrize("path", ["x.root", "cms/x.root", "cms/raw/x.root", "cms/run/1/x.root"])
def test_no_name_follows_from_a_path_that_is_not_hashed(path: str) -> None:
    assert _hashed_to(path) == []
