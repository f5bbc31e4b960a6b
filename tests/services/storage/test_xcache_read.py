"""Reading through a cache: same bytes by both protocols, same decision as at the storage element, nothing written."""

from __future__ import annotations

import signal
import zlib
from pathlib import Path

import pytest

from boathouse.testing.wait import wait_for

CACHE = "NORTH-CACHE"


def reader(box, scope="storage.read:/lake/cms"):
    return box.token(scope, "NORTH-DISK", "SOUTH-DISK", CACHE)


def kept(box, path) -> Path:
    """Where the cache keeps a file: by its path alone, whichever element it came from."""
    return box.data("cache-north-cache") / path.lstrip("/")


def xrdcp(box, url, target, token):
    result = box.client("xrdcp", "-s", "-f", url, str(target), token=token)
    assert result.returncode == 0, result.stderr
    return target.read_bytes()


def test_cold_and_warm_over_https(box, fresh_path, content):
    box.put("NORTH-DISK", fresh_path, content)
    for state in ("cold", "warm"):
        assert box.http("GET", box.through_cache("NORTH-DISK", fresh_path), reader(box)).body == content, state
    assert kept(box, fresh_path).exists()


def test_cold_and_warm_over_root(box, fresh_path, content, tmp_path):
    box.put("SOUTH-DISK", fresh_path, content)
    url = box.through_cache("SOUTH-DISK", fresh_path, "root")
    for state in ("cold", "warm"):
        assert xrdcp(box, url, tmp_path / state, reader(box)) == content
    assert kept(box, fresh_path).exists()


@pytest.mark.parametrize("form", ["/roots://{host}//{path}", "/roots:/{host}/{path}", "/root://{host}//{path}"])
def test_ways_to_write_the_path(box, fresh_path, form):
    box.put("NORTH-DISK", fresh_path, b"content")
    host = box.context.url("NORTH-DISK.root", "x").removeprefix("x://")
    path = form.format(host=host, path=fresh_path.lstrip("/"))
    assert box.http("GET", box.url(CACHE, path), reader(box)).body == b"content"


def test_replicas_share_what_is_kept(box, fresh_path, content):
    """Asked for the replica at another element, which is gone there, the cache gives what it has."""
    box.put("NORTH-DISK", fresh_path, content)
    assert box.http("GET", box.through_cache("NORTH-DISK", fresh_path), reader(box)).body == content
    url = box.through_cache("SOUTH-DISK", fresh_path)
    wait_for("the other replica's URL", lambda: box.http("GET", url, reader(box)).body == content)


def test_ranges(box, fresh_path, content):
    box.put("NORTH-DISK", fresh_path, content)
    url = box.through_cache("NORTH-DISK", fresh_path)
    assert box.http("GET", url, reader(box), Range="bytes=700000-700099").body == content[700000:700100]


def test_a22_checksum_through_the_cache(box, fresh_path, content):
    box.put("NORTH-DISK", fresh_path, content)
    url = box.through_cache("NORTH-DISK", fresh_path)
    head = box.http("HEAD", url, reader(box), Want_Digest="adler32")
    assert head.headers["digest"] == f"adler32={zlib.adler32(content):08x}"


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "kept"])
@pytest.mark.parametrize("scheme", ["https", "root"])
def test_a52_embargoed_data_needs_the_scope_here_too(box, fresh_path, warm, scheme, tmp_path):
    path = fresh_path.replace("cms", "magic")
    box.put("NORTH-DISK", path, b"secret")
    url = box.through_cache("NORTH-DISK", path, scheme)
    if warm:
        member = reader(box, "storage.read:/lake/magic")
        assert box.http("GET", box.through_cache("NORTH-DISK", path), member).body == b"secret"
        assert kept(box, path).exists()
    if scheme == "https":
        answer = box.http("GET", url, reader(box))
        assert answer.status == 403
        assert b"secret" not in answer.body
    else:
        assert box.client("xrdcp", "-s", url, str(tmp_path / "out"), token=reader(box)).returncode != 0
    assert box.http("GET", box.through_cache("NORTH-DISK", path)).status == 403


def test_the_cache_checks_its_own_audience(box, fresh_path):
    box.put("NORTH-DISK", fresh_path, b"content")
    url = box.through_cache("NORTH-DISK", fresh_path)
    assert box.http("GET", url, reader(box)).status == 200
    elsewhere = box.token("storage.read:/", "NORTH-DISK", "SOUTH-DISK")
    assert box.http("GET", url, elsewhere).status == 403


