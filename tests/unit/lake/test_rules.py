from __future__ import annotations

import pytest

from boathouse.errors import InputError
from boathouse.lake.http import Http
from boathouse.lake.rest import Rest
from boathouse.lake.rules import Rule, Rules, as_json, block, table_row, utc

# The rule of the CMS report, as the catalogue sends it today.
DOCUMENT = {
    "id": "f479b8893f4c4701a1e887f23e47f260",
    "account": "dciangot",
    "scope": "CMS_INFN_DCIANGOT",
    "name": "opendata_test",
    "did_type": "DATASET",
    "rse_expression": "CNAF-STORM",
    "copies": 1,
    "state": "OK",
    "locks_ok_cnt": 380,
    "locks_replicating_cnt": 0,
    "locks_stuck_cnt": 0,
    "grouping": "DATASET",
    "expires_at": "Sat, 21 Nov 2020 20:09:16 UTC",
    "locked": False,
    "weight": None,
    "created_at": "Tue, 17 Nov 2020 16:09:16 UTC",
    "updated_at": "Tue, 17 Nov 2020 18:02:14 UTC",
    "error": None,
    "subscription_id": None,
    "source_replica_expression": None,
    "activity": "User Subscriptions",
    "comments": None,
    "ignore_account_limit": False,
    "ignore_availability": False,
    "purge_replicas": False,
    "notification": "NO",
    "eol_at": None,
    "child_rule_id": None,
    "priority": 3,
}

BLOCK = """\
Id: f479b8893f4c4701a1e887f23e47f260
Account: dciangot
Scope: CMS_INFN_DCIANGOT
Name: opendata_test
RSE Expression: CNAF-STORM
Copies: 1
State: OK
Locks OK/REPLICATING/STUCK: 380/0/0
Grouping: DATASET
Expires at: 2020-11-21 20:09:16
Locked: False
Weight: None
Created at: 2020-11-17 16:09:16
Updated at: 2020-11-17 18:02:14
Error: None
Subscription Id: None
Source replica expression: None
Activity: User Subscriptions
Comment: None
Ignore Quota: False
Ignore Availability: False
Purge replicas: False
Notification: NO
End of life: None
Child Rule Id: None"""


def test_a14_the_block_of_the_report_to_the_letter() -> None:
    assert block(Rule.from_document(DOCUMENT)) == BLOCK


def test_a13_the_same_25_values_as_json() -> None:
    document = as_json(Rule.from_document(DOCUMENT))
    assert len(document) == len(BLOCK.splitlines()) == 25
    assert document["locks"] == {"ok": 380, "replicating": 0, "stuck": 0}
    assert document["subscription_id"] is None


def test_a15_a_line_of_the_table() -> None:
    row = table_row(
        Rule.from_document(DOCUMENT | {"state": "REPLICATING", "locks_ok_cnt": 0, "locks_replicating_cnt": 1})
    )
    assert row[3] == "REPLICATING[0/1/0]"
    assert table_row(Rule.from_document(DOCUMENT | {"expires_at": None}))[6] == "-"


def test_times_are_utc() -> None:
    assert utc("Fri, 20 Nov 2026 18:30:07 UTC") == "2026-11-20 18:30:07"
    assert utc(None) is None


@pytest.mark.parametrize("text", ["abc", "", "../accounts", "f479b8893f4c4701a1e887f23e47f26g"])
def test_what_is_no_id_of_a_rule_is_refused_before_it_is_asked_for(text: str) -> None:
    rules = Rules(Rest(Http("/etc/ssl/certs/ca-certificates.crt"), "https://localhost:1", str))
    with pytest.raises(InputError) as caught:
        rules.get(text)
    assert caught.value.remedy == "boathouse rule list"
