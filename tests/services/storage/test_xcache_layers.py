"""Three caches in a row, a node's, a site's and a region's: one URL form, one decision and the same bytes at each."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from boathouse.services import xcache

from .conftest import LAYERS


@pytest.fixture(scope="module")
def box(layered):
    return layered


def reader(box, scope="storage.read:/lake/cms", names=("NORTH-DISK", "SOUTH-DISK", *LAYERS)):
    """What a person's session has: a token for every element and cache."""
    return box.token(scope, *names)


def kept(box, cache, path, element="NORTH-DISK") -> Path:
    """Where a cache keeps a file: by its path alone, and before another cache by the element's name as well."""
    host = f"{box.context.url(f'{element}.root', 'roots').replace('//', '/')}/" * bool(
        box.context.facility.parent_of(cache)
    )
    return box.data(xcache.unit_name(cache)) / f"{host}{path.lstrip('/')}"


def read(box, path, scheme, cache, token, tmp_path) -> bytes | None:  # noqa: PLR0917 - one request
    """Bytes through a cache, or None if it refuses."""
    url = box.through_cache("NORTH-DISK", path, scheme, cache)
    if scheme == "https":
        answer = box.http("GET", url, token)
        assert answer.status in {200, 403}, answer.text
        return answer.body if answer.status == 200 else None
    target = tmp_path / f"{cache}-{scheme}"
    target.unlink(missing_ok=True)
    done = box.client("xrdcp", "-s", "-f", url, str(target), token=token)
    return target.read_bytes() if done.returncode == 0 else None


@pytest.mark.parametrize("scheme", ["https", "root"])
def test_a71_a75_every_layer_keeps_what_passes(box, fresh_path, content, tmp_path, scheme):
    box.put("NORTH-DISK", fresh_path, content)
    for _ in ("cold", "warm"):
        assert read(box, fresh_path, scheme, LAYERS[0], reader(box), tmp_path) == content
    assert [kept(box, cache, fresh_path).exists() for cache in LAYERS] == [True, True, True]
    url = box.through_cache("NORTH-DISK", fresh_path, "https", LAYERS[0])
    assert box.http("GET", url, reader(box), Range="bytes=700000-700099").body == content[700000:700100]
    head = box.http("HEAD", url, reader(box), Want_Digest="adler32")
    assert head.headers["digest"] == f"adler32={zlib.adler32(content):08x}"


@pytest.mark.parametrize("scheme", ["https", "root"])
def test_a53_one_decision_at_every_layer(box, fresh_path, tmp_path, scheme):
    """Cold, and when every layer has the file."""
    path = fresh_path.replace("cms", "magic")
    box.put("NORTH-DISK", path, b"secret")
    for state in ("cold", "kept"):
        for cache in LAYERS:
            assert read(box, path, scheme, cache, reader(box), tmp_path) is None, (state, cache)
            assert read(box, path, scheme, cache, None, tmp_path) is None, (state, cache)
        member = reader(box, "storage.read:/lake/magic")
        assert read(box, path, scheme, LAYERS[0], member, tmp_path) == b"secret"
        assert [kept(box, cache, path).exists() for cache in LAYERS] == [True, True, True]


def test_each_layer_wants_its_own_audience(box, fresh_path, tmp_path):
    """And, over https, a cold read those of the layers behind: the token goes along. Over root it stays."""
    box.put("NORTH-DISK", fresh_path, b"content")
    node_alone = reader(box, names=LAYERS[:1])
    assert read(box, fresh_path, "https", LAYERS[0], node_alone, tmp_path) is None
    assert read(box, fresh_path, "root", LAYERS[0], node_alone, tmp_path) == b"content"
    assert read(box, fresh_path, "https", LAYERS[0], node_alone, tmp_path) == b"content"
    others = reader(box, names=("NORTH-DISK", *LAYERS[1:]))
    for scheme in ("https", "root"):
        assert read(box, fresh_path, scheme, LAYERS[0], others, tmp_path) is None


def test_what_a_layer_has_outlives_those_behind_it(box, fresh_path, content, tmp_path):
    box.put("NORTH-DISK", fresh_path, content)
    box.put("NORTH-DISK", f"{fresh_path}.new", content)
    assert read(box, fresh_path, "root", LAYERS[0], reader(box), tmp_path) == content
    box.stop("cache-region")
    try:
        for cache in LAYERS[:2]:
            for scheme in ("https", "root"):
                assert read(box, fresh_path, scheme, cache, reader(box), tmp_path) == content
        url = box.through_cache("NORTH-DISK", f"{fresh_path}.new", "https", LAYERS[0])
        assert box.http("GET", url, reader(box)).status >= 500
    finally:
        box.start("cache-region")
    assert read(box, f"{fresh_path}.new", "https", LAYERS[0], reader(box), tmp_path) == content


@pytest.mark.parametrize("cache", LAYERS[:2])
def test_no_layer_is_an_open_proxy(box, fresh_path, cache):
    token = box.token("storage.read:/ storage.modify:/ storage.create:/", "NORTH-DISK", "NORTH_RAW", *LAYERS)
    box.put("NORTH_RAW", fresh_path, b"secret")
    box.put("NORTH-DISK", fresh_path, b"kept")
    host, raw = (box.context.url(f"{name}.root", "x").removeprefix("x://") for name in ("NORTH-DISK", "NORTH_RAW"))
    region = box.context.url("REGION.root", "x").removeprefix("x://")
    for origin in (
        f"/roots:/{raw}",
        f"/roots:/{region}",
        f"/roots:/{host}/../{raw}",
        "",
        f"/roots:/{host}/roots:/{raw}",
    ):
        answer = box.http("GET", box.url(cache, f"{origin}{fresh_path}"), token)
        assert answer.status in {403, 404}, origin
        assert b"secret" not in answer.body
    for verb in ("PUT", "DELETE", "MKCOL"):
        url = box.through_cache("NORTH-DISK", fresh_path, "https", cache)
        assert box.http(verb, url, token, b"x" if verb == "PUT" else None).status >= 400
    assert box.http("GET", box.url("NORTH-DISK", fresh_path), token).body == b"kept"
