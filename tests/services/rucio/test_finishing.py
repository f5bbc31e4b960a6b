"""Files that end together leave in the catalogue what Rucio's own functions leave one by one."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any

import pytest

from boathouse.plan.model import Task

FILES = 5

FINISH = """
import json
import sys
from pathlib import Path
from boathouse_rucio_site import patches, settings
settings.load(Path(sys.argv[1]))
whose, batches = sys.argv[2], json.loads(sys.argv[3])
if whose == "ours":
    patches.apply()
from rucio.common.types import InternalScope
from rucio.core.rse import get_rse_id
from rucio.daemons.conveyor import finisher
from rucio.db.sqla import models
from rucio.db.sqla.constants import DatabaseOperationType, ReplicaState
from rucio.db.sqla.session import db_session
from sqlalchemy import select
rse_id = get_rse_id("SOUTH-DISK")
for names in batches:
    wanted = select(models.Request.name, models.Request.id).where(models.Request.name.in_(names))
    with db_session(DatabaseOperationType.READ) as session:
        requests = {name: request_id for name, request_id in session.execute(wanted)}
    common = dict(scope=InternalScope("cms"), rse_id=rse_id, archived=False)
    replicas = [
        dict(name=name, state=ReplicaState.AVAILABLE, request_id=requests[name], **common) for name in names
    ]
    getattr(finisher, "__update_bulk_replicas")(replicas)
"""


@dataclass
class Dataset:
    """A dataset of files on their way from NORTH-DISK to SOUTH-DISK by one or two rules; no daemon is there."""

    box: Any
    name: str
    rules: tuple[uuid.UUID, ...]

    def file(self, number: int) -> str:
        return f"{self.name}.{number}"

    def left(self) -> dict[str, Any]:
        """What is in the catalogue now, without names and identifiers."""
        rows = self.box.rows
        like = f"{self.name}%"
        counts = "state, locks_ok_cnt, locks_replicating_cnt, locks_stuck_cnt"
        where = "WHERE rse_id = (SELECT id FROM rses WHERE rse = 'SOUTH-DISK') AND name LIKE %s"
        return {
            "rules": [rows(f"SELECT {counts} FROM rules WHERE id = %s", rule)[0] for rule in self.rules],
            "history": [
                rows(f"SELECT {counts} FROM rules_hist_recent WHERE id = %s ORDER BY 2 DESC LIMIT 1", rule)[0]
                for rule in self.rules
            ],
            "messages": sorted(rows("SELECT event_type FROM messages WHERE payload LIKE %s", f"%{self.name}%")),
            "locks": rows(f"SELECT right(name, 1), state FROM locks {where} ORDER BY name, rule_id::text", like),
            "datasets": rows(f"SELECT state FROM dataset_locks {where}", like),
            "replicas": rows(f"SELECT right(name, 1), state, lock_cnt FROM replicas {where} ORDER BY name", like),
            "bad": rows(f"SELECT right(name, 1), state FROM bad_replicas {where} ORDER BY name", like),
            "to count": rows(f"SELECT DISTINCT did_type FROM updated_col_rep {where}", like),
            "requests": rows("SELECT right(name, 1), state FROM requests WHERE name LIKE %s ORDER BY name", like),
            "ended": rows("SELECT right(name, 1), state FROM requests_history WHERE name LIKE %s ORDER BY name", like),
            "sources": rows("SELECT count(*) FROM sources WHERE name LIKE %s", like),
        }

    def forget(self) -> None:
        """Leave no transfer behind: the daemons of another module's tests would take it up."""
        self.box.rows("DELETE FROM requests WHERE name LIKE %s", f"{self.name}%")


