"""FTS3's own clients against the service, unmodified: the PyPI library and its command-line tools."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from boathouse.checksums import Adler32
from boathouse.plan.service import Programs
from boathouse.testing.wait import wait_for

from .box import Box, Service
from .equipment import DESTINATION, SOURCE, TRANSFERS

NOWHERE = "davs://127.0.1.19:1"
"""A storage element that nobody listens on: its files stay in the queue."""
CALLS = Path(__file__).with_name("fts3_calls.py")


@dataclass
class Clients:
    """FTS3's clients, and what they need."""

    box: Box
    service: Service
    bin: Path
    directory: Path

    def token(self, subject: str = "alice") -> str:
        return self.box.issuer.token(TRANSFERS, "fts", subject=subject)

    def calls(self, *calls: tuple[str, list[Any], dict[str, Any]], subject: str = "alice") -> list[Any]:
        """The library's answers to some calls."""
        asked = {
            "url": self.service.url,
            "token": self.token(subject),
            "ca": str(self.box.context.layout.ca),
            "calls": calls,
        }
        command = [self.bin / "python", "-I", CALLS]
        done = subprocess.run(
            command, input=json.dumps(asked), capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        answers: list[Any] = json.loads(done.stdout)
        return answers

    def call(self, name: str, *arguments: Any, subject: str = "alice", **options: Any) -> Any:
        """The library's answer to a call that succeeds."""
        (found,) = self.calls((name, list(arguments), options), subject=subject)
        assert "answer" in found, found
        return found["answer"]

    def tool(self, name: str, *arguments: str, subject: str = "alice", status: int = 0) -> str:
        """What a tool prints."""
        common = ("-s", self.service.url, "--capath", str(self.box.context.layout.ca))
        command = (str(self.bin / name), *common, "--fts-access-token", self.token(subject), *arguments)
        # Without a home of its own, a tool reads the settings of whoever runs the tests.
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env={"HOME": str(self.directory), "PATH": "/usr/bin:/bin"},
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    def transfer(self, path: str, data: bytes, *, destination: str | None = None, **more: Any) -> dict[str, Any]:
        """Arguments of ``new_transfer``."""
        return {
            "source": self.box.source.davs + path,
            "destination": (destination or self.box.destination.davs) + path,
            "checksum": f"ADLER32:{Adler32(data).hexdigest()}",
            "filesize": len(data),
            "source_token": self.box.issuer.token(SOURCE, "storage.read:/lake", subject="alice"),
            "destination_token": self.box.issuer.token(
                DESTINATION, "storage.read:/lake storage.modify:/lake", subject="alice"
            ),
            **more,
        }


@pytest.fixture(scope="module")
def fts3(box: Box, programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Clients:
    service = box.service("fts3", operators=["operator"]).start()
    peers = programs.python.parents[2] / "peers" / "bin"
    return Clients(box, service, peers, tmp_path_factory.mktemp("fts3"))


@pytest.fixture
def queued(fts3: Clients, place: str) -> Callable[..., str]:
    """Makes a job that stays in the queue."""

    def make(*names: str, subject: str = "alice") -> str:
        transfers = [fts3.transfer(f"{place}/{name}", b"f", destination=NOWHERE) for name in names or ("f",)]
        job_id: str = fts3.call("submit", transfers, {}, subject=subject)
        return job_id

    return make


def test_the_library_copies_a_file(fts3: Clients, place: str) -> None:
    fts3.box.put(f"{place}/f", b"bytes")
    job_id = fts3.call(
        "submit", [fts3.transfer(f"{place}/f", b"bytes", metadata={"a": 1})], {"verify_checksum": "both", "retry": 3}
    )
    fts3.service.token = fts3.token()
    assert fts3.service.finished(job_id)["job_state"] == "FINISHED"
    assert fts3.box.destination.holds(f"{place}/f") == b"bytes"
    job = fts3.call("get_job_status", job_id, list_files=True)
    assert (job["job_state"], job["vo_name"], job["user_dn"]) == ("FINISHED", "escape", "alice")
    assert (job["files"][0]["file_state"], job["files"][0]["file_metadata"], job["dm"]) == ("FINISHED", {"a": 1}, [])


def test_the_library_copies_from_the_second_source(fts3: Clients, place: str) -> None:
    fts3.box.put(f"{place}/f", b"bytes")
    wanted = fts3.transfer(f"{place}/f", b"bytes")
    other = (wanted["source"], wanted["source_token"])
    missing = {**wanted, "source": fts3.box.source.davs + f"{place}/missing", "other": other}
    job_id = fts3.call("submit_with_the_class", [wanted], {"job_metadata": "text"})
    fts3.service.token = fts3.token()
    assert fts3.service.finished(job_id)["job_state"] == "FINISHED"
    fts3.box.destination.path(f"{place}/f").unlink()
    job_id = fts3.call("submit", [missing], {"overwrite": True})
    assert fts3.service.finished(job_id)["job_state"] == "FINISHED"
    states = {each["file_state"] for each in fts3.call("get_job_status", job_id, list_files=True)["files"]}
    assert states == {"FAILED", "FINISHED"}


def test_the_library_learns_who_it_is(fts3: Clients) -> None:
    assert fts3.call("endpoint")["api"]["major"] == 3
    me = fts3.call("whoami")
    assert (me["user_dn"], me["vos"], me["method"]) == ("alice", ["escape"], "oauth2")
    # A token is not delegated: the client asks how long it lives, and leaves it there.
    assert fts3.call("delegate") == ""
    assert fts3.call("delegate_with_the_class") == me["delegation_id"]
    assert len(fts3.call("delegation")["termination_time"]) == len("2026-11-28T00:00:00")


def test_the_library_lists_queries_and_cancels(fts3: Clients, queued: Callable[..., str]) -> None:
    first, second = queued("f"), queued("g", "h")
    listed = fts3.call("list_jobs")
    assert {first, second} <= {job["job_id"] for job in listed}
    assert fts3.call("list_jobs", vo="magic") == []
    assert {job["job_id"] for job in fts3.call("list_jobs", dest_se=NOWHERE)} == {job["job_id"] for job in listed}
    mine = fts3.call("whoami")["delegation_id"]
    assert fts3.call("list_jobs", delegation_id=mine, state_in=["FINISHED"]) != listed
    both = fts3.call("get_jobs_statuses", [first, second], list_files=True)
    assert [len(job["files"]) for job in both] == [1, 2]
    assert [job["job_id"] for job in fts3.call("inquire", [first, second])] == [first, second]
    files = [file["file_id"] for file in fts3.call("get_job_status", second, list_files=True)["files"]]
    assert fts3.call("cancel", second, files[:1]) == "CANCELED"
    assert fts3.call("cancel", second, files) == ["CANCELED", "CANCELED"]
    assert fts3.call("cancel", first)["job_state"] == "CANCELED"
    assert fts3.call("cancel", first)["http_status"] == "304 Not Modified"


def test_what_the_library_may_not_do_is_an_exception_of_its_own(fts3: Clients, queued: Callable[..., str]) -> None:
    job_id = queued("f")
    unknown = str(uuid.uuid4())
    theirs, none, deletion, staging, all_jobs = fts3.calls(
        ("get_job_status", [job_id], {}),
        ("get_job_status", [unknown], {}),
        ("submit_deletion", [[f"{NOWHERE}/lake/f"]], {}),
        ("submit_staging", [[f"{NOWHERE}/lake/f"]], {}),
        ("cancel_all", [], {}),
        subject="bob",
    )
    assert (theirs["error"], none["error"], all_jobs["error"]) == ("Unauthorized", "NotFound", "Unauthorized")
    assert "deletions" in deletion["words"]
    assert "tape" in staging["words"]
    assert fts3.call("cancel", job_id)["job_state"] == "CANCELED"


def test_an_operator_bans_and_ends_with_the_library(fts3: Clients, queued: Callable[..., str]) -> None:
    fts3.call("cancel_all", subject="operator")
    job_id = queued("f", subject="mallory")
    # An attempt may be under way just now, which a ban does not break off.
    ban = partial(fts3.call, "ban_se", NOWHERE, status="wait", timeout=0, allow_submit=True, subject="operator")
    wait_for("it waits for the end of the ban", lambda: ban() == [job_id])
    held = fts3.call("get_job_status", job_id, list_files=True, subject="operator")
    assert held["files"][0]["file_state"] == "ON_HOLD"
    assert fts3.call("unban_se", NOWHERE, subject="operator") is None
    assert fts3.call("ban_dn", "mallory", subject="operator") == [job_id]
    assert fts3.call("unban_dn", "mallory", subject="operator") is None
    queued("g")
    assert fts3.call("cancel_all", vo_name="magic", subject="operator")["affected_jobs"] == 0
    assert fts3.call("cancel_all", subject="operator")["affected_jobs"] == 1


def test_the_tools_copy_a_file(fts3: Clients, place: str) -> None:
    fts3.box.put(f"{place}/f", b"bytes")
    transfer = fts3.transfer(f"{place}/f", b"bytes")
    printed = fts3.tool(
        "fts-rest-transfer-submit",
        *("--src-access-token", transfer["source_token"], "--dst-access-token", transfer["destination_token"]),
        *("--blocking", "--interval", "0", "--checksum-mode", "both", "-o", "--job-metadata", '{"a": 1}', "--json"),
        *(transfer["source"], transfer["destination"], transfer["checksum"]),
    )
    job_id = json.loads(printed.splitlines()[0])
    assert "Job finished with state FINISHED" in printed
    assert fts3.box.destination.holds(f"{place}/f") == b"bytes"
    assert "Status: FINISHED" in fts3.tool("fts-rest-transfer-status", job_id)
    shown = json.loads(fts3.tool("fts-rest-transfer-status", "--json", job_id))
    assert (shown["job_metadata"], shown["files"][0]["file_state"]) == ({"a": 1}, "FINISHED")


def test_the_tools_copy_many_files(fts3: Clients, place: str) -> None:
    files = []
    for name in ("f", "g"):
        fts3.box.put(f"{place}/{name}", name.encode())
        transfer = fts3.transfer(f"{place}/{name}", name.encode())
        files.append(
            {
                "sources": [transfer["source"]],
                "destinations": [transfer["destination"]],
                "source_tokens": [transfer["source_token"]],
                "destination_tokens": [transfer["destination_token"]],
            }
        )
    bulk = fts3.directory / "bulk.json"
    bulk.write_text(json.dumps({"files": files, "params": {"verify_checksum": True}}))
    printed = fts3.tool("fts-rest-transfer-submit", "--blocking", "--interval", "0", "-f", str(bulk))
    assert "Job finished with state FINISHED" in printed
    assert [fts3.box.destination.holds(f"{place}/{name}") for name in ("f", "g")] == [b"f", b"g"]


def test_the_tools_list_and_cancel(fts3: Clients, queued: Callable[..., str]) -> None:
    first, second = queued("f"), queued("g", "h")
    assert first in fts3.tool("fts-rest-transfer-list")
    listed = json.loads(fts3.tool("fts-rest-transfer-list", "--json", "--voname", "escape", "--destination", NOWHERE))
    assert {first, second} <= {job["job_id"] for job in listed}
    assert fts3.tool("fts-rest-transfer-cancel", first) == "CANCELED\n"
    files = [str(file["file_id"]) for file in fts3.call("get_job_status", second, list_files=True)["files"]]
    assert fts3.tool("fts-rest-transfer-cancel", f"{second}:{','.join(files)}") == "CANCELED\nCANCELED\n"
    assert "Not enough permissions" in fts3.tool("fts-rest-transfer-status", first, subject="bob", status=1)


def test_the_tools_tell_who_and_how(fts3: Clients, queued: Callable[..., str]) -> None:
    assert "User DN: alice\nVO: escape\n" in fts3.tool("fts-rest-whoami")
    assert json.loads(fts3.tool("fts-rest-whoami", "--json"))["method"] == "oauth2"
    assert "Delegation id: " in fts3.tool("fts-rest-delegate", "-v")
    assert fts3.tool("fts-rest-server-status", subject="operator") == ""
    assert "Only an operator" in fts3.tool("fts-rest-server-status", status=1)


def test_the_tools_ban(fts3: Clients, queued: Callable[..., str]) -> None:
    job_id = queued("f")
    ban = ("fts-rest-ban", "--storage", NOWHERE)
    assert job_id in fts3.tool(*ban, subject="operator")
    assert fts3.tool(*ban, "--status", "wait", "--allow-submit", subject="operator") == "No jobs affected\n"
    assert fts3.tool(*ban, "--unban", subject="operator") == ""
    assert fts3.tool("fts-rest-ban", "--user", "mallory", subject="operator") == "No jobs affected\n"
    assert fts3.tool("fts-rest-ban", "--user", "mallory", "--unban", subject="operator") == ""
    assert "Only an operator" in fts3.tool(*ban, status=1)


def test_the_tool_for_deletions_is_told_who_deletes(fts3: Clients) -> None:
    assert "deletions" in fts3.tool("fts-rest-delete-submit", f"{NOWHERE}/lake/f", status=1)


def test_whoever_asks_for_cloud_storage_is_told_where_stores_stand(fts3: Clients, place: str) -> None:
    """None of the client's own calls goes there; its one option for it, and an operator's question, are answered."""
    asked = [("ask", [path], {}) for path in ("/config/cloud_storage", "/config/cloud_storage/s3:cloud/alice")]
    for answer in fts3.calls(*asked, subject="operator"):
        assert answer["error"] == "NotFound"
        assert "stand in the facility file, under stores" in answer["words"]
    refused = fts3.calls(*asked)
    assert {answer["error"] for answer in refused} == {"Unauthorized"}
    transfer = fts3.transfer(f"{place}/f", b"bytes")
    submit = ("fts-rest-transfer-submit", "--cloud-credentials", "dropbox")
    tokens = ("--src-access-token", transfer["source_token"], "--dst-access-token", transfer["destination_token"])
    printed = fts3.tool(*submit, *tokens, transfer["source"], transfer["destination"], status=1)
    assert "there are no cloud credentials here" in printed
