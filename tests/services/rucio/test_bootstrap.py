"""Database and lake made ready: once, again, after changes; and what is in the catalogue then."""

from __future__ import annotations

import copy
import hashlib
import json
import uuid
from dataclasses import replace

import pytest

from boathouse.facility.model import Facility
from boathouse.lake.access import files
from boathouse.lake.catalogue import Catalogue
from boathouse.lake.http import Http
from boathouse.lake.names import Did
from boathouse.lake.rest import Rest
from boathouse.plan.model import Task
from boathouse.services.rucio import lake_description
from boathouse.testing.wait import wait_for

from .conftest import FACILITY


@pytest.fixture
def task(box) -> Task:
    """What the server does before it serves, by itself."""
    unit = box.units["rucio"]
    program = [word.replace(".server", ".bootstrap") for word in unit.command]
    return Task("make-catalogue", tuple(program), env=unit.env)


@pytest.fixture
def lake(box, task):
    """The description of the lake, to be changed by a test; the old one is applied again afterwards."""
    path = box.context.config("rucio", "lake.json")
    before = path.read_text()

    class Lake:
        document = json.loads(before)

        def write(self) -> None:
            path.write_text(json.dumps(self.document))

    yield Lake()
    path.write_text(before)
    assert box.run(task).returncode == 0


def counts(box) -> dict[str, int]:
    tables = ("accounts", "account_map", "account_attr_map", "scopes", "rses", "rse_protocols", "rse_attr_map")
    return {table: box.rows(f"SELECT count(*) FROM {table}")[0][0] for table in (*tables, "distances")}


def test_a_second_run_changes_nothing(box, task):
    before = counts(box)
    done = box.run(task)
    assert done.returncode == 0
    assert "0 changes" in done.stderr
    assert counts(box) == before


def test_changes_are_applied(box, task, lake):
    lake.document["rses"]["NORTH-DISK"]["attributes"]["QOS"] = "CHEAP-ANALYSIS"
    del lake.document["rses"]["NORTH-DISK"]["attributes"]["colour"]
    lake.document["rses"]["NORTH-DISK"]["protocols"][0]["port"] += 1
    lake.document["accounts"]["bob"]["attributes"] = {"group-magic": "member"}
    lake.document["accounts"]["bob"]["email"] = "new@example.org"
    lake.document["accounts"]["bob"]["identities"] = ["SUB=another, ISS=https://localhost:1"]
    lake.document["distances"]["NORTH-DISK"]["SOUTH-DISK"] = 3
    lake.write()
    done = box.run(task)
    assert done.returncode == 0, done.stderr
    attributes = box.call("GET", "/rses/NORTH-DISK/attr/", "carol").json
    assert attributes["QOS"] == "CHEAP-ANALYSIS"
    assert "colour" not in attributes
    ports = {entry["scheme"]: entry["port"] for entry in box.call("GET", "/rses/NORTH-DISK", "carol").json["protocols"]}
    assert ports["https"] == box.context.ports["NORTH-DISK.https"] + 1
    assert ports["davs"] == box.context.ports["NORTH-DISK.copy.https"]
    assert box.call("GET", "/accounts/bob", "carol").json["email"] == "new@example.org"
    assert box.rows("SELECT key FROM account_attr_map WHERE account = 'bob'") == [("group-magic",)]
    assert box.whoami("bob").status == 401


def test_what_was_added_by_hand_stays(box, task):
    assert box.call("POST", "/rses/SOUTH-DISK/attr/tested", "carol", body={"value": "yes"}).status == 201
    assert box.run(task).returncode == 0
    assert box.call("GET", "/rses/SOUTH-DISK/attr/", "carol").json["tested"] == "yes"


def test_a_database_of_another_rucio_is_refused(box, task):
    before = box.rows("SELECT version_num FROM alembic_version")[0][0]
    box.rows("UPDATE alembic_version SET version_num = 'deadbeef'")
    try:
        done = box.run(task)
    finally:
        box.rows("UPDATE alembic_version SET version_num = %s", before)
    assert done.returncode == 1
    assert "schema deadbeef" in done.stderr
    assert "41.5.1" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_description_that_is_none_is_refused(box, task, lake):
    lake.document = {"version": 99}
    lake.write()
    done = box.run(task)
    assert done.returncode == 1
    assert "no description of a lake" in done.stderr
    assert "Traceback" not in done.stderr


# -- what the catalogue then says: rows A6 to A10 --------------------------------------------------------------------