def dataset(box, *, rules: int = 1, **more: Any) -> Dataset:
    name = f"f{uuid.uuid4().hex[:12]}"

    def ask(path: str, body: object) -> Any:
        reply = box.call("POST", path, "bob", body=body)
        assert reply.status == 201, reply.body
        return reply

    files = [{"scope": "cms", "name": f"{name}.{i}", "bytes": 100, "adler32": "00000001"} for i in range(FILES)]
    ask("/replicas", {"rse": "NORTH-DISK", "files": files})
    ask(f"/dids/cms/{name}", {"type": "DATASET"})
    ask(f"/dids/cms/{name}/dids", {"dids": [{"scope": "cms", "name": file["name"]} for file in files]})
    wanted = {"dids": [{"scope": "cms", "name": name}], "copies": 1, "rse_expression": "SOUTH-DISK"}
    accounts = ("bob", "alice")[:rules]
    made = []
    for account in accounts:
        reply = box.call("POST", "/rules/", account, body={**wanted, "account": account, **more})
        assert reply.status == 201, reply.body
        made.append(uuid.UUID(reply.json[0]))
    return Dataset(box, name, tuple(made))


def stuck(made: Dataset) -> None:
    made.box.rows("UPDATE locks SET state = 'S' WHERE name IN (%s, %s)", made.file(1), made.file(4))
    made.box.rows(
        "UPDATE rules SET state = 'S', locks_stuck_cnt = 2, locks_replicating_cnt = locks_replicating_cnt - 2 "
        "WHERE id = %s",
        made.rules[0],
    )


def declared_bad(made: Dataset) -> None:
    made.box.rows(
        "INSERT INTO bad_replicas (scope, name, rse_id, state, account, created_at, updated_at) "
        "SELECT 'cms', %s, id, 'B', 'bob', now(), now() FROM rses WHERE rse = 'SOUTH-DISK'",
        made.file(2),
    )


def settled_before(made: Dataset) -> None:
    made.box.rows("UPDATE locks SET state = 'O' WHERE name = %s", made.file(0))
    made.box.rows(
        "UPDATE rules SET locks_ok_cnt = 1, locks_replicating_cnt = locks_replicating_cnt - 1 WHERE id = %s",
        made.rules[0],
    )


def rule_deleted(made: Dataset) -> None:
    made.box.rows("DELETE FROM locks WHERE rule_id = %s", made.rules[0])


CASES = {
    "all of them": ({}, range(FILES), None),
    "some of them": ({}, (0, 2, 3), None),
    "one": ({}, (1,), None),
    "two rules": ({"rules": 2}, range(FILES), None),
    "told when OK": ({"notify": "Y"}, range(FILES), None),
    "told of every step": ({"notify": "P"}, range(FILES), None),
    "some were stuck": ({}, range(FILES), stuck),
    "one was declared bad": ({}, range(FILES), declared_bad),
    "one was settled before": ({}, range(FILES), settled_before),
    "nobody wants them any more": ({}, range(FILES), rule_deleted),
}


@pytest.fixture(scope="module")
def left(box) -> dict[tuple[str, str], dict[str, Any]]:
    """What is left of every case, by whose function has finished it."""
    found = {}
    for whose in ("ours", "Rucio's"):
        made, batches = {}, []
        for case, (more, numbers, before) in CASES.items():
            made[case] = dataset(box, **more)
            if before:
                before(made[case])
            batches.append([made[case].file(number) for number in numbers])
        config, environment = str(box.context.config("rucio", "rucio.cfg")), box.units["rucio"].env
        program = (str(box.context.programs.rucio_python), "-c", FINISH, config, whose, json.dumps(batches))
        done = box.run(Task("finish", program, env=environment))
        assert done.returncode == 0, done.stderr
        found |= {(case, whose): each.left() for case, each in made.items()}
        for each in made.values():
            each.forget()
    return found


@pytest.mark.parametrize("case", CASES)
def test_the_catalogue_is_as_rucio_leaves_it(left, case):
    ours = left[case, "ours"]
    assert ours == left[case, "Rucio's"]
    _, numbers, _ = CASES[case]
    assert [name for name, _ in ours["ended"]] == [str(number) for number in numbers]


def test_whoever_asked_for_it_is_told(left):
    """So that the comparison above is not one of nothing with nothing."""
    assert left["told when OK", "ours"]["messages"] == [("email",)]
