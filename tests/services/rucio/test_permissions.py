"""Who may do what in the catalogue: one table for ordinary members, strangers to a group, and administrators."""

from __future__ import annotations

import uuid

import pytest


def fresh() -> str:
    return f"f{uuid.uuid4().hex[:16]}"


def replica(scope: str, name: str, **more: object) -> dict[str, object]:
    return {"scope": scope, "name": name, "bytes": 10, "adler32": "00000001", **more}


def add_replicas(box, login, scope, name, rse="NORTH-DISK"):
    return box.call("POST", "/replicas", login, body={"rse": rse, "files": [replica(scope, name)]})


def set_state(box, login, scope, name, state):
    files = [{"scope": scope, "name": name, "state": state}]
    return box.call("PUT", "/replicas", login, body={"rse": "NORTH-DISK", "files": files})


def state_of(box, name):
    return box.rows("SELECT state FROM replicas WHERE name = %s", name)[0][0].strip()


def add_dataset(box, login, scope, name):
    return box.call("POST", f"/dids/{scope}/{name}", login, body={"type": "DATASET"})


def add_rule(box, login, scope, name, expression="SOUTH-DISK", **more):
    body = {
        "dids": [{"scope": scope, "name": name}],
        "copies": 1,
        "rse_expression": expression,
        "account": login,
        **more,
    }
    return box.call("POST", "/rules/", login, body=body)


@pytest.fixture(scope="module")
def cms_file(box):
    name = fresh()
    assert add_replicas(box, "carol", "cms", name).status == 201
    return name


@pytest.fixture(scope="module")
def magic_dataset(box):
    name = fresh()
    assert add_dataset(box, "carol", "magic", name).status == 201
    return name


@pytest.mark.parametrize(
    ("login", "scope", "allowed"),
    [
        ("alice", "user.alice", True),
        ("alice", "cms", True),
        ("alice", "magic", True),
        ("alice", "user.bob", False),
        ("bob", "cms", True),
        ("bob", "magic", False),
        ("bob", "user.alice", False),
        ("carol", "magic", True),
        ("carol", "user.alice", True),
        ("operator", "magic", True),
    ],
)
def test_writing_into_a_scope(box, login, scope, allowed):
    expected = 201 if allowed else 403
    assert add_dataset(box, login, scope, fresh()).status == expected
    assert add_replicas(box, login, scope, fresh()).status == expected


def test_a_refusal_says_why_and_does_not_ask_for_a_login(box):
    reply = add_dataset(box, "bob", "magic", fresh())
    assert reply.status == 403
    assert reply.error == "AccessDenied"
    assert "belongs to magic, and bob is not a member" in reply.body


def test_no_replica_of_a_file_of_others(box, cms_file):
    """Rucio's own check looks at new files only: a false replica of a known file would pass it."""
    name = fresh()
    assert add_replicas(box, "carol", "magic", name).status == 201
    assert add_replicas(box, "bob", "magic", name, rse="SOUTH-DISK").status == 403
    assert set_state(box, "bob", "magic", name, "U").status == 403


@pytest.mark.parametrize("state", ["D", "B", "U", "C", "T", "A"])
def test_no_state_of_a_replica_of_a_colleague(box, state):
    """A replica that is said to be deleted, bad or not there costs its owner the file."""
    name = fresh()
    assert add_replicas(box, "alice", "cms", name).status == 201
    refused = set_state(box, "bob", "cms", name, state)
    reason = "belongs to alice" if state == "A" else "Only administrators"
    assert (refused.status, reason in refused.body) == (403, True), refused.body
    assert state_of(box, name) == "A"
    mixed = {"rse": "NORTH-DISK", "files": [{"scope": "cms", "name": name, "state": state}]}
    mine = fresh()
    assert add_replicas(box, "bob", "cms", mine).status == 201
    mixed["files"].insert(0, {"scope": "cms", "name": mine, "state": "A"})
    assert box.call("PUT", "/replicas", "bob", body=mixed).status == 403


def test_an_upload_of_a_stock_client_announces_its_file_and_makes_it_available(box):
    name = fresh()
    announced = {"rse": "NORTH-DISK", "files": [replica("cms", name, state="C")]}
    assert box.call("POST", "/replicas", "alice", body=announced).status == 201
    assert set_state(box, "bob", "cms", name, "A").status == 403
    landed = {"rse": "NORTH-DISK", "files": [replica("cms", name, state="A")]}
    assert box.call("PUT", "/replicas", "alice", body=landed).status == 200
    assert state_of(box, name) == "A"