@pytest.mark.parametrize("verb", ["PUT", "DELETE", "MKCOL", "COPY"])
def test_nothing_is_written_through_the_cache(box, fresh_path, verb):
    box.put("NORTH-DISK", fresh_path, b"kept")
    token = reader(box, "storage.read:/ storage.modify:/ storage.create:/")
    for path in (fresh_path, f"{fresh_path}.new"):
        answer = box.http(verb, box.through_cache("NORTH-DISK", path), token, b"x" if verb == "PUT" else None)
        assert answer.status >= 400
    direct = box.token("storage.read:/", "NORTH-DISK")
    assert box.http("GET", box.url("NORTH-DISK", fresh_path), direct).body == b"kept"
    assert box.http("HEAD", box.url("NORTH-DISK", f"{fresh_path}.new"), direct).status == 404


@pytest.mark.parametrize("command", ["rm", "mkdir", "rmdir", "truncate"])
def test_nothing_is_changed_over_root(box, fresh_path, command):
    box.put("NORTH-DISK", fresh_path, b"kept")
    token = reader(box, "storage.read:/ storage.modify:/ storage.create:/")
    host = box.context.url("NORTH-DISK.root", "x").removeprefix("x://")
    extra = ("0",) if command == "truncate" else ()
    path = f"/roots:/{host}{fresh_path}" + (".new" if command == "mkdir" else "")
    assert box.client("xrdfs", box.context.url(f"{CACHE}.root", "roots"), command, path, *extra, token=token).returncode
    direct = box.token("storage.read:/", "NORTH-DISK")
    assert box.http("GET", box.url("NORTH-DISK", fresh_path), direct).body == b"kept"


def origins(box):
    host, port = box.context.addresses["NORTH-DISK.root"], box.context.ports["NORTH-DISK.root"]
    raw = box.context.url("NORTH_RAW.root", "x").removeprefix("x://")
    return {
        "an element that is not behind this cache": f"/roots:/{raw}",
        "another port": f"/roots:/{host}:{port + 1}",
        "a longer port": f"/roots:/{host}:{port}0",
        "a user name": f"/roots:/somebody@{host}:{port}",
        "another scheme": f"/https:/{host}:{box.context.ports['NORTH-DISK.https']}",
        "http": f"/http:/{host}:{port}",
        "no origin": "",
        "the machine": "/etc/passwd#",
        "the outside": "/roots:/example.org:1094",
        "dots": f"/roots:/{host}:{port}/../{raw}",
    }


@pytest.mark.parametrize("number", range(10))
def test_no_open_proxy(box, fresh_path, number):
    """Even who may read everything cannot make the cache connect elsewhere."""
    what, origin = list(origins(box).items())[number]
    token = box.token("storage.read:/", "NORTH-DISK", "SOUTH-DISK", "NORTH_RAW", CACHE)
    box.put("NORTH_RAW", fresh_path, b"secret")
    answer = box.http("GET", box.url(CACHE, f"{origin}{fresh_path}"), token)
    assert answer.status in {403, 404}, what
    assert b"secret" not in answer.body


def test_complete_files_outlive_their_element(box, fresh_path, content, tmp_path):
    box.put("SOUTH-DISK", fresh_path, content)
    url = box.through_cache("SOUTH-DISK", fresh_path)
    assert box.http("GET", url, reader(box)).body == content
    box.stop("se-south-disk", number=signal.SIGKILL)
    try:
        assert box.http("GET", url, reader(box)).body == content
        root = box.through_cache("SOUTH-DISK", fresh_path, "root")
        assert xrdcp(box, root, tmp_path / "out", reader(box)) == content
        missing = box.http("GET", box.through_cache("SOUTH-DISK", f"{fresh_path}.never"), reader(box))
        assert missing.status >= 500
    finally:
        box.start("se-south-disk")
    box.put("SOUTH-DISK", f"{fresh_path}.new", b"again")
    assert box.http("GET", box.through_cache("SOUTH-DISK", f"{fresh_path}.new"), reader(box)).body == b"again"


def test_a_new_service_token_is_taken_up(box, fresh_path, tmp_path):
    """The keeper replaces the file while the cache runs."""
    box.put("NORTH-DISK", fresh_path, b"content")
    box.write_service_tokens()
    url = box.through_cache("NORTH-DISK", fresh_path, "root")
    assert xrdcp(box, url, tmp_path / "out", reader(box)) == b"content"
