"""Replication rules: rows A13 to A17, A20, A23."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from boathouse.errors import ConflictError, InputError
from boathouse.lake.lake import OPERATOR, Lake
from boathouse.lake.names import Did
from boathouse.lake.rules import Rule
from boathouse.testing.box import Box
from boathouse.testing.wait import wait_for

LABELS = (
    *("Id", "Account", "Scope", "Name", "RSE Expression", "Copies", "State", "Locks OK/REPLICATING/STUCK"),
    *("Grouping", "Expires at", "Locked", "Weight", "Created at", "Updated at", "Error", "Subscription Id"),
    *("Source replica expression", "Activity", "Comment", "Ignore Quota", "Ignore Availability", "Purge replicas"),
    *("Notification", "End of life", "Child Rule Id"),
)


@pytest.fixture(scope="module")
def dataset(lake_box: Box) -> Did:
    """Three files on CNAF-STORM."""
    folder = lake_box.work / "rules"
    folder.mkdir()
    for number in range(3):
        (folder / f"rules-{number}.dat").write_bytes(os.urandom(1000 * number))
    did = Did("testing", "rules")
    lake_box.login("alice").put(sorted(folder.iterdir()), scope="testing", dataset=did, rse_expression="CNAF-STORM")
    return did


def lines(text: str) -> dict[str, str]:
    """Values of a rule-info block by label, in order."""
    return {label: value.strip() for label, _, value in (line.partition(":") for line in text.splitlines())}


def test_a13_a14_the_block_of_25_fields_is_that_of_the_stock_client(lake_box: Box, dataset: Did) -> None:
    rule_id = lake_box.cli(
        *("rule", "add", str(dataset), "QOS=SAFE", "--lifetime", "4 h", "--comment", "a note", "--wait"),
        user="alice",
    ).stdout.strip()
    ours = lake_box.cli("rule", "show", rule_id, user="alice").stdout
    assert tuple(lines(ours)) == LABELS
    assert lines(ours)["State"] == "OK"
    assert lines(ours)["Locks OK/REPLICATING/STUCK"] == "3/0/0"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", lines(ours)["Expires at"])
    environment = lake_box.env("alice")
    # Daemons may touch the rule between the two answers.
    wait_for(
        "the same of both clients",
        lambda: (
            lines(stock_cli(environment, "rule", "show", rule_id))
            == lines(lake_box.cli("rule", "show", rule_id, user="alice").stdout)
        ),
    )
    document = json.loads(lake_box.cli("rule", "show", rule_id, "--json", user="alice").stdout)
    assert len(document) == len(LABELS)
    assert document["locks"] == {"ok": 3, "replicating": 0, "stuck": 0}
    assert (document["comment"], document["grouping"], document["locked"]) == ("a note", "DATASET", False)


def stock_cli(environment: dict[str, str], *arguments: str) -> str:
    return subprocess.run(
        ["rucio", *arguments], env=environment, capture_output=True, text=True, check=True, timeout=300
    ).stdout


def test_a15_the_table_carries_the_locks_in_the_state(lake_box: Box, dataset: Did) -> None:
    table = lake_box.cli("rule", "list", str(dataset), user="alice").stdout.splitlines()
    assert re.split(r"  +", table[0]) == [
        *("ID", "ACCOUNT", "SCOPE:NAME", "STATE[OK/REPL/STUCK]", "RSE_EXPRESSION", "COPIES"),
        *("EXPIRES (UTC)", "CREATED (UTC)"),
    ]
    rows = [re.split(r"  +", line)[1:6] for line in table[1:]]
    assert ["alice", "testing:rules", "OK[3/0/0]", "CNAF-STORM", "1"] in rows  # of one second: in any order


def test_a16_a_rule_on_a_quality_of_service_and_the_same_rule_again(lake_box: Box, dataset: Did) -> None:
    lake = lake_box.login("alice")
    seen: list[str] = []
    supervisor = lake_box.local.runner._supervisor

    def report(rule: Rule) -> None:
        seen.append(f"{rule.state}[{rule.locks}]")
        # However slowly the first answer comes, nothing is copied before it.
        supervisor.start_process("rucio-daemons")

    supervisor.stop_process("rucio-daemons")
    try:
        (rule_id,) = lake.rules.add([dataset], "QOS=B", account="alice")
        rule = lake.rules.wait(rule_id, timeout_s=120, report=report)
    finally:
        supervisor.start_process("rucio-daemons")
    assert seen[0] == "REPLICATING[0/3/0]"
    assert seen[-1] == "OK[3/0/0]"
    assert rule.rse_expression == "QOS=B"
    at_b = {rse for found in lake.catalogue.replicas([dataset], rse_expression="QOS=B") for rse in found.states}
    assert at_b == {"PIC-DCACHE"}
    with pytest.raises(ConflictError) as caught:
        lake.rules.add([dataset], "QOS=B", account="alice")
    assert caught.value.got == "DuplicateRule"
    assert caught.value.remedy == f"boathouse rule show {rule_id}"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("QOS=FAST", {"CNAF-STORM", "CNAF_CMS_TEMP"}),
        ("QOS=FAST|QOS=B", {"CNAF-STORM", "CNAF_CMS_TEMP", "PIC-DCACHE"}),
        ("site=CNAF&QOS=FAST", {"CNAF-STORM", "CNAF_CMS_TEMP"}),
        ("QOS=FAST\\CNAF_CMS_TEMP", {"CNAF-STORM"}),
        ("(QOS=A|QOS=B)&site=CERN", {"EULAKE-1"}),
    ],
)
def test_a17_rse_expressions(lake_box: Box, expression: str, expected: set[str]) -> None:
    listed = json.loads(lake_box.cli("ls", "--rses", expression, "--json", user="alice").stdout)
    assert {rse["name"] for rse in listed} == expected


def test_a17_a_malformed_expression_is_an_input_error(lake_box: Box) -> None:
    with pytest.raises(InputError):
        lake_box.login("alice").catalogue.rses("QOS==")


def test_a23_a_rule_that_expires_frees_its_replicas(lake_box: Box, tmp_path: Path) -> None:
    file = tmp_path / "short-lived.dat"
    file.write_bytes(os.urandom(2000))
    lake = lake_box.login("alice")
    (result,) = lake.put([file], scope="testing", rse_expression="CNAF-STORM")
    (copy,) = lake.rules.add([result.did], "SARA-DCACHE", account="alice", lifetime_s=3600)
    lake.rules.wait(copy, timeout_s=120)
    urls = {rse: url for url, rse in next(lake.catalogue.replicas([result.did], schemes=["https"])).pfns.items()}
    lake_box.cli("rule", "remove", copy, "--now", user="alice")
    wait_for("the copy is gone from storage", lambda: lake.storage.stat(urls["SARA-DCACHE"]) is None, timeout_s=180)
    assert lake.storage.stat(urls["CNAF-STORM"]) is not None
    (first,) = lake.rules.of(result.did)
    lake_box.cli("rule", "update", first.id, "--lifetime", "1", user="alice")
    wait_for("the last replica is gone", lambda: lake.storage.stat(urls["CNAF-STORM"]) is None, timeout_s=180)
    wait_for("and from the catalogue", lambda: not list(lake.catalogue.replicas([result.did], all_states=True)))
    operator = Lake.operator(lake_box.endpoints, lake_box.local.plan.layout.secret(f"client-{OPERATOR}"))
    assert operator.storage.stat(urls["CNAF-STORM"]) is None
    # The name is free again, with any content.
    file.write_bytes(b"a new life")
    (again,) = lake.put([file], scope="testing", rse_expression="CNAF-STORM")
    assert again.outcome == "uploaded"