@pytest.mark.parametrize("state", ["D", "B", "U", "C", "T"])
def test_the_owner_says_no_more_than_available_and_an_administrator_says_all(box, state):
    name = fresh()
    assert add_replicas(box, "alice", "cms", name).status == 201
    assert set_state(box, "alice", "cms", name, state).status == 403
    assert set_state(box, "operator", "cms", name, state).status == 200
    assert state_of(box, name) == state


@pytest.mark.parametrize("through", ["replicas", "attachments"])
def test_no_copy_of_a_file_of_a_colleague_that_is_not_there(box, through):
    """A rule would wait for it for ever, and nobody but the file's owner could make it available."""
    name, dataset = fresh(), fresh()
    assert add_replicas(box, "alice", "cms", name).status == 201
    assert add_dataset(box, "bob", "cms", dataset).status == 201
    for state in ("C", "U", "B", "D"):
        files = [replica("cms", name, state=state)]
        if through == "replicas":
            refused = box.call("POST", "/replicas", "bob", body={"rse": "NORTH_RAW", "files": files})
        else:
            attachment = {"scope": "cms", "name": dataset, "rse": "NORTH_RAW", "dids": files}
            refused = box.call("POST", "/dids/attachments", "bob", body={"attachments": [attachment]})
        reason = "belongs to alice" if state == "C" else "Only administrators"
        assert (refused.status, reason in refused.body) == (403, True), refused.body


def test_only_who_made_a_dataset_closes_and_opens_it(box):
    name = fresh()
    assert add_dataset(box, "alice", "cms", name).status == 201
    for is_open in (False, True):
        body = {"open": is_open}
        refused = box.call("PUT", f"/dids/cms/{name}/status", "bob", body=body)
        assert (refused.status, "belongs to alice" in refused.body) == (403, True), refused.body
        assert box.call("PUT", f"/dids/cms/{name}/status", "alice", body=body).status == 200
    assert box.call("PUT", f"/dids/cms/{name}/status", "operator", body={"open": False}).status == 200


def test_members_add_to_a_dataset_and_only_who_made_it_takes_out(box, cms_file):
    name = fresh()
    assert add_dataset(box, "alice", "cms", name).status == 201
    content = {"dids": [{"scope": "cms", "name": cms_file}]}
    assert box.call("POST", f"/dids/cms/{name}/dids", "bob", body=content).status == 201
    refused = box.call("DELETE", f"/dids/cms/{name}/dids", "bob", body=content)
    assert (refused.status, "belongs to alice" in refused.body) == (403, True), refused.body
    assert [line["name"] for line in box.call("GET", f"/dids/cms/{name}/dids", "bob").lines] == [cms_file]
    assert box.call("DELETE", f"/dids/cms/{name}/dids", "alice", body=content).status == 200


def test_nobody_is_told_that_replicas_of_others_are_suspicious(box, cms_file):
    (found,) = box.call("POST", "/replicas/list", "carol", body={"dids": [{"scope": "cms", "name": cms_file}]}).lines
    named = {"scope": "cms", "name": cms_file, "rse": "NORTH-DISK"}
    for pfns in ([next(iter(found["pfns"]))], [named]):
        refused = box.call("POST", "/replicas/suspicious", "bob", body={"pfns": pfns, "reason": "x"})
        assert (refused.status, "Only administrators" in refused.body) == (403, True), refused.body
    told = {"pfns": [next(iter(found["pfns"]))], "reason": "x"}
    assert box.call("POST", "/replicas/suspicious", "carol", body=told).status == 201


def test_attaching_and_metadata(box, cms_file):
    name = fresh()
    add_dataset(box, "bob", "cms", name)
    attach = {"dids": [{"scope": "cms", "name": cms_file}]}
    assert box.call("POST", f"/dids/cms/{name}/dids", "bob", body=attach).status == 201
    assert box.call("POST", f"/dids/cms/{name}/meta", "bob", body={"meta": {"project": "open"}}).status == 201
    add_dataset(box, "alice", "magic", name)
    assert box.call("POST", f"/dids/magic/{name}/dids", "bob", body=attach).status == 403
    assert box.call("POST", f"/dids/magic/{name}/meta", "bob", body={"meta": {"project": "open"}}).status == 403


