"""Deletion on a real storage element: when a rule expires, by Rucio's own token, down to empty directories."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from boathouse.testing.wait import wait_for

UNITS = ("se-north-disk", "copy-north-disk", "se-north_raw", "copy-north_raw")
"""The doors for people, where the test looks, and those for services, where Rucio deletes."""


class Storage:
    """Two storage elements, one that hashes names and one that does not, with files put there by hand."""

    def __init__(self, box) -> None:
        self.box = box

    def request(self, method: str, rse: str, path: str, body: bytes | None = None) -> int:
        audience = self.box.context.addresses[f"{rse}.https"]
        scope = "storage.read:/ storage.modify:/ storage.create:/"
        token = self.box.issuer.sign({"sub": "tester", "aud": [audience], "scope": scope})
        headers = {"Authorization": f"Bearer {token}", "Connection": "close"}
        url = self.box.context.url(f"{rse}.https") + path
        return self.box.connections.request(method, url, body=body, headers=headers).status

    def file(self, rse: str, path: str | None = None) -> tuple[str, str]:
        """A file of bob's with a rule; its name and its path on storage."""
        name = f"f{uuid.uuid4().hex[:12]}"
        body: dict[str, object] = {"scope": "cms", "name": name, "bytes": 5, "adler32": "062c0215"}
        base = self.box.context.url(f"{rse}.https")
        if path is not None:
            body["pfn"] = f"{base}{path}/{name}"
        self.ask("POST", "/replicas", {"rse": rse, "files": [body]})
        listed = self.ask("POST", "/replicas/list", {"dids": [{"scope": "cms", "name": name}], "schemes": ["https"]})
        where = next(iter(listed.lines[0]["pfns"])).removeprefix(base)
        assert self.request("PUT", rse, where, b"hello") in {200, 201}
        return name, where

    def rule(self, name: str, rse: str, lifetime_s: int | None = None) -> str:
        dids = [{"scope": "cms", "name": name}]
        body = {"dids": dids, "copies": 1, "rse_expression": rse, "account": "bob", "lifetime": lifetime_s}
        return self.ask("POST", "/rules/", body).json[0]

    def ask(self, method: str, path: str, body: object):
        reply = self.box.call(method, path, "bob", body=body)
        assert reply.status in {200, 201}, reply.body
        return reply

    def exists(self, rse: str, path: str) -> bool:
        return self.request("HEAD", rse, path) == 200

    def replicas(self, name: str) -> int:
        return self.box.rows("SELECT count(*) FROM replicas WHERE name = %s", name)[0][0]


@pytest.fixture(scope="module")
def storage(box) -> Iterator[Storage]:
    for unit in UNITS:
        box.trust(unit, box.issuer.url, box.issuer.jwks)
        box.start(unit)
    box.start("rucio-daemons")
    yield Storage(box)
    for unit in ("rucio-daemons", *UNITS):
        if unit in box.processes:
            box.stop(unit)


def test_a23_an_expired_rule_frees_its_replica(storage):
    name, path = storage.file("NORTH-DISK")
    kept, _ = storage.file("NORTH-DISK")
    storage.rule(kept, "NORTH-DISK")
    assert storage.exists("NORTH-DISK", path)
    storage.rule(name, "NORTH-DISK", lifetime_s=1)
    wait_for("it is gone from storage", lambda: not storage.exists("NORTH-DISK", path))
    wait_for("it is gone from the catalogue", lambda: storage.replicas(name) == 0)
    assert storage.replicas(kept) == 1


def test_a_shortened_rule_is_deleted_soon(storage):
    name, path = storage.file("NORTH-DISK")
    rule = storage.rule(name, "NORTH-DISK")
    storage.ask("PUT", f"/rules/{rule}", {"options": {"lifetime": 1}})
    wait_for("it is gone from storage", lambda: not storage.exists("NORTH-DISK", path))


def test_empty_directories_go_and_others_stay(storage):
    name, path = storage.file("NORTH_RAW", "/lake/cms/run1/part1")
    other, _ = storage.file("NORTH_RAW", "/lake/cms/run1/part2")
    storage.rule(other, "NORTH_RAW")
    storage.rule(name, "NORTH_RAW", lifetime_s=1)
    directory = path.rpartition("/")[0]
    wait_for("its directory is gone", lambda: not storage.exists("NORTH_RAW", directory))
    assert storage.exists("NORTH_RAW", "/lake/cms/run1/part2")
    wait_for("it is gone from the catalogue", lambda: storage.replicas(name) == 0)


def test_a_file_that_is_gone_already_is_only_forgotten(storage):
    name, path = storage.file("NORTH-DISK")
    assert storage.request("DELETE", "NORTH-DISK", path) in {200, 204}
    storage.rule(name, "NORTH-DISK", lifetime_s=1)
    wait_for("it is gone from the catalogue", lambda: storage.replicas(name) == 0)


def test_deletion_waits_for_storage_that_is_down(storage):
    name, path = storage.file("NORTH-DISK")
    storage.box.stop("copy-north-disk")
    storage.rule(name, "NORTH-DISK", lifetime_s=1)
    log = "Deletion NOACCESS"
    wait_for("the reaper has tried", lambda: name in _lines(storage.box, log))
    assert storage.replicas(name) == 1
    storage.box.start("copy-north-disk")
    wait_for("it is gone from the catalogue", lambda: storage.replicas(name) == 0)
    assert not storage.exists("NORTH-DISK", path)


def test_the_reaper_uses_a_token_for_that_storage_element_only(storage):
    asked = [entry for entry in storage.box.issuer.requests if entry["scope"].startswith("storage.modify")]
    assert {entry["audience"] for entry in asked} <= set(storage.box.context.addresses.values())
    assert {entry["scope"] for entry in asked} == {"storage.modify:/lake/ storage.read:/lake/"}


def _lines(box, what: str) -> str:
    return "\n".join(line for line in box.log("rucio-daemons").splitlines() if what in line)
