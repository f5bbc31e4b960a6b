"""``boathouse transfer``: the jobs of the transfer service as people and the operator see them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from boathouse.lake.http import ONCE, Http
from boathouse.lake.lake import Lake
from boathouse.lake.names import Did
from boathouse.testing.box import Box
from boathouse.testing.wait import wait_for

SIZE = 50_000


@pytest.fixture(scope="module")
def source(lake_box: Box) -> str:
    """URL of a file of Alice's at CNAF."""
    path = lake_box.work / "transfers-0.dat"
    path.write_bytes(os.urandom(SIZE))
    lake = lake_box.login("alice")
    lake.put([path], scope="testing", dataset=Did("testing", "transfers"), rse_expression="CNAF-STORM")
    (file,) = lake.files(Did("testing", "transfers"), prefer="replica")
    return next(url for url in file.urls if url.startswith("https:"))


def submit(lake: Lake, source: str, *names: str) -> str:
    """A job of a person's own, with the person's token for everything."""
    element = next(each for each in lake.endpoints.storage if each.rse == "PIC-DCACHE")
    directory = Path(urlsplit(source).path).parent
    token = lake.token()
    files = [
        {
            "sources": [source if name != "missing" else source + "-missing"],
            "destinations": [f"{element.https}{directory}/{name}"],
            "source_tokens": [token],
            "destination_tokens": [token],
            "filesize": SIZE,
        }
        for name in names
    ]
    response = Http(lake.endpoints.ca_bundle).request(
        "POST",
        f"{lake.endpoints.transfers}/jobs",
        headers={"Authorization": f"Bearer {token}"},
        body=json.dumps({"files": files, "params": {}}).encode(),
        retry=ONCE,
    )
    assert response.status == 200, response.data
    return str(response.json()["job_id"])


def test_a_job_is_watched_to_its_end(lake_box: Box, source: str) -> None:
    job_id = submit(lake_box.login("alice"), source, "copy-0", "copy-1")
    watched = lake_box.cli("transfer", "watch", job_id, user="alice")
    assert f"{job_id} FINISHED 2/2 files" in watched.stdout
    shown = json.loads(lake_box.cli("transfer", "show", job_id, "--json", user="alice").stdout)
    assert [file["file_state"] for file in shown["files"]] == ["FINISHED", "FINISHED"]
    assert "2/2 copied" in lake_box.cli("transfer", "show", job_id, user="alice").stdout
    assert "Nothing is wrong" in lake_box.cli("transfer", "why", job_id, user="alice").stdout
    listed = lake_box.cli("transfer", "list", "--is", "finished", "--ended", "1 h", user="alice").stdout
    assert job_id in listed
    assert job_id not in lake_box.cli("transfer", "list", user="alice").stdout
    assert json.loads(lake_box.cli("transfer", "unclean", "--json", user="alice").stdout) == []
    assert lake_box.cli("transfer", "unclean", "--operator").stdout.startswith("JOB ")


def test_why_tells_the_cause_and_what_to_do(lake_box: Box, source: str) -> None:
    job_id = submit(lake_box.login("alice"), source, "copy-2", "missing")
    watched = lake_box.cli("transfer", "watch", job_id, "--json", user="alice", check=False)
    assert watched.returncode == 20
    told = lake_box.cli("transfer", "why", job_id, user="alice").stdout
    for words in ("1 of class source", "verdict  source (storage)", "404", "do       see whether the file is"):
        assert words in told, told
    document = json.loads(lake_box.cli("transfer", "why", job_id, "--json", user="alice").stdout)
    assert document["verdict"]["layer"] == "storage"
    none = submit(lake_box.login("alice"), source, "missing")
    assert lake_box.cli("transfer", "watch", none, user="alice", check=False).returncode == 11


def test_a_job_is_ended_by_its_owner_and_by_nobody_else_but_the_operator(lake_box: Box, source: str) -> None:
    job_id = submit(lake_box.login("alice"), source, "missing")
    refused = lake_box.cli("transfer", "cancel", job_id, user="bob", check=False)
    assert (refused.returncode, "no such job of yours" in refused.stderr) == (11, True)
    assert job_id not in lake_box.cli("transfer", "list", "--is", "FAILED", "--ended", "1 d", user="bob").stdout
    watched = lake_box.cli("transfer", "watch", job_id, user="alice", check=False)
    assert watched.returncode == 11
    everybody = ("transfer", "list", "--is", "FAILED", "--ended", "1 d", "--operator", "--json")
    assert job_id in {job["job_id"] for job in json.loads(lake_box.cli(*everybody).stdout)}
    (row,) = [line for line in lake_box.cli(*everybody[:-1]).stdout.splitlines() if job_id in line]
    assert " alice " in row, "the operator reads logins"
    ended = json.loads(lake_box.cli("transfer", "cancel", job_id, "--operator", "--json").stdout)
    assert ended[0]["job_state"] == "FAILED"


def test_a_state_that_there_is_not_is_refused(lake_box: Box) -> None:
    refused = lake_box.cli("transfer", "list", "--is", "LOST", user="alice", check=False)
    assert (refused.returncode, "unknown state" in refused.stderr) == (2, True)


def test_c4_a_user_asks_why_the_own_rule_waits(lake_box: Box) -> None:
    """The job is the catalogue's, with other people's files perhaps; the rule is the user's."""
    did, lake = Did("testing", "why-it-waits"), lake_box.login("alice")
    path = lake_box.work / "why-it-waits-0.dat"
    path.write_bytes(os.urandom(SIZE))
    lake.put([path], scope="testing", dataset=did, rse_expression="CNAF-STORM")
    (file,) = lake.files(did, prefer="replica")
    url = next(url for url in file.urls if url.startswith("https:"))
    response = Http(lake.endpoints.ca_bundle).request(
        "DELETE", url, headers={"Authorization": f"Bearer {lake.token()}"}, retry=ONCE
    )
    assert response.status < 300, response.data
    (rule_id,) = lake.rules.add([did], "PIC-DCACHE", account="alice")
    tried = wait_for(
        "the copy was tried",
        lambda: [
            found
            for found in lake.rules.why(rule_id)["files"]
            if found["transfer"] and any(each["attempts"] for each in found["transfer"]["files"])
        ],
        timeout_s=180,
    )
    verdict = tried[0]["transfer"]["files"][0]["verdict"]
    assert (verdict["class"], verdict["layer"], verdict["side"]) == ("source", "storage", "SOURCE")
    told = ("why-it-waits-0.dat at PIC-DCACHE", "verdict  source (storage)", "404")
    # The catalogue tries again, and nothing is told of a new job before its first attempt has ended.
    wait_for(
        "the words for people",
        lambda: all(words in lake_box.cli("rule", "why", rule_id, user="alice").stdout for words in told),
        timeout_s=180,
    )
    job_id = tried[0]["request"]["job"]
    assert lake_box.cli("transfer", "why", job_id, user="alice", check=False).returncode == 11
    refused = lake_box.cli("rule", "why", rule_id, user="bob", check=False)
    assert (refused.returncode, "belongs to alice" in refused.stderr) == (7, True), refused.stderr
    lake.rules.remove(rule_id, now=True)
