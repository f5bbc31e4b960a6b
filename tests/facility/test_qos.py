"""Quality of service: labels decide where data are, and another label moves them."""

from __future__ import annotations

from boathouse.lake.names import Did
from boathouse.testing.box import Box
from boathouse.testing.wait import wait_for

QOS_OF = {"CNAF-STORM": "FAST", "DESY-DCACHE": "SAFE", "PIC-DCACHE": "B", "SARA-DCACHE": "CHEAP-ANALYSIS"}


def test_a18_a_label_says_where_files_land_and_another_label_moves_them(lake_box: Box) -> None:
    did = Did("testing", "a18-labelled.dat")
    path = lake_box.work / did.name
    path.write_bytes(b"labelled" * 1000)
    lake = lake_box.login("alice")
    lake_box.cli("put", path, "--scope", did.scope, "--qos", "CHEAP-ANALYSIS", user="alice")
    assert places(lake_box, did) == {"SARA-DCACHE": "AVAILABLE"}

    (rule,) = lake.rules.of(did)
    moved = lake_box.cli("rule", "move", rule.id, "QOS=SAFE", "--wait", user="alice").stdout.strip()
    assert places(lake_box, did)["DESY-DCACHE"] == "AVAILABLE"
    wait_for(
        "the old copy is gone, and only after the new one was there",
        lambda: places(lake_box, did) == {"DESY-DCACHE": "AVAILABLE"},
        timeout_s=180,
    )
    (left,) = lake.rules.of(did)
    assert (left.id, left.rse_expression, left.state) == (moved, "QOS=SAFE", "OK")
    assert not list((lake_box.local.plan.layout.data / "se-sara-dcache").rglob(did.name))


def test_a18_stock_clients_see_the_same_labels(lake_box: Box) -> None:
    lake = lake_box.login("alice")
    for rse, label in QOS_OF.items():
        assert rse in lake.catalogue.rses(f"QOS={label}")


def places(running: Box, did: Did) -> dict[str, str]:
    (found,) = running.login("alice").catalogue.replicas([did], all_states=True)
    return dict(found.states)
