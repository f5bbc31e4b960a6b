"""Names and paths by which one account would reach the files of another through Rucio's own rights on storage."""

from __future__ import annotations

import uuid

import pytest


def fresh() -> str:
    return f"f{uuid.uuid4().hex[:16]}"


def file(scope: str, name: str, **more: object) -> dict[str, object]:
    return {"scope": scope, "name": name, "bytes": 10, "adler32": "00000001", **more}


def add_replicas(box, login, rse, *files):
    return box.call("POST", "/replicas/", login, body={"rse": rse, "files": list(files)})


@pytest.mark.parametrize("login", ["bob", "carol"])
@pytest.mark.parametrize(
    "name",
    [
        "a/../../../../../magic/21/65/victim",
        "a/./b",
        "a//b",
        "%2e%2e/b",
        "a%2f..%2fb",
        "/a//b",
        "//a",
        "/a/../b",
        "/a/.",
    ],
)
def test_names_that_lead_elsewhere_are_refused_by_every_call(box, login, name):
    did = {"scope": "user.bob", "name": name}
    calls = [
        ("/replicas/", {"rse": "NORTH-DISK", "files": [file(**did)]}),
        ("/dids", [{**did, "type": "DATASET"}]),
        ("/dids/user.bob/x/dids", {"dids": [did]}),
        ("/dids/attachments", [{"scope": "user.bob", "name": "x", "dids": [did]}]),
        ("/rules/", {"dids": [did], "copies": 1, "rse_expression": "SOUTH-DISK", "account": login}),
    ]
    for path, body in calls:
        reply = box.call("POST", path, login, body=body)
        assert reply.status in {400, 403}, (path, reply.status, reply.body)
    assert box.rows("SELECT name FROM dids WHERE name = %s", name) == []


@pytest.mark.parametrize("login", ["bob", "carol"])
def test_no_file_has_a_name_that_begins_with_a_slash(box, north_raw, login):
    bad = file("user.bob", f"/{fresh()}")
    pfn = f"{north_raw}/user/bob/{fresh()}"
    for rse, registered in (("NORTH-DISK", bad), ("NORTH_RAW", bad | {"pfn": pfn})):
        for way, (url, body) in ways_to_register(box, rse, registered).items():
            reply = box.call("POST", url, login, body=body)
            assert (reply.status, reply.error) == (400, "InvalidObject"), (way, reply.status, reply.body)
    archive = fresh()
    assert add_replicas(box, "bob", "NORTH-DISK", file("user.bob", f"{archive}.zip")).status == 201
    reply = box.call("POST", f"/dids/user.bob/{archive}.zip/dids", login, body={"dids": [bad]})
    assert (reply.status, reply.error) == (400, "InvalidObject"), reply.body
    assert box.rows("SELECT name FROM dids WHERE name = %s", bad["name"]) == []


@pytest.mark.parametrize("slash", ["/", "%2F"])
def test_collections_may_be_called_as_in_cms(box, slash):
    """Clients write the slashes of a name in a URL as they are, or escaped; a server keeps all of them."""
    dataset, container, member = (f"/{fresh()}/Run2016B-v1/NANOAOD", f"/{fresh()}/all/NANOAOD", fresh())

    def path(name: str) -> str:
        return f"/dids/user.bob/{name.replace('/', slash)}"

    for name, kind in ((dataset, "DATASET"), (container, "CONTAINER")):
        assert box.call("POST", path(name), "bob", body={"type": kind}).status == 201
        assert box.call("GET", path(name), "bob").json["name"] == name
    content = {"rse": "NORTH-DISK", "dids": [file("user.bob", member)]}
    assert box.call("POST", f"{path(dataset)}/dids", "bob", body=content).status == 201
    inside = {"dids": [{"scope": "user.bob", "name": dataset}]}
    assert box.call("POST", f"{path(container)}/dids", "bob", body=inside).status == 201
    assert [line["name"] for line in box.call("GET", f"{path(container)}/dids", "bob").lines] == [dataset]
    assert [line["name"] for line in box.call("GET", f"{path(container)}/files", "bob").lines] == [member]
    assert box.call("POST", f"{path(dataset)}/meta", "bob", body={"meta": {"colour": "red"}}).status == 201
    rule = {**inside, "copies": 1, "rse_expression": "NORTH-DISK", "account": "bob"}
    assert box.call("POST", "/rules/", "bob", body=rule).status == 201
    (made,) = box.call("GET", f"{path(dataset)}/rules", "bob").lines
    assert (made["name"], made["state"]) == (dataset, "OK")
    gone = box.call("DELETE", f"{path(dataset)}/dids", "bob", body={"dids": [{"scope": "user.bob", "name": member}]})
    assert gone.status == 200
    new = {"scope": "user.bob", "name": f"/{fresh()}/b", "type": "DATASET"}
    assert box.call("POST", "/dids", "bob", body=[new]).status == 201


@pytest.fixture(scope="module")
def north_raw(box) -> str:
    """The prefix of URLs of storage on which paths are registered."""
    protocols = box.call("GET", "/rses/NORTH_RAW/protocols", "carol").json
    https = next(protocol for protocol in protocols if protocol["scheme"] == "https")
    return f"https://{https['hostname']}:{https['port']}/lake"


@pytest.fixture(scope="module")
def secret(box) -> str:
    name = fresh()
    assert add_replicas(box, "alice", "NORTH-DISK", file("magic", name)).status == 201
    return name


