"""The care of caches that stand behind each other, and of those of groups."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3

from boathouse.testing.wait import wait_for

from .care import Care, caring
from .conftest import LAYERS


@pytest.fixture(scope="module")
def care(layered: Any) -> Iterator[Care]:
    with caring(layered) as made:
        yield made


def test_a_file_leaves_every_layer(care, layered, fresh_path, content):
    layered.put("NORTH-DISK", fresh_path, content)
    care.read(fresh_path, cache=LAYERS[0])

    def all_complete() -> bool:
        return all(each["complete"] for each in care.counted_at(fresh_path, *LAYERS).values())

    wait_for("every layer has it", all_complete, timeout_s=120)
    token = layered.token("storage.modify:/lake/cms", *LAYERS)
    document = {"paths": [fresh_path], "caches": LAYERS, "force": True}
    answer = care.ask("POST", "/evictions", token, document)
    assert [each["outcome"] for each in json.loads(answer.body)] == ["evicted"] * 3, answer.text
    assert [each["kept_bytes"] for each in care.counted_at(fresh_path, *LAYERS).values()] == [0] * 3


def test_a_token_that_is_not_for_every_cache_evicts_at_none(care, layered, fresh_path):
    token = layered.token("storage.modify:/lake/cms", *LAYERS[:2])
    answer = care.ask("POST", "/evictions", token, {"paths": [fresh_path], "caches": LAYERS})
    assert answer.status == 403


@pytest.mark.parametrize("cache", ["NORTH-OPEN", "NORTH-CLAIM"])
def test_a_file_leaves_the_cache_of_a_group(care, layered, fresh_path, cache):
    """One takes no tokens at all, the other none for paths."""
    path = fresh_path if cache == "NORTH-OPEN" else fresh_path.replace("cms", "magic")
    layered.put("NORTH-DISK", path, b"of the group")
    fill(layered, path, cache)
    token = layered.token(f"storage.modify:{path} storage.read:{path}", cache)
    document = {"paths": [path], "caches": [cache], "force": True}

    def kept_bytes() -> int:
        (found,) = json.loads(care.ask("POST", "/files", token, document).body)
        return int(found["kept_bytes"])

    def outcome() -> str:
        (result,) = json.loads(care.ask("POST", "/evictions", token, document).body)
        return str(result["outcome"])

    wait_for("it is there", kept_bytes, timeout_s=120)
    wait_for("it goes", lambda: outcome() == "absent", timeout_s=120)
    assert kept_bytes() == 0


def fill(box: Any, path: str, cache: str) -> None:
    """Read as the group's machines or people do."""
    if cache == "NORTH-OPEN":
        tls = ssl.create_default_context(cafile=str(box.context.layout.ca))
        machine = urllib3.PoolManager(ssl_context=tls, source_address=("127.0.5.7", 0))
        assert machine.request("GET", box.through_cache("NORTH-DISK", path, cache=cache)).data == b"of the group"
        machine.clear()
        return
    token = box.token("openid", "NORTH-DISK", cache, **{"wlcg.groups": ["/escape", "/escape/magic"]})
    done = box.client(
        "xrdcp", "-s", "-f", box.through_cache("NORTH-DISK", path, "root", cache), "/dev/null", token=token
    )
    assert done.returncode == 0, done.stderr
