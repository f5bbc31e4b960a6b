"""What is wrong in a seed file is named, without what is secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from boathouse.apps.tokens.persistence.seedfile import Seed, load
from boathouse.errors import InputError
from boathouse.wlcg.urns import DEVICE_GRANT, EXCHANGE_GRANT

USER = {"login": "bob", "sub": "1", "password": "hidden-secret"}
CLIENT = {"client_id": "c", "grants": ["device_code"], "scopes": ["openid"]}


def test_short_names_of_grants() -> None:
    seed = Seed.model_validate({"clients": [CLIENT | {"grants": ["device_code", "token_exchange", "refresh_token"]}]})
    assert seed.clients[0].grants == (DEVICE_GRANT, EXCHANGE_GRANT, "refresh_token")


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"users": [USER | {"groups": ["/vo"]}]}, "user bob: no group /vo"),
        ({"users": [USER | {"groups": ["vo"]}]}, "not a group"),
        ({"users": [USER, USER]}, "login bob occurs twice"),
        ({"users": [USER], "clients": [CLIENT | {"client_id": "1"}]}, "subject or client 1 occurs twice"),
        ({"users": [USER | {"login": "Bob"}]}, "login"),
        ({"users": [USER | {"sub": "ü"}]}, "sub"),
        ({"users": [USER | {"admn": True}]}, "users.0.admn"),
        ({"clients": [CLIENT | {"grants": ["password"]}]}, "not a grant: password"),
        ({"clients": [CLIENT | {"scopes": ["storage.read"]}]}, "a storage scope without a path"),
        ({"policies": [{"effect": "ALLOW", "scopes": ["fts"]}]}, "policies.0.effect"),
        ({"policies": [{"effect": "PERMIT", "scopes": []}]}, "policies.0.scopes"),
        ({"policies": [{"effect": "PERMIT", "scopes": ["fts"], "group": "/vo"}]}, "policy: no group /vo"),
        ([], "wrong"),
    ],
)
def test_faults_are_named(tmp_path: Path, document: Any, words: str) -> None:
    path = tmp_path / "seed.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError) as refusal:
        load(path)
    assert words in str(refusal.value)
    assert "hidden-secret" not in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff"])
def test_what_is_no_json(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "seed.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read"):
        load(path)
    with pytest.raises(InputError, match="cannot be read"):
        load(tmp_path / "nowhere")