FOREIGN = [
    *("/magic/f", "/user/alice/f", "/user/bobby/f", "/user/bob", "/f", "", "/user/bob/../alice/f", "/user/bob/./f"),
    *("/user/bob//f", "//user/bob/f", "/user/bob/%2e%2e/alice/f", "/user/bob/f%2fg", "/user/bob\\..\\alice/f"),
    *("/user/bob/f?x", "/user/bob/f#x", "/user/bob/.\n./alice/f", "/user/bob/f\t", "/user/bob/f "),
]


def ways_to_register(box, rse, registered):
    """Every call by which a path comes into the catalogue."""
    dataset = fresh()
    assert box.call("POST", f"/dids/user.bob/{dataset}", "bob", body={"type": "DATASET"}).status == 201
    content = {"rse": rse, "dids": [registered]}
    new = {"scope": "user.bob", "name": fresh(), "type": "DATASET", **content}
    return {
        "replicas": ("/replicas/", {"rse": rse, "files": [registered]}),
        "attach": (f"/dids/user.bob/{dataset}/dids", content),
        "attachments": ("/dids/attachments", [{"scope": "user.bob", "name": dataset, **content}]),
        "new dataset": (f"/dids/user.bob/{fresh()}", {"type": "DATASET", **content}),
        "new datasets": ("/dids", [new]),
    }


@pytest.mark.parametrize("path", FOREIGN)
def test_a_registered_path_lies_in_the_directory_of_its_scope(box, north_raw, path):
    registered = file("user.bob", fresh(), pfn=north_raw + path)
    for way, (url, body) in ways_to_register(box, "NORTH_RAW", registered).items():
        reply = box.call("POST", url, "bob", body=body)
        assert reply.status == 403, (way, reply.status, reply.body)
        assert "is not plainly below" in reply.body
    assert box.rows("SELECT name FROM replicas WHERE name = %s", registered["name"]) == []


@pytest.mark.parametrize("path", ["/user/bob/f", "/user.bob/f", "/user/bob/run 3/a..b/f.root"])
def test_a_path_within_may_be_registered(box, north_raw, path):
    for way in ("replicas", "attach", "attachments", "new dataset", "new datasets"):
        name = fresh()
        registered = file("user.bob", name, pfn=f"{north_raw}{path}{name}")
        url, body = ways_to_register(box, "NORTH_RAW", registered)[way]
        reply = box.call("POST", url, "bob", body=body)
        assert reply.status in {200, 201}, (way, reply.status, reply.body)
        assert box.rows("SELECT path FROM replicas WHERE name = %s", name) == [(f"{path}{name}",)]


def test_administrators_may_register_any_path(box, north_raw):
    assert add_replicas(box, "carol", "NORTH_RAW", file("cms", fresh(), pfn=f"{north_raw}/old/{fresh()}")).status == 201


def test_no_replica_by_attaching_a_file_of_others(box, secret):
    foreign = file("user.alice", fresh())
    for way, (url, body) in ways_to_register(box, "NORTH-DISK", foreign).items():
        reply = box.call("POST", url, "bob", body=body)
        assert reply.status == 403, (way, reply.status, reply.body)
    assert box.rows("SELECT name FROM dids WHERE name = %s", foreign["name"]) == []


def test_nothing_under_embargo_is_attached(box, secret):
    dataset = {"scope": "user.bob", "name": fresh()}
    assert box.call("POST", "/dids", "bob", body=[{**dataset, "type": "DATASET"}]).status == 201
    attached = {"dids": [{"scope": "magic", "name": secret}]}
    new = f"/dids/user.bob/{fresh()}"
    for path, body in (
        (f"/dids/user.bob/{dataset['name']}/dids", attached),
        ("/dids/attachments", [{**dataset, **attached}]),
        (new, {"type": "DATASET", **attached}),
        ("/dids", [{"scope": "user.bob", "name": fresh(), "type": "DATASET", **attached}]),
    ):
        reply = box.call("POST", path, "bob", body=body)
        assert reply.status == 403, (path, reply.status, reply.body)
        assert "under embargo" in reply.body
    assert box.rows("SELECT name FROM contents WHERE child_name = %s", secret) == []
    assert box.call("GET", new, "bob").status == 404


def test_a_rule_reaches_nothing_under_embargo_at_any_depth(box, secret):
    """Somebody who may has put it there; or a sample was taken of it."""
    dataset, container, outer = (fresh() for _ in range(3))
    for name, kind in ((dataset, "DATASET"), (container, "CONTAINER"), (outer, "CONTAINER")):
        assert box.call("POST", f"/dids/cms/{name}", "alice", body={"type": kind}).status == 201
    for parent, scope, child in ((dataset, "magic", secret), (container, "cms", dataset), (outer, "cms", container)):
        attached = {"dids": [{"scope": scope, "name": child}]}
        assert box.call("POST", f"/dids/cms/{parent}/dids", "alice", body=attached).status == 201
    own = fresh()
    assert box.call("POST", f"/dids/user.bob/{own}", "bob", body={"type": "CONTAINER"}).status == 201
    for name in (dataset, container, outer):
        did = {"scope": "cms", "name": name}
        rule = {"dids": [did], "copies": 1, "rse_expression": "SOUTH-DISK", "account": "bob"}
        reply = box.call("POST", "/rules/", "bob", body=rule)
        assert reply.status == 403, reply.body
        assert "under embargo" in reply.body
        assert box.call("POST", f"/dids/user.bob/{own}/dids", "bob", body={"dids": [did]}).status == 403
        assert box.call("POST", "/rules/", "alice", body={**rule, "account": "alice"}).status == 201
