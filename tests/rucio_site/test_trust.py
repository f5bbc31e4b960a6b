"""Whom tokens of other issuers stand for."""

from __future__ import annotations

import json

import pytest
from boathouse_rucio_site import trust
from boathouse_rucio_site.errors import TokenError
from boathouse_rucio_site.issuer import Issuers

URL = "https://aai.example.org"
ENTRY = {
    "url": URL,
    "ca_file": None,
    "groups_claim": "wlcg.groups",
    "accounts": [["/lofar/production", "production"], ["/lofar", "lofar"]],
}


@pytest.fixture
def entry(tmp_path):
    path = tmp_path / "trusted.json"
    path.write_text(json.dumps([ENTRY]))
    return trust.read(path)[URL]


@pytest.mark.parametrize(
    ("groups", "account"),
    [
        (["/lofar"], "lofar"),
        (["/lofar", "/lofar/production"], "production"),
        (["/lofar/production/night"], None),
        (["/lofarx"], None),
        ("/lofar", "lofar"),
        ([["/lofar"]], None),
        ([1, None], None),
        (None, None),
        ({"/lofar": 1}, None),
    ],
)
def test_a_group_stands_for_its_account_and_for_no_other(entry, groups, account):
    assert entry.account({"wlcg.groups": groups}) == account


def test_no_groups_no_account(entry):
    assert entry.account({}) is None


def test_the_facility_s_own_issuer_is_not_replaced(tmp_path):
    path = tmp_path / "idpsecrets.json"
    path.write_text(json.dumps({"a": {"issuer": URL}}))
    issuers = Issuers(path, {URL: "/nowhere", "https://b.example.org": None})
    assert issuers.get("https://b.example.org").url == "https://b.example.org"
    with pytest.raises(TokenError, match="not accepted"):
        issuers.get("https://c.example.org")


def test_a_broken_file_is_told(tmp_path):
    path = tmp_path / "trusted.json"
    path.write_text('[{"url": "x"}]')
    with pytest.raises(TokenError, match=r"trusted\.json"):
        trust.read(path)
