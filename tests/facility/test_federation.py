"""A76: two whole facilities, one of which is a lake of somebody else's to the other, up by their files alone."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from boathouse.lake.names import Did, hash_path
from boathouse.plan.service import Programs
from boathouse.testing.box import Box, box
from boathouse.testing.scratch import scratch
from boathouse.testing.wait import wait_for

FAR: dict[str, Any] = {
    "name": "far",
    "vo": "other",
    "sites": {"FAR": {"storage": {"FAR-DISK": {"qos": "A", "address": "127.0.9.3"}}}},
    "groups": {"mc": {}},
    "users": {"fay": {"groups": ["mc"]}},
    "scopes": {"mc": {"group": "mc"}},
}
CACHE = "NORTH-FAR"


def near(far: Box, secret: Path) -> dict[str, Any]:
    """The facility file of a lake where only `cms` may read what the other one's `mc` has."""
    (element,) = far.endpoints.storage
    client = {
        "issuer": far.endpoints.issuer,
        "ca_file": far.endpoints.ca_bundle,
        "id": "north",
        "secret_file": str(secret),
        "audience": element.audience,
        "scope": "storage.read:/lake/mc",
    }
    return {
        "name": "near",
        "vo": "escape",
        "sites": {
            "NORTH": {
                "storage": {"NORTH-DISK": {"qos": "FAST"}},
                "caches": {CACHE: {"mode": "translating", "federation": "far", "size": "1 GB"}},
            }
        },
        "groups": {"cms": {}, "magic": {}},
        "users": {"alice": {"groups": ["cms"]}, "bob": {"groups": ["magic"]}},
        "federations": {
            "far": {
                "url": element.root.replace("root:", "roots:"),
                "ca_file": far.endpoints.ca_bundle,
                "client": client,
                "rights": {"cms": ["/lake/mc"]},
            }
        },
    }


@dataclass(frozen=True)
class Both:
    far: Box
    near: Box
    xrdcp: Path

    def read(self, path: str, user: str) -> bytes | None:
        """What the cache gives to a person of the near facility, by the stock client."""
        (cache,) = self.near.endpoints.caches
        command = [str(self.xrdcp), "--silent", f"{cache.root}/{path}", "-"]
        done = subprocess.run(command, env=self.near.env(user), capture_output=True, timeout=180, check=False)
        return done.stdout if done.returncode == 0 else None


@pytest.fixture(scope="module")
def both(programs: Programs) -> Iterator[Both]:
    with scratch() as directory:
        theirs, ours, secret = (directory / name for name in ("far.yaml", "near.yaml", "secret"))
        theirs.write_text(yaml.safe_dump(FAR))
        with box(theirs) as far:
            made = far.cli(
                *("iam", "client", "add", "north", "--grant", "client_credentials"),
                *("--scope", "storage.read:/lake/mc"),
            )
            secret.touch(mode=0o600)
            secret.write_text(made.stdout.strip())
            ours.write_text(yaml.safe_dump(near(far, secret)))
            with box(ours) as running:
                yield Both(far, running, programs.xrootd_bin / "xrdcp")


def test_a76_a_facility_reads_another_ones_files_by_its_own_table(both: Both, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "theirs.dat").write_bytes(content)
    both.far.cli("put", tmp_path / "theirs.dat", "--scope", "mc", "--rse", "FAR-DISK", user="fay")
    path = f"/lake/{hash_path(Did('mc', 'theirs.dat'))}"
    assert both.read(path, "bob") is None
    assert both.read(path, "alice") == content
    assert both.read(path, "bob") is None, "also when it is kept"
    states = json.loads(both.near.cli("status", "--json").stdout)["units"]
    assert {each["state"] for each in states} == {"ready"}

    def counted() -> int:
        (cache,) = json.loads(both.near.cli("cache", "status", "--json", user="alice").stdout)["caches"]
        return int(cache["served_bytes"])

    wait_for("the read is counted", lambda: counted() >= len(content), timeout_s=120, period_s=0.5)
    assert CACHE in both.near.cli("cache", "status", user="alice").stdout
    both.far.local.down()
    assert both.read(path, "alice") == content, "what is kept outlives the lake that it came from"
    assert both.read(f"{path}.other", "alice") is None
