"""Doctor on a real installation and a running facility."""

from __future__ import annotations

import json

from boathouse.testing.box import Box


def test_a_sound_facility_has_no_failure(lake_box: Box) -> None:
    findings = json.loads(lake_box.cli("doctor", "--json").stdout)
    by_name = {finding["name"]: finding for finding in findings}
    assert [finding for finding in findings if finding["verdict"] == "fail"] == []
    assert {"xrootd", "postgres", "rucio", "state", "secrets", "certificates", "units"} <= set(by_name)
    assert by_name["units"]["detail"] == f"all {len(lake_box.local.plan.units)} are ready"


def test_people_read_the_same(lake_box: Box) -> None:
    shown = lake_box.cli("doctor").stdout
    assert "units" in shown
    assert "Traceback" not in shown