def test_a6_rse_with_protocols_and_attributes(box):
    names = {rse["rse"] for rse in box.call("GET", "/rses/", "alice").lines}
    assert names == {"NORTH-DISK", "NORTH_RAW", "SOUTH-DISK"}
    found = [rse["rse"] for rse in box.call("GET", "/rses/?expression=QOS%3DFAST", "alice").lines]
    assert sorted(found) == ["NORTH-DISK", "NORTH_RAW"]
    protocols = box.call("GET", "/rses/NORTH-DISK", "alice").json["protocols"]
    assert {(entry["scheme"], entry["hostname"], entry["port"], entry["prefix"]) for entry in protocols} == {
        ("https", box.context.addresses["NORTH-DISK.https"], box.context.ports["NORTH-DISK.https"], "/lake/"),
        ("davs", box.context.addresses["NORTH-DISK.copy.https"], box.context.ports["NORTH-DISK.copy.https"], "/lake/"),
        ("root", box.context.addresses["NORTH-DISK.root"], box.context.ports["NORTH-DISK.root"], "/lake/"),
    }


def test_a7_a_deterministic_rse_hashes_names(box):
    assert box.call("GET", "/rses/NORTH-DISK", "alice").json["deterministic"] is True
    reply = box.call("GET", "/rses/NORTH-DISK/lfns2pfns?lfn=cms:example.root&scheme=https", "alice")
    assert reply.status == 200, reply.body
    # md5("cms:example.root") = a19b…
    assert reply.json["cms:example.root"].endswith("/lake/cms/" + _hashed("cms", "example.root"))


def _hashed(scope: str, name: str) -> str:
    digest = hashlib.md5(f"{scope}:{name}".encode()).hexdigest()
    return f"{digest[:2]}/{digest[2:4]}/{name}"


def test_a8_a_file_on_a_non_deterministic_rse_keeps_its_path(box):
    base = f"https://{box.context.addresses['NORTH_RAW.https']}:{box.context.ports['NORTH_RAW.https']}/lake"
    pfn = f"{base}/cms/detector/2026/run 7/raw.root".replace(" ", "-")
    file = {"scope": "cms", "name": "raw-7.root", "bytes": 7, "adler32": "00000007", "pfn": pfn}
    reply = box.call("POST", "/replicas", "bob", body={"rse": "NORTH_RAW", "files": [file]})
    assert reply.status == 201, reply.body
    wanted = {"dids": [{"scope": "cms", "name": "raw-7.root"}], "schemes": ["https"]}
    replicas = box.call("POST", "/replicas/list", "alice", body=wanted)
    assert list(replicas.lines[0]["pfns"]) == [pfn], replicas.body


def test_a9_flags_fts_and_space(box):
    south = box.call("GET", "/rses/SOUTH-DISK", "alice").json
    assert south["volatile"] is True
    assert [south[f"availability_{what}"] for what in ("read", "write", "delete")] == [True] * 3
    assert box.call("GET", "/rses/SOUTH-DISK/attr/", "alice").json["fts"] == box.context.url("transfers")
    limits = box.call("GET", "/rses/SOUTH-DISK/limits", "alice").json
    assert limits == {"MaxSpaceAvailable": 20_000_000_000}


VOLATILE = """
import sys
from pathlib import Path
from boathouse_rucio_site import settings
settings.load(Path(sys.argv[1]))
from rucio.common.types import InternalScope
from rucio.core import rse, volatile_replica
from rucio.db.sqla.constants import DatabaseOperationType
from rucio.db.sqla.session import db_session
change = {"add": volatile_replica.add_volatile_replicas, "delete": volatile_replica.delete_volatile_replicas}
replica = {"scope": InternalScope("cms"), "name": sys.argv[3], "bytes": 7, "adler32": "00000007"}
with db_session(DatabaseOperationType.WRITE) as session:
    rse_id = rse.get_rse_id(rse="SOUTH-DISK", session=session)
    change[sys.argv[2]](rse_id=rse_id, replicas=[replica], session=session)
"""
"""What Rucio's consumer of messages from caches does."""


def test_a9_the_loss_of_a_volatile_replica_breaks_no_rule(box):
    name = f"a9-{uuid.uuid4().hex[:8]}"
    file = {"scope": "cms", "name": name, "bytes": 7, "adler32": "00000007"}
    # Only what tells of caches adds replicas there.
    refused = box.call("POST", "/replicas", "bob", body={"rse": "SOUTH-DISK", "files": [file]})
    assert refused.status >= 400, refused.body
    assert "volatile" in refused.body
    assert box.call("POST", "/replicas", "bob", body={"rse": "NORTH-DISK", "files": [file]}).status == 201
    did = {"scope": "cms", "name": name}
    wanted = {"dids": [did], "copies": 1, "rse_expression": "NORTH-DISK", "account": "bob"}
    (rule,) = box.call("POST", "/rules/", "bob", body=wanted).json

    def change(what: str) -> None:
        config = str(box.context.config("rucio", "rucio.cfg"))
        done = box.run(
            Task(f"{what}-{name}", (str(box.context.programs.rucio_python), "-c", VOLATILE, config, what, name))
        )
        assert done.returncode == 0, done.stderr

    def at() -> set[str]:
        return set(box.call("POST", "/replicas/list", "alice", body={"dids": [did]}).lines[0]["rses"])

    def state() -> tuple[str, int]:
        found = box.call("GET", f"/rules/{rule}", "bob").json
        return found["state"], found["locks_ok_cnt"]

    assert (at(), state()) == ({"NORTH-DISK"}, ("OK", 1))
    change("add")
    assert (at(), state()) == ({"NORTH-DISK", "SOUTH-DISK"}, ("OK", 1))
    change("delete")
    assert (at(), state()) == ({"NORTH-DISK"}, ("OK", 1))