def test_the_metadata_of_a_did_are_for_who_made_it(box):
    name, around = fresh(), fresh()
    assert add_replicas(box, "alice", "cms", name).status == 201
    assert add_dataset(box, "bob", "cms", around).status == 201
    inside = {"dids": [{"scope": "cms", "name": name}]}
    assert box.call("POST", f"/dids/cms/{around}/dids", "bob", body=inside).status == 201
    meta = f"/dids/cms/{name}/meta"
    assert box.call("POST", meta, "alice", body={"meta": {"note": "mine"}}).status == 201
    every = [{"scope": "cms", "name": name, "meta": {"hidden": True}}]
    for method, path, body in (
        ("POST", f"{meta}/hidden", {"value": True}),
        ("POST", meta, {"meta": {"hidden": True}}),
        ("POST", meta, {"meta": {"note": "not mine"}}),
        ("POST", "/dids/bulkdidsmeta", {"dids": every}),
        ("DELETE", f"{meta}?key=note", None),
    ):
        refused = box.call(method, path, "bob", body=body)
        assert (refused.status, "belongs to alice" in refused.body) == (403, True), (path, refused.body)
    for path, body in (
        (f"/dids/cms/{around}/meta/hidden", {"value": True, "recursive": True}),
        (f"/dids/cms/{around}/meta", {"meta": {"hidden": True}, "recursive": True}),
    ):
        refused = box.call("POST", path, "bob", body=body)
        assert (refused.status, "Only administrators" in refused.body) == (403, True), (path, refused.body)
        assert box.call("POST", path, "bob", body=body | {"recursive": False}).status == 201
    kept = box.call("GET", f"{meta}?plugin=ALL", "alice").json
    assert (kept["hidden"], kept["note"]) == (False, "mine")
    assert box.call("POST", f"{meta}/hidden", "alice", body={"value": True}).status == 201
    assert box.call("DELETE", f"{meta}?key=note", "alice").status == 200


def test_who_may_write_a_scope_may_not_end_what_others_keep_there(box, cms_file):
    name = fresh()
    assert add_dataset(box, "alice", "cms", name).status == 201
    meta = f"/dids/cms/{name}/meta"
    for path, body in ((f"{meta}/lifetime", {"value": 1}), (meta, {"meta": {"lifetime": 1}})):
        refused = box.call("POST", path, "bob", body=body)
        assert (refused.status, "belongs to alice" in refused.body) == (403, True), refused.body
    assert box.call("POST", f"{meta}/lifetime", "alice", body={"value": 86400}).status == 201
    assert add_rule(box, "bob", "cms", name).status == 201
    refused = box.call("POST", f"{meta}/lifetime", "alice", body={"value": 1})
    assert (refused.status, "bob has a rule on it" in refused.body) == (403, True), refused.body
    for key, value in (("adler32", "00000002"), ("bytes", 11)):
        changed = box.call("POST", f"/dids/cms/{cms_file}/meta/{key}", "carol", body={"value": value})
        assert changed.status == 403, changed.body


def test_rules_are_for_oneself_and_on_what_one_may_read(box, cms_file, magic_dataset):
    assert add_rule(box, "bob", "cms", cms_file, account="alice").status == 403
    assert add_rule(box, "bob", "cms", cms_file, locked=True).status == 403
    assert add_rule(box, "bob", "magic", magic_dataset).status == 403
    assert add_rule(box, "alice", "magic", magic_dataset).status == 201
    assert add_rule(box, "bob", "cms", cms_file).status == 201


def test_a_rule_belongs_to_its_account(box):
    name = fresh()
    add_dataset(box, "alice", "cms", name)
    reply = add_rule(box, "alice", "cms", name)
    assert reply.status == 201, reply.body
    rule = reply.json[0]
    for options, owner, other in (
        ({"comment": "mine"}, 200, 403),
        ({"lifetime": 3600}, 200, 403),
        ({"locked": True}, 403, 403),
        ({"account": "bob"}, 403, 403),
        ({"state": "SUSPENDED"}, 403, 403),
    ):
        assert box.call("PUT", f"/rules/{rule}", "bob", body={"options": options}).status == other, options
        assert box.call("PUT", f"/rules/{rule}", "alice", body={"options": options}).status == owner, options
    assert box.call("DELETE", f"/rules/{rule}", "bob", body={"purge_replicas": None}).status == 403
    assert box.call("DELETE", f"/rules/{rule}", "alice", body={"purge_replicas": None}).status == 200


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/accounts/mallory", {"type": "USER", "email": "m@example.org"}),
        ("POST", "/rses/NEW-DISK", {"deterministic": True}),
        ("POST", "/rses/NORTH-DISK/attr/note", {"value": "x"}),
        ("POST", "/scopes/user.alice/other", None),
        ("POST", "/accountlimits/local/alice/NORTH-DISK", {"bytes": 1}),
    ],
)
def test_administration_is_for_administrators(box, method, path, body):
    assert box.call(method, path, "alice", body=body).status == 403


def test_an_administrator_administers(box):
    assert box.call("POST", "/rses/NORTH-DISK/attr/note", "carol", body={"value": "seen"}).status == 201
    assert (
        box.call("POST", f"/accounts/{fresh()[:20]}", "carol", body={"type": "USER", "email": "x@y.org"}).status == 201
    )
