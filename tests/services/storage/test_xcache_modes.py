"""A74: whose rights decide at a cache. The table of docs/topics/caches.md, asked of real caches."""

from __future__ import annotations

import socket
import ssl
import struct
import uuid
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from joserfc.jwk import ECKey

from boathouse.services import xcache, xrootd

PAGE = Path(__file__).parents[3] / "docs" / "topics" / "caches.md"
CACHES = {"`user`": "NORTH-CACHE", "network": "NORTH-OPEN", "claim": "NORTH-CLAIM"}
OPEN, EMBARGOED, BOTH = (
    "storage.read:/lake/cms",
    "storage.read:/lake/magic",
    "storage.read:/lake/cms storage.read:/lake/magic",
)


@pytest.fixture(scope="module")
def box(layered):
    return layered


def table() -> list[tuple[str, dict[str, bool]]]:
    """Rows of the page: who asks, and by column whether the file is given."""
    lines = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    head = next(line for line in lines if line[0] == "who asks")
    rows = [line for line in lines[lines.index(head) + 1 :] if len(line) == len(head)]
    return [(row[0], {column: cell == "yes" for column, cell in zip(head[1:], row[1:], strict=True)}) for row in rows]


def shown(box, who: str) -> str | None:
    """The token of a row."""
    names = ("NORTH-DISK", "SOUTH-DISK", "REGION", *CACHES.values())
    group = {"wlcg.groups": ["/escape", "/escape/magic"]}
    other = {"wlcg.groups": ["/escape", "/escape/cms", "/escape/magic2"]}
    return {
        "a token for the open file": lambda: box.token(OPEN, *names),
        "a token for the embargoed file": lambda: box.token(EMBARGOED, *names),
        "a token that names the group, for no path": lambda: box.token("openid", *names, **group),
        "a token that names another group, for both files": lambda: box.token(BOTH, *names, **other),
        "a token for both files, and another server": lambda: box.token(BOTH, "NORTH_RAW", **group),
        "a token for both files that has ended": lambda: box.token(BOTH, *names, life_s=-5, **group),
        "a token for both files, signed by somebody else": lambda: box.token(
            BOTH, *names, key=ECKey.generate_key("P-256", {"kid": box.key.kid}), **group
        ),
        "no token": lambda: None,
        "a machine of another network": lambda: None,
    }[who]()


@pytest.fixture(scope="module")
def files(box) -> dict[str, tuple[str, bytes]]:
    """A path and its content, which nobody else's bytes are, for each column's file."""
    made = {}
    for kind, scope in (("open", "cms"), ("embargoed", "magic")):
        path, content = f"/lake/{scope}/{uuid.uuid4().hex}", uuid.uuid4().bytes
        box.put("NORTH-DISK", path, content)
        made[kind] = (path, content)
    return made


def ask(box, url: str, token: str | None, tmp_path: Path) -> bytes | None:
    """What a cache gives."""
    if url.startswith("https:"):
        answer = box.http("GET", url, token)
        assert answer.status in {200, 403}, (url, answer.text)
        return answer.body if answer.status == 200 else None
    target = tmp_path / uuid.uuid4().hex
    done = box.client("xrdcp", "-s", url, str(target), token=token)
    return target.read_bytes() if done.returncode == 0 else None


@pytest.mark.parametrize("row", [row for row in table() if "network" not in row[0]], ids=lambda row: row[0])
def test_a74_the_table_of_modes(box, files, row, tmp_path) -> None:
    who, answers = row
    token = shown(box, who)
    for column, given in answers.items():
        for scheme in ("root", "https"):
            mode, kind = column.split(", ")
            path, content = files[kind]
            got = ask(box, box.through_cache("NORTH-DISK", path, scheme, CACHES[mode]), token, tmp_path)
            expected = content if given and (scheme, mode) != ("https", "claim") else None
            assert got == expected, (column, scheme)


