"""HTTP third-party copies between storage elements: a token for each side, and nothing left behind."""

from __future__ import annotations

import base64
import zlib

import pytest


@pytest.fixture
def source(box, fresh_path, content):
    box.put("SOUTH-DISK", fresh_path, content)
    return box.url("SOUTH-DISK.copy", fresh_path)


def pull(box, source, target, source_token, target_token, **headers):
    return box.http(
        "COPY",
        target,
        target_token,
        Source=source,
        TransferHeaderAuthorization=f"Bearer {source_token}",
        Credential="none",
        **headers,
    )


@pytest.fixture
def tokens(box):
    return (
        box.token("storage.read:/lake/cms", "SOUTH-DISK.copy"),
        box.token("storage.modify:/lake/cms storage.read:/lake/cms", "NORTH-DISK.copy"),
    )


def test_pull_with_two_tokens(box, source, fresh_path, content, tokens):
    target = box.url("NORTH-DISK.copy", f"{fresh_path}/deep/copy")
    answer = pull(box, source, target, *tokens)
    assert answer.status in {201, 202}
    assert answer.text.rstrip().splitlines()[-1].startswith("success"), answer.text
    assert box.http("GET", target, tokens[1]).body == content


def test_push_with_two_tokens(box, source, fresh_path, content, tokens):
    target = box.url("NORTH-DISK.copy", fresh_path)
    answer = box.http(
        "COPY",
        source,
        tokens[0],
        Destination=target,
        TransferHeaderAuthorization=f"Bearer {tokens[1]}",
        Credential="none",
    )
    assert answer.text.rstrip().splitlines()[-1].startswith("success"), answer.text
    assert box.http("GET", target, tokens[1]).body == content


@pytest.mark.parametrize("right", [True, False])
def test_pull_checks_an_expected_checksum(box, source, fresh_path, content, tokens, *, right):
    checksum = zlib.adler32(content) ^ (0 if right else 1)
    digest = f"adler=:{base64.b64encode(checksum.to_bytes(4, 'big')).decode()}:"
    target = box.url("NORTH-DISK.copy", fresh_path)
    answer = pull(box, source, target, *tokens, Repr_Digest=digest)
    assert answer.status == (202 if right else 412)
    assert box.http("HEAD", target, tokens[1]).status == (200 if right else 404)


def test_pull_refused_by_the_source_leaves_nothing(box, source, fresh_path, tokens):
    target = box.url("NORTH-DISK.copy", fresh_path)
    wrong = box.token("storage.read:/lake/magic", "SOUTH-DISK.copy")
    assert pull(box, source, target, wrong, tokens[1]).status == 403
    assert pull(box, f"{source}.none", target, *tokens).status == 404
    assert box.http("HEAD", target, tokens[1]).status == 404


def test_pull_refused_by_the_target(box, source, fresh_path, tokens):
    target = box.url("NORTH-DISK.copy", fresh_path)
    reader = box.token("storage.read:/lake/cms", "NORTH-DISK.copy")
    assert pull(box, source, target, tokens[0], reader).status in {401, 403}
    assert pull(box, source, target, tokens[0], tokens[0]).status in {401, 403}
    assert box.http("HEAD", target, tokens[1]).status == 404


def test_pull_verifies_the_source_certificate(box, fresh_path, tokens, stranger):
    """The server with a certificate of another authority is asked for nothing."""
    answer = pull(box, f"{stranger.url}{fresh_path}", box.url("NORTH-DISK.copy", fresh_path), *tokens)
    assert "success" not in answer.text
    assert stranger.requests == []
    assert box.http("HEAD", box.url("NORTH-DISK.copy", fresh_path), tokens[1]).status == 404


@pytest.mark.parametrize("path", ["/lake/cms/x", "/lake/cms/../magic/x", "/lake/cms/%2e%2e/magic/x"])
def test_people_cannot_copy_at_their_door(box, content, path):
    box.put("NORTH-DISK", "/lake/magic/x", content)
    box.put("NORTH-DISK", "/lake/cms/x", content)
    token = box.token("storage.read:/lake/cms storage.modify:/lake/cms")
    door = box.context.url("NORTH-DISK.https") + path
    target = box.url("SOUTH-DISK", "/lake/cms/stolen")
    headers = {"TransferHeaderAuthorization": f"Bearer {token}", "Credential": "none"}
    for answer in (
        box.http("COPY", door, token, Destination=target, **headers),
        box.http("COPY", door, token, Source=target, Overwrite="T", **headers),
    ):
        assert answer.status >= 400, answer.text
        assert "success" not in answer.text
    assert box.http("HEAD", target, token).status == 404
    untouched = box.token("storage.read:/lake/magic", "NORTH-DISK")
    assert box.http("GET", box.url("NORTH-DISK", "/lake/magic/x"), untouched).body == content


def test_the_copy_door_is_closed_to_the_audience_of_people(box, source, fresh_path):
    person = box.token("storage.read:/ storage.modify:/")
    assert box.http("GET", source, person).status == 403
    assert pull(box, source, box.url("NORTH-DISK.copy", fresh_path), person, person).status in {401, 403}
