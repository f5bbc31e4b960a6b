"""Another issuer beside the facility's own: what its people may, and that it is nothing else."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
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
        timeout_s=180,
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


def test_a60_boathouse_itself_logs_in_at_their_issuer(world: Both, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text(world.aai.password("dana"))
    told = world.box.login_with("dana", "--issuer", "community", "--user", "dana", "--password-file", password)
    assert "Logged in to lake as carol" in told.stdout
    file = tmp_path / "by-boathouse.dat"
    file.write_bytes(content())
    world.box.cli("put", file, "--scope", "lofar", "--rse", "CNAF-STORM", user="dana")
    world.box.cli("get", "lofar:by-boathouse.dat", "--to", tmp_path / "got", user="dana")
    assert (tmp_path / "got" / file.name).read_bytes() == file.read_bytes()
    refused = world.box.cli("put", file, "--scope", "cms", "--rse", "CNAF-STORM", user="dana", check=False)
    assert refused.returncode
    unknown = world.box.cli("login", "--issuer", "nobody", check=False)
    assert "one of own, community" in unknown.stderr


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
        timeout_s=180,
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
    wait_for("workers have met the key", lambda: all(member.whoami()[0] == 200 for _ in range(8)), timeout_s=60)
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


# Two VOs in one lake: escape with the facility's issuer, lofar with the community's


@dataclass(frozen=True)
class Vo:
    """A person of a VO, and their file `same.dat` in its scope."""

    who: Member
    scope: str
    path: str
    body: bytes


@pytest.fixture(scope="module")
def vos(world: Both, dana: Member, tmp_path_factory: pytest.TempPathFactory) -> tuple[Vo, Vo]:
    """Both VOs have a file of one name on one element."""
    alice = Member(world, "alice", world.box.login("alice").token())
    rucio = Path(world.box.env("alice")["PATH"].split(":")[0]) / "rucio"
    made = []
    for who, scope in ((alice, "cms"), (dana, "lofar")):
        file = tmp_path_factory.mktemp(scope) / "same.dat"
        file.write_bytes(content())
        who.run(rucio, "upload", "--rse", "CNAF-STORM", "--scope", scope, file)
        replicas = who.catalogue("GET", f"/replicas/{scope}/same.dat").data.decode()
        (path,) = set(re.findall(rf"/lake/{scope}/\w\w/\w\w/same\.dat", replicas))
        made.append(Vo(who, scope, path, file.read_bytes()))
    return made[0], made[1]


def cached(world: Both, path: str) -> str:
    (cache,) = world.box.endpoints.caches
    return f"{cache.https}//roots:{world.element('CNAF-STORM').root.removeprefix('root:')}/{path}"


def test_a59_one_name_in_two_vos_is_two_files(world: Both, vos: tuple[Vo, Vo]) -> None:
    assert vos[0].body != vos[1].body
    for vo in vos:
        assert vo.who.get(world.file("CNAF-STORM", vo.path)) == (200, vo.body)
        assert vo.who.get(cached(world, vo.path)) == (200, vo.body)
        assert vo.who.get(cached(world, vo.path)) == (200, vo.body), "also when it is kept"


def test_a59_nobody_gets_a_byte_of_the_other_vo(
    world: Both, vos: tuple[Vo, Vo], programs: Programs, tmp_path: Path
) -> None:
    for vo, other in (vos, vos[::-1]):
        assert other.who.get(cached(world, other.path)) == (200, other.body), "the cache has it"
        for url in (world.file("CNAF-STORM", other.path), cached(world, other.path)):
            status, body = vo.who.get(url)
            assert status == 403
            assert other.body not in body
        assert vo.who.https("PUT", world.file("CNAF-STORM", f"{other.path}.mine"), b"x") == 403
        assert vo.who.https("DELETE", world.file("CNAF-STORM", other.path)) == 403
        root = f"{world.element('CNAF-STORM').root}/{other.path}"
        copy = vo.who.run(programs.xrootd_bin / "xrdcp", "--silent", root, tmp_path / "stolen.dat", check=False)
        assert copy.returncode
        assert not (tmp_path / "stolen.dat").exists()


def test_a59_nobody_copies_out_of_the_other_vo(world: Both, vos: tuple[Vo, Vo]) -> None:
    for vo, other in (vos, vos[::-1]):
        target = world.file("DESY-DCACHE", f"/lake/{vo.scope}/stolen.dat")
        status, job = vo.who.submit(world.file("CNAF-STORM", other.path), target)
        assert status == 200, job
        assert vo.who.ended(job).startswith("FAILED SOURCE [auth")
        assert vo.who.https("GET", target) == 404


def test_a59_jobs_are_seen_by_their_own_vo_only(world: Both, vos: tuple[Vo, Vo]) -> None:
    for vo, other in (vos, vos[::-1]):
        source = world.file("CNAF-STORM", vo.path)
        status, job = vo.who.submit(source, world.file("DESY-DCACHE", f"/lake/{vo.scope}/job.dat"))
        assert status == 200, job
        assert vo.who.ended(job) == "FINISHED None"
        url = f"{world.box.endpoints.transfers}/jobs/{job}"
        own = world.pool.request("GET", url, headers=vo.who.headers).json()
        assert own["vo_name"] == ("lofar" if vo.scope == "lofar" else "escape")
        for method in ("GET", "DELETE"):
            assert world.pool.request(method, url, headers=other.who.headers).status in (403, 404)
        listed = world.pool.request(
            "GET", f"{world.box.endpoints.transfers}/jobs?state_in=FINISHED", headers=other.who.headers
        )
        assert listed.status == 200
        assert job not in listed.data.decode()


def test_a59_the_catalogue_lets_nobody_use_what_is_the_other_vos(vos: tuple[Vo, Vo]) -> None:
    for vo, other in (vos, vos[::-1]):
        account = vo.who.whoami()[1]
        their = {"scope": other.scope, "name": "same.dat"}
        rule = {"dids": [their], "account": account, "copies": 1, "rse_expression": "DESY-DCACHE"}
        refused = vo.who.catalogue("POST", "/rules/", rule)
        assert (refused.status, "embargo" in refused.data.decode()) == (403, True), refused.data
        dataset = {"type": "DATASET"}
        assert vo.who.catalogue("POST", f"/dids/{vo.scope}/mine", dataset).status in (201, 409)
        refused = vo.who.catalogue("POST", f"/dids/{vo.scope}/mine/dids", {"dids": [their]})
        assert refused.status == 403, refused.data
        assert vo.who.catalogue("POST", f"/dids/{other.scope}/planted", dataset).status == 403


def test_a59_the_catalogue_shows_names_to_everybody(vos: tuple[Vo, Vo]) -> None:
    """What is *not* separated: Rucio asks no permission for lists and metadata (decision 0007)."""
    for vo, other in (vos, vos[::-1]):
        shown = vo.who.catalogue("GET", f"/dids/{other.scope}/same.dat")
        assert shown.status == 200
        assert shown.json()["bytes"] == len(other.body)
