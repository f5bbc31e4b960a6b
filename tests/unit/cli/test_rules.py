from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from boathouse.cli import rules
from boathouse.lake.rules import Rule, block

RULE = Rule(
    id="7b1b",
    account="alice",
    scope="cms",
    name="x",
    rse_expression="QOS=SAFE",
    copies=1,
    state="STUCK",
    locks_ok=0,
    locks_replicating=0,
    locks_stuck=1,
    grouping="DATASET",
    expires_at=None,
    locked=False,
    weight=None,
    created_at="2026-11-28 21:36:14",
    updated_at="2026-11-28 21:36:15",
    error=None,
    subscription_id=None,
    source_replica_expression=None,
    activity="User Subscriptions",
    comment="ok",
    ignore_quota=False,
    ignore_availability=False,
    purge_replicas=False,
    notification="NO",
    end_of_life=None,
    child_rule_id=None,
)


def test_a_comment_forges_no_line_of_a_rule(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    comment = "ok\nState: OK\nAccount: root \x1b]0;pwned\a"
    forged = replace(RULE, comment=comment)
    lake = SimpleNamespace(rules=SimpleNamespace(get=lambda _: forged))
    monkeypatch.setattr(rules, "open_lake", lambda _: lake)
    rules.show("7b1b")
    told = capsys.readouterr().out.splitlines()
    assert told == block(replace(RULE, comment=r"ok\nState: OK\nAccount: root \x1b]0;pwned\x07")).splitlines()
    rules.show("7b1b", as_json=True)
    assert json.loads(capsys.readouterr().out)["comment"] == comment