def heard(box, place: tuple[str, int], source: str) -> bool:
    """Whether a server begins TLS, or the XRootD protocol, with a client of this address."""
    tls = ssl.create_default_context(cafile=str(box.context.layout.ca))
    with socket.create_connection(place, timeout=30, source_address=(source, 0)) as connection:
        try:
            if place[1] == box.context.ports["NORTH-OPEN.https"]:
                tls.wrap_socket(connection, server_hostname=place[0]).close()
                return True
            # The handshake of the protocol, to which every server has an answer.
            connection.sendall(struct.pack("!5i", 0, 0, 0, 4, 2012))
            return connection.recv(1) != b""
        except (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return False


def test_a74_a_machine_of_another_network_does_not_get_in(box, files) -> None:
    """It is not heard, at both ports: the connection ends before TLS begins."""
    _, answers = next(row for row in table() if row[0] == "a machine of another network")
    assert not any(answers.values())
    for scheme in ("https", "root"):
        place = (box.context.addresses["NORTH-OPEN.https"], box.context.ports[f"NORTH-OPEN.{scheme}"])
        assert heard(box, place, "127.0.5.5")
        assert not heard(box, place, "127.0.7.7")


def test_a52_no_way_of_writing_a_path_leads_out_of_what_a_group_may_read(box, files) -> None:
    """Also when the cache itself has the bytes, as one would that had another mode before."""
    path, content = files["embargoed"]
    own = box.data("cache-north-open") / path.lstrip("/")
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_bytes(content)
    for name in ("NORTH-OPEN", "NORTH-CLAIM"):
        token = None if name == "NORTH-OPEN" else box.token("openid", name, **{"wlcg.groups": ["/escape/cms"]})
        host = box.context.url("NORTH-DISK.root", "x").removeprefix("x://")
        directory, file = path.rsplit("/", 1)
        for form in (
            f"{path}",
            f"/lake/cms/../magic/{file}",
            f"/lake/cms/%2e%2e/magic/{file}",
            f"/lake/cms/%252e%252e/magic/{file}",
            f"//lake//cms//..//magic//{file}",
            f"/lake/cms/./../magic/{file}",
            f"/lake/cmsx/{file}",
            f"{directory}//{file}",
        ):
            answer = box.http("GET", box.url(name, f"//roots://{host}{form}"), token)
            assert answer.status in {400, 403, 404}, form
            assert content not in answer.body
    own.unlink()


def test_a74_the_token_of_a_groups_cache_opens_no_more_than_the_group(box, files) -> None:
    """Whoever gets hold of it."""
    token = xcache.token_file(box.context, "NORTH-OPEN").read_text()
    for kind, status in (("open", 200), ("embargoed", 403)):
        assert box.http("GET", box.url("NORTH-DISK", files[kind][0]), token).status == status


BROKEN = {
    "no issuer": ("scitokens.cfg", "[Global]\nonmissing = deny\n"),
    "nothing": ("scitokens.cfg", ""),
    "no INI": ("scitokens.cfg", "issuer\n"),
    "a wrong word": ("scitokens.cfg", "[Global]\nonmissing = perhaps\n[Issuer x]\nissuer = https://x\nbase_path = /\n"),
    "no rules": ("authdb", "everybody everything\n"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_cache_whose_authorization_cannot_start_does_not_serve(box, files, broken, tmp_path) -> None:
    """It ends, or refuses everybody. xrootd/xrootd#1166: it ran on, and gave what it had to everybody."""
    unit = box.units["cache-north-claim"]
    token = box.token("openid", "NORTH-CLAIM", **{"wlcg.groups": ["/escape/magic"]})
    path, content = files["open"]
    urls = [box.through_cache("NORTH-DISK", path, scheme, "NORTH-CLAIM") for scheme in ("root", "https")]
    assert ask(box, urls[0], token, tmp_path) == content
    name, text = BROKEN[broken]
    box.stop(unit.name)
    box.units[unit.name] = replace(
        unit, files=tuple(replace(file, text=text) if file.path.name == name else file for file in unit.files)
    )
    try:
        with suppress(AssertionError):
            box.start(unit.name)
        if box.processes[unit.name].poll() is None:
            for url in urls:
                assert ask(box, url, token, tmp_path) is None
                assert ask(box, url, None, tmp_path) is None
    finally:
        box.stop(unit.name)
        box.units[unit.name] = unit
        box.start(unit.name)


def test_a_cache_without_its_issuers_keys_gives_nothing(box, files) -> None:
    """The key cache is no database any more: every token is refused, and so is what is kept."""
    unit = "cache-north-claim"
    token = box.token("openid", "NORTH-CLAIM", **{"wlcg.groups": ["/escape/magic"]})
    url = box.through_cache("NORTH-DISK", files["open"][0], "root", "NORTH-CLAIM")
    (database,) = xrootd.key_cache_directory(box.context, unit).rglob("*.sqllite")
    good = database.read_bytes()
    box.stop(unit)
    database.write_bytes(b"no database")
    box.start(unit)
    try:
        assert box.client("xrdcp", "-s", "-f", url, "/dev/null", token=token).returncode != 0
    finally:
        box.stop(unit)
        database.write_bytes(good)
        box.start(unit)
    assert box.client("xrdcp", "-s", "-f", url, "/dev/null", token=token).returncode == 0