def test_a10_priorities_by_activity(box):
    protocols = {entry["scheme"]: entry for entry in box.call("GET", "/rses/NORTH-DISK", "alice").json["protocols"]}
    table = {
        (scheme, domain, operation): priority
        for scheme, entry in protocols.items()
        for domain, operations in entry["domains"].items()
        for operation, priority in operations.items()
        if priority
    }
    access = {(domain, operation) for domain in ("lan", "wan") for operation in ("read", "write", "delete")}
    assert table == {
        **{("https", domain, operation): 1 for domain, operation in access},
        **{("davs", domain, "delete"): 2 for domain in ("lan", "wan")},
        **{("root", domain, "read"): 2 for domain in ("lan", "wan")},
        # An analysis, inside the facility, reads by the protocol that gives many parts of a file at once.
        ("root", "lan", "read"): 1,
        ("https", "lan", "read"): 2,
        ("davs", "wan", "third_party_copy_read"): 1,
        ("davs", "wan", "third_party_copy_write"): 1,
    }


@pytest.fixture
def prioritise(box, task, lake):
    """Gives NORTH-DISK priorities in the facility file, and the catalogue what follows from it."""

    def change(**priorities: list[str]) -> None:
        document = copy.deepcopy(FACILITY)
        document["sites"]["NORTH"]["storage"]["NORTH-DISK"]["priorities"] = priorities
        context = replace(box.context, facility=Facility.model_validate(document))
        lake.document["rses"]["NORTH-DISK"] = lake_description(context)["rses"]["NORTH-DISK"]
        lake.write()
        done = box.run(task)
        assert done.returncode == 0, done.stderr

    return change


def test_a10_readers_take_the_protocol_that_comes_first(box, prioritise):
    name = f"a10-{uuid.uuid4().hex[:8]}"
    file = {"scope": "cms", "name": name, "bytes": 7, "adler32": "00000007"}
    assert box.call("POST", "/replicas", "bob", body={"rse": "NORTH-DISK", "files": [file]}).status == 201
    catalogue = Catalogue(Rest(Http(str(box.context.layout.ca)), box.context.catalogue, lambda: box.token("alice")))

    def order(prefer: str) -> list[str]:
        (found,) = files(catalogue, box.plan.endpoints, [Did("cms", name)], prefer=prefer)
        return [url.partition(":")[0] for url in found.urls]

    assert (order("cache"), order("replica")) == (["root", "https"], ["https", "root"])
    prioritise(read=["root", "https"], lan_read=["https", "root"])
    wait_for(
        "every worker tells the new order",
        lambda: all((order("cache"), order("replica")) == (["https", "root"], ["root", "https"]) for _ in range(8)),
    )


def test_a10_the_facility_file_gives_each_activity_an_order_of_its_own(box, prioritise):
    prioritise(
        read=["root", "https"],
        write=[],
        delete=["davs"],
        copy_read=[],
        lan_read=["https"],
        lan_write=["https"],
    )
    protocols = {entry["scheme"]: entry for entry in box.call("GET", "/rses/NORTH-DISK", "alice").json["protocols"]}
    assert {
        (scheme, domain, operation, priority)
        for scheme, entry in protocols.items()
        for domain, operations in entry["domains"].items()
        for operation, priority in operations.items()
        if priority
    } == {
        ("root", "wan", "read", 1),
        ("https", "wan", "read", 2),
        ("https", "lan", "read", 1),
        ("https", "lan", "write", 1),
        ("davs", "wan", "delete", 1),
        ("davs", "lan", "delete", 1),
        ("davs", "wan", "third_party_copy_write", 1),
    }


def test_a10_a_change_of_priorities_is_seen_at_once_by_every_process(box, task, lake):
    def preferred() -> str:
        return box.call("GET", "/rses/NORTH-DISK/lfns2pfns?lfn=cms:x&operation=read", "alice").body

    assert "https://" in preferred()
    https, _, root = lake.document["rses"]["NORTH-DISK"]["protocols"]
    for domain in ("lan", "wan"):
        https["domains"][domain]["read"], root["domains"][domain]["read"] = 2, 1
    lake.write()
    assert box.run(task).returncode == 0
    wait_for("every worker prefers root", lambda: all("root://" in preferred() for _ in range(8)))
