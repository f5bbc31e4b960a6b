"""Another issuer beside the facility's own: what its people may, and that it is nothing else."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from boathouse.plan.service import Programs
from boathouse.testing.wait import wait_for

from .community import Both, Member, both, content


@pytest.fixture(scope="module")
def world(programs: Programs) -> Iterator[Both]:
    with both(programs) as running:
        yield running


@pytest.fixture(scope="module")
def dana(world: Both) -> Member:
    return world.member("dana")


@pytest.fixture(scope="module")
def stored(world: Both, dana: Member) -> tuple[str, bytes]:
    """A path that dana wrote to on CNAF-STORM, and what is there."""
    body = content()
    path = "/lake/lofar/survey/a.dat"
    assert dana.https("PUT", world.file("CNAF-STORM", path), body) == 201
    return path, body


def test_a60_a_known_person_is_a_user_of_the_catalogue(dana: Member) -> None:
    assert dana.whoami() == (200, "carol")


def test_a60_a_member_of_a_mapped_group_is_the_groups_account(world: Both) -> None:
    assert world.member("eva").whoami() == (200, "lofar")


def test_a60_anybody_else_is_nobody(world: Both) -> None:
    assert world.member("fred").whoami()[0] == 401
    ungrouped = world.member("eva", "openid profile fts storage.read:/")
    assert ungrouped.whoami()[0] == 401, "the token names no group"


def test_a60_names_of_services_mean_nothing_elsewhere(world: Both) -> None:
    """The community's client `operator` is not the lake's."""
    token = world.aai.client_token("operator", f"rucio {world.box.endpoints.transfers_audience}", "openid profile fts")
    operator = Member(world, "operator", token)
    assert operator.whoami()[0] == 401
    reply = world.pool.request("GET", f"{operator.transfers}/whoami", headers=operator.headers)
    assert reply.status == 200
    assert reply.json()["is_root"] is False
    assert reply.json()["user_dn"] == "community:operator"
    assert reply.json()["vos"] == ["lofar"]


def test_a60_reads_and_writes_over_https(world: Both, dana: Member, stored: tuple[str, bytes]) -> None:
    path, body = stored
    url = world.file("CNAF-STORM", path)
    assert dana.get(url) == (200, body)
    assert dana.https("PUT", f"{url}.gone", b"x") == 201
    assert dana.https("DELETE", f"{url}.gone") in (200, 204)
    assert dana.https("GET", f"{url}.gone") == 404


@pytest.mark.parametrize(
    "path",
    ["/lake/cms/x", "/lake/lofar2/x", "/lake/lofarx", "/lake/user/carol/x", "/lake/x", "/lake/lofar/../cms/x"],
)
def test_a60_nothing_else_over_https(world: Both, dana: Member, path: str) -> None:
    """Its issuer gave dana scopes for everything."""
    url = world.file("CNAF-STORM", path)
    assert dana.https("PUT", url, b"x") == 403 or ".." in path
    assert dana.https("DELETE", url) in (403, 404, 400)
    assert dana.https("GET", url) in (403, 404, 400)
    assert not list((world.box.state / "data" / "se-cnaf-storm" / "lake").glob("cms/x"))


def test_a60_reads_and_writes_over_the_xrootd_protocol(
    world: Both, dana: Member, stored: tuple[str, bytes], programs: Programs, tmp_path: Path
) -> None:
    path, body = stored
    root = world.element("CNAF-STORM").root
    copy = programs.xrootd_bin / "xrdcp"
    dana.run(copy, "--silent", f"{root}/{path}", tmp_path / "read.dat")
    assert (tmp_path / "read.dat").read_bytes() == body
    (tmp_path / "write.dat").write_bytes(body[::-1])
    dana.run(copy, "--silent", tmp_path / "write.dat", f"{root}//lake/lofar/survey/b.dat")
    assert dana.get(world.file("CNAF-STORM", "/lake/lofar/survey/b.dat")) == (200, body[::-1])
    for refused in ("/lake/cms/y", "/lake/lofar2/y", "/lake/lofarx"):
        assert dana.run(copy, "--silent", tmp_path / "write.dat", f"{root}/{refused}", check=False).returncode


def test_a60_reads_through_the_cache_over_both_protocols(
    world: Both, dana: Member, stored: tuple[str, bytes], programs: Programs, tmp_path: Path
) -> None:
    path, body = stored
    (cache,) = world.box.endpoints.caches
    origin = "/roots:/" + world.element("CNAF-STORM").root.removeprefix("root:")
    assert dana.get(f"{cache.https}{origin}/{path}") == (200, body)
    dana.run(programs.xrootd_bin / "xrdcp", "--silent", f"{cache.root}/{origin}/{path}", tmp_path / "cached.dat")
    assert (tmp_path / "cached.dat").read_bytes() == body
    alice = world.box.login("alice")
    secret = world.file("CNAF-STORM", "/lake/cms/secret.dat")
    headers = {"Authorization": f"Bearer {alice.token()}"}
    assert world.pool.request("PUT", secret, headers=headers, body=b"cms only").status == 201
    own = world.pool.request("GET", f"{cache.https}{origin}//lake/cms/secret.dat", headers=headers)
    assert (own.status, own.data) == (200, b"cms only"), "alice has it in the cache"
    assert dana.https("GET", f"{cache.https}{origin}//lake/cms/secret.dat") == 403


def test_a60_a_copy_door_takes_no_token_of_theirs(world: Both, dana: Member, stored: tuple[str, bytes]) -> None:
    plan = world.box.local.plan
    door = plan.unit("copy-cnaf-storm").url
    audience = door.split("//")[1].split(":")[0]
    token = world.aai.token("dana", [audience])
    path, _ = stored
    assert Member(world, "dana", token).https("GET", f"{door}{path}") == 403


def test_a60_the_catalogue_places_and_copies_their_files(world: Both, dana: Member, tmp_path: Path) -> None:
    file = tmp_path / "placed.dat"
    file.write_bytes(content())
    client = world.box.env("alice")["PATH"].split(":")[0]
    rucio = Path(client) / "rucio"
    dana.run(rucio, "upload", "--rse", "CNAF-STORM", "--scope", "lofar", file)
    rule = dana.run(rucio, "rule", "add", "lofar:placed.dat", "--copies", "1", "--rses", "QOS=SAFE").stdout.split()[-1]
    wait_for(
        "the rule is satisfied",
        lambda: dana.catalogue("GET", f"/rules/{rule}").json()["state"] == "OK",
        timeout_s=60,
    )
    dana.run(rucio, "download", "lofar:placed.dat", "--rses", "DESY-DCACHE", "--dir", tmp_path / "out")
    assert (tmp_path / "out" / "lofar" / "placed.dat").read_bytes() == file.read_bytes()
    refused = dana.run(rucio, "upload", "--rse", "CNAF-STORM", "--scope", "cms", file, check=False)
    assert "carol is not a member" in refused.stdout + refused.stderr
    assert dana.catalogue("GET", "/dids/cms/placed.dat").status == 404


def test_a60_the_transfer_service_copies_for_them_what_they_may(
    world: Both, dana: Member, stored: tuple[str, bytes]
) -> None:
    path, body = stored
    source = world.file("CNAF-STORM", path)
    copied = world.file("DESY-DCACHE", "/lake/lofar/survey/copied.dat")
    status, job = dana.submit(source, copied)
    assert status == 200, job
    assert dana.ended(job) == "FINISHED None"
    assert dana.get(copied) == (200, body)
    for planted in ("/lake/cms/planted.dat", "/lake/lofar2/planted.dat"):
        status, job = dana.submit(source, world.file("DESY-DCACHE", planted))
        assert status == 200, job
        assert dana.ended(job).startswith("FAILED")
    assert not list((world.box.state / "data" / "se-desy-dcache" / "lake").glob("*/planted.dat"))


def kid(token: str) -> str:
    part = token.partition(".")[0]
    return str(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["kid"])


def test_a60_keys_that_rotate_there_are_followed(world: Both, dana: Member, stored: tuple[str, bytes]) -> None:
    path, body = stored
    before = kid(dana.token)
    world.aai.rotate()
    fresh = wait_for(
        "tokens are signed with the new key",
        lambda: next((one for one in [world.member("dana")] if kid(one.token) != before), None),
        timeout_s=60,
    )
    assert fresh.get(world.file("CNAF-STORM", path)) == (200, body)
    assert fresh.whoami() == (200, "carol")
    status, job = fresh.submit(
        world.file("CNAF-STORM", path), world.file("DESY-DCACHE", "/lake/lofar/survey/rotated.dat")
    )
    assert status == 200, job
    assert fresh.ended(job) == "FINISHED None"
    assert dana.get(world.file("CNAF-STORM", path)) == (200, body), "the old key counts as long as it is published"


def test_a60_their_issuer_may_be_down(world: Both, stored: tuple[str, bytes]) -> None:
    path, body = stored
    # Signed before the outage; the catalogue's workers have met the key.
    member = world.member("dana")
    wait_for("workers have met the key", lambda: all(member.whoami()[0] == 200 for _ in range(8)), timeout_s=10)
    world.aai.stop()
    try:
        assert member.get(world.file("CNAF-STORM", path)) == (200, body)
        assert member.whoami() == (200, "carol")
        status, job = member.submit(
            world.file("CNAF-STORM", path), world.file("DESY-DCACHE", "/lake/lofar/survey/outage.dat")
        )
        assert status == 200, job
        assert member.ended(job) == "FINISHED None"
        world.box.local.up()
        assert member.get(world.file("CNAF-STORM", path)) == (200, body), "after another `up` as well"
    finally:
        world.aai.start()
