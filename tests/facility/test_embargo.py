"""What a user without rights on embargoed data tries, on the whole facility."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from boathouse.errors import AuthError, BoathouseError
from boathouse.lake.names import Did
from boathouse.testing.box import Box
from boathouse.testing.wait import wait_for

SECRET = Did("magic", "embargo-secret.dat")


@pytest.fixture(scope="module")
def secret(lake_box: Box) -> tuple[bytes, str]:
    """Bytes of an embargoed file of alice's on CNAF-STORM, and its path there."""
    body = os.urandom(5_000)
    path = lake_box.work / SECRET.name
    path.write_bytes(body)
    lake_box.cli("put", path, "--scope", SECRET.scope, "--rse", "CNAF-STORM", user="alice")
    (found,) = lake_box.login("alice").catalogue.replicas([SECRET], schemes=["https"])
    (url,) = found.pfns
    return body, "/" + url.split("/", 3)[3]


def curl(running: Box, *arguments: str, token: str) -> int:
    """HTTP status of a request that curl makes with a path as it is written."""
    config = running.work / "curl-embargo.cfg"
    config.touch(mode=0o600)
    config.write_text(
        f'header = "Authorization: Bearer {token}"\nheader = "TransferHeaderAuthorization: Bearer {token}"\n'
    )
    shown = subprocess.run(
        [
            *("curl", "--silent", "--path-as-is", "--cacert", running.endpoints.ca_bundle, "--config", str(config)),
            *("--output", str(running.work / "curl-embargo.out"), "--write-out", "%{http_code}", *arguments),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(shown.stdout)


@pytest.mark.parametrize("detour", ["", "/lake/testing/../..", "/lake/testing/%2e%2e/%2e%2e", "/lake/testing/./../.."])
@pytest.mark.parametrize("method", ["GET", "COPY"])
def test_a52_bob_gets_no_embargoed_byte_from_the_element(
    lake_box: Box, secret: tuple[bytes, str], method: str, detour: str
) -> None:
    body, path = secret
    token = lake_box.login("bob").token()
    source, target = (
        next(e for e in lake_box.endpoints.storage if e.rse == rse) for rse in ("CNAF-STORM", "DESY-DCACHE")
    )
    stolen = f"{target.https}/lake/testing/embargo-stolen.dat"
    extra = ["--header", f"Destination: {stolen}"] if method == "COPY" else []
    status = curl(lake_box, "--request", method, *extra, f"{source.https}{detour}{path}", token=token)
    assert status >= 400
    out = lake_box.work / "curl-embargo.out"
    assert not out.exists() or body not in out.read_bytes()
    assert curl(lake_box, "--head", stolen, token=token) == 404


def job(running: Box, user: str, source: str, destination: str) -> tuple[int, str]:
    """What the transfer service answers to a job of one file, and how the file ended if it was taken."""
    lake = running.login(user)
    token = lake.token()
    url = f"{running.endpoints.transfers}/jobs"
    file = {
        "sources": [source],
        "source_tokens": [token],
        "destinations": [destination],
        "destination_tokens": [token],
    }
    headers = {"Authorization": f"Bearer {token}"}
    body = json.dumps({"files": [file], "params": {"retry": -1}}).encode()
    answer = lake.http.request("POST", url, headers=headers, body=body)
    if answer.status != 200:
        return answer.status, str(answer.json()["message"])

    def ended() -> str | None:
        found = lake.http.request("GET", f"{url}/{answer.json()['job_id']}?files=reason&wait=5", headers=headers).json()
        reason = found["files"][0]["reason"]
        return f"{found['job_state']} {reason}" if found["job_state"] in ("FINISHED", "FAILED") else None

    return 200, str(wait_for("the job has ended", ended, timeout_s=180))


def test_a52_the_transfer_service_copies_for_bob_what_he_may_and_no_more(
    lake_box: Box, secret: tuple[bytes, str]
) -> None:
    _, path = secret
    source, target = (
        next(e for e in lake_box.endpoints.storage if e.rse == rse) for rse in ("CNAF-STORM", "DESY-DCACHE")
    )
    lake = lake_box.login("bob")
    mine = lake_box.work / "embargo-mine.dat"
    mine.write_bytes(b"mine")
    (put,) = lake.put([mine], scope="user.bob", rse_expression=source.rse)
    (found,) = lake.catalogue.replicas([put.did], schemes=["https"])
    (own,) = found.pfns
    copied = f"{target.https}/lake/user/bob/embargo-copy.dat"
    assert job(lake_box, "bob", own, copied) == (200, "FINISHED None")
    assert lake.storage.delete(copied)
    for stolen in (f"{source.https}{path}", f"{target.https}{path}"):
        status, end = job(lake_box, "bob", stolen, f"{target.https}/lake/user/bob/embargo-stolen.dat")
        assert (status, end.partition("]")[0]) == (200, "FAILED SOURCE [auth")
    status, end = job(lake_box, "bob", own, f"{target.https}/lake/magic/embargo-planted.dat")
    assert (status, end.partition(" ")[0]) == (200, "FAILED")
    assert "[auth]" in end


@pytest.mark.parametrize("dots", ["..", "%2e%2e", "%252e%252e", "..%2f.."])
@pytest.mark.parametrize("side", ["source", "destination"])
def test_a52_the_transfer_service_takes_no_detours(
    lake_box: Box, secret: tuple[bytes, str], side: str, dots: str
) -> None:
    _, path = secret
    target = next(e for e in lake_box.endpoints.storage if e.rse == "DESY-DCACHE").https
    detour = f"{target}/lake/user/bob/{dots}/{dots}{path.removeprefix('/lake')}"
    plain = f"{target}/lake/user/bob/embargo-other.dat"
    pair = (detour, plain) if side == "source" else (plain, detour)
    status, message = job(lake_box, "bob", *pair)
    assert (status, message.partition(";")[0]) == (400, "not the path of a file")


def test_a52_bob_gets_no_token_for_a_copy_door(lake_box: Box) -> None:
    doors = [port for port in lake_box.local.plan.units if port.name.startswith("copy-")]
    assert len(doors) == len(lake_box.endpoints.storage)
    for door in doors:
        audience = door.url.removeprefix("https://").split(":")[0]
        refused = lake_box.cli("token", "--audience", audience, user="bob", check=False)
        assert refused.returncode != 0, door.name
        assert "eyJ" not in refused.stdout


def test_a52_bob_cannot_have_embargoed_files_copied_for_him(lake_box: Box, secret: tuple[bytes, str]) -> None:
    body, path = secret
    lake = lake_box.login("bob")
    mine = Did("user.bob", "embargo-collection")
    lake.catalogue.ensure_dataset(mine)
    with pytest.raises(BoathouseError):
        lake.catalogue.rest.call(
            "POST", f"/dids/{mine.scope}/{mine.name}/dids", {"dids": [{"scope": SECRET.scope, "name": SECRET.name}]}
        )
    raw = next(element for element in lake_box.endpoints.storage if not element.deterministic)
    forged = {"scope": "user.bob", "name": "embargo-forged", "bytes": len(body), "adler32": "00000001"}
    with pytest.raises(AuthError, match="not plainly below the directory of its file's scope"):
        lake.catalogue.rest.call(
            "POST", "/replicas/", {"rse": raw.rse, "files": [{**forged, "pfn": f"{raw.https}{path}"}]}
        )


@pytest.mark.parametrize("name", ["a/../../../magic/x", "..", "a/./b", "a//b", "/a", "a%2f..%2fb"])
def test_a52_names_that_lead_elsewhere_are_refused(lake_box: Box, name: str) -> None:
    file = {"scope": "user.bob", "name": name, "bytes": 1, "adler32": "00000001"}
    with pytest.raises(BoathouseError):
        lake_box.login("bob").catalogue.rest.call("POST", "/replicas/", {"rse": "PIC-DCACHE", "files": [file]})


def test_a52_bob_gets_no_embargoed_byte_through_the_cache(
    lake_box: Box, secret: tuple[bytes, str], tmp_path: Path
) -> None:
    body, _ = secret
    (file,) = lake_box.login("alice").files(SECRET, prefer="cache", site="CNAF")
    through = next(url for url in file.urls if url.startswith("https") and "//root" in url)
    alice, bob = (lake_box.login(user).token() for user in ("alice", "bob"))
    out = lake_box.work / "curl-embargo.out"
    assert curl(lake_box, through, token=bob) == 403
    assert curl(lake_box, through, token=alice) == 200
    assert out.read_bytes() == body
    # Now it is kept there.
    assert curl(lake_box, through, token=bob) == 403
    assert body not in out.read_bytes()


@dataclass(frozen=True)
class Ways:
    """The ways to the embargoed bytes, over both protocols, from the element and through the cache."""

    running: Box
    urls: tuple[str, ...]
    environment: Mapping[str, str]

    def token(self, user: str) -> str:
        """A new token for all that a person may read now."""
        audiences = [each.audience for each in (*self.running.endpoints.storage, *self.running.endpoints.caches)]
        wanted = [word for audience in audiences for word in ("--audience", audience)]
        return self.running.cli("token", *wanted, "--scope", "storage.read:/", user=user).stdout.strip()

    def read(self, token: str) -> list[bytes]:
        """What each way gives with a token; nothing where it is refused."""
        return [
            self._by_root(url, token) if url.startswith("root") else self._by_https(url, token) for url in self.urls
        ]

    def _by_https(self, url: str, token: str) -> bytes:
        status = curl(self.running, url, token=token)
        assert status in (200, 403)
        return (self.running.work / "curl-embargo.out").read_bytes() if status == 200 else b""

    def _by_root(self, url: str, token: str) -> bytes:
        target = self.running.work / "xrdcp-embargo.out"
        target.unlink(missing_ok=True)
        file = self.running.work / "xrdcp-embargo.token"
        file.touch(mode=0o600)
        file.write_text(token)
        env = {**self.environment, "BEARER_TOKEN_FILE": str(file)}
        program = shutil.which("xrdcp", path=env["PATH"])
        assert program
        done = subprocess.run([program, "--silent", url, target], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0 or "3010" in done.stderr or "permission denied" in done.stderr, done.stderr
        return target.read_bytes() if done.returncode == 0 else b""


@pytest.fixture(scope="module")
def ways(lake_box: Box, secret: tuple[bytes, str]) -> Ways:
    """The cache keeps the bytes already."""
    alice = lake_box.login("alice")
    (direct,), (cached,) = (alice.files(SECRET, prefer=prefer, site="CNAF") for prefer in ("replica", "cache"))
    through = tuple(url for url in cached.urls if url not in direct.urls)
    made = Ways(lake_box, (*direct.urls, *through), lake_box.env("bob"))
    assert {url.split(":")[0] for url in through} == {"root", "https"}
    assert made.read(made.token("alice")) == [secret[0]] * len(made.urls)
    return made


def test_a52_members_read_and_who_is_none_any_more_does_not(
    lake_box: Box, ways: Ways, secret: tuple[bytes, str]
) -> None:
    """Old tokens last until they end (``tests/services/storage/test_revocation.py``); new ones follow the groups."""
    all_of_it, nothing = [secret[0]] * len(ways.urls), [b""] * len(ways.urls)
    assert ways.read(ways.token("bob")) == nothing
    lake_box.cli("iam", "group", "add-member", "/escape/magic", "bob")
    try:
        assert ways.read(ways.token("bob")) == all_of_it
    finally:
        lake_box.cli("iam", "group", "remove-member", "/escape/magic", "bob")
    assert ways.read(ways.token("bob")) == nothing


def test_a52_after_its_release_everybody_reads_it(lake_box: Box, ways: Ways, secret: tuple[bytes, str]) -> None:
    all_of_it, nothing = [secret[0]] * len(ways.urls), [b""] * len(ways.urls)
    permit = ("policy", "add", "permit", "storage.read:/lake/magic", "--group", "/escape", "--json")
    released = json.loads(lake_box.cli("iam", *permit).stdout)
    try:
        assert ways.read(ways.token("bob")) == all_of_it
    finally:
        lake_box.cli("iam", "policy", "remove", str(released["id"]))
    assert ways.read(ways.token("bob")) == nothing


def test_a54_who_may_downloads_an_embargoed_file_and_others_are_told_why(
    lake_box: Box, secret: tuple[bytes, str]
) -> None:
    got = lake_box.work / "embargo-got"
    lake_box.cli("get", str(SECRET), "--to", got, user="alice")
    assert [path.read_bytes() for path in got.rglob(SECRET.name)] == [secret[0]]
    refused = lake_box.cli("get", str(SECRET), "--to", lake_box.work / "embargo-none", user="bob", check=False)
    assert refused.returncode == AuthError.exit_code
    assert "your groups do not open" in refused.stderr
    assert not list((lake_box.work / "embargo-none").rglob(SECRET.name))
