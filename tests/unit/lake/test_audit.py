from __future__ import annotations

import pytest

from boathouse.lake.audit import Report, _Audit
from boathouse.lake.lake import Lake
from boathouse.lake.names import Did, hash_path


@pytest.mark.parametrize("did", [Did("cms", "x.root"), Did("cms", "run/1/x.root"), Did("user.alice", "plots/mass.png")])
def test_a_file_that_was_registered_meanwhile_is_asked_for_by_its_name(did: Did) -> None:
    audit = _Audit(Lake.__new__(Lake), Report(), "NORTH", "https://127.0.1.11:1094/lake", 300.0)
    assert did in audit.candidates(f"/lake/{hash_path(did)}")


def test_where_paths_are_kept_the_last_part_is_the_name() -> None:
    audit = _Audit(Lake.__new__(Lake), Report(), "NORTH_RAW", "https://127.0.1.11:1094/lake", 300.0)
    assert Did("cms", "x.root") in audit.candidates("/lake/cms/x.root")
    assert Did("cms", "x.root") in audit.candidates("/lake/cms/run/1/x.root")
    assert audit.candidates("/lake/x.root") == []
