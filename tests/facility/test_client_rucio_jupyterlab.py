"""rucio-jupyterlab's own calls of the catalogue, by the code that its extension of the notebook server runs."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from boathouse.plan.service import Programs
from boathouse.testing.box import Box

CALLS = """\
import json, sys
from rucio_jupyterlab.rucio.rucio import RucioAPI

catalogue, ca, token, scope, name = sys.argv[1:]
config = {"name": "lake", "rucio_base_url": catalogue, "rucio_ca_cert": ca}
config |= {"oidc_auth": "file", "oidc_file_name": token}
api = RucioAPI(config, "oidc", {})
rule = api.add_replication_rule([{"scope": scope, "name": name}], 1, "QOS=FAST", lifetime=3600)
print(json.dumps({
    "scopes": api.get_scopes(),
    "rses": [rse["rse"] for rse in api.get_rses("QOS=FAST")],
    "found": [did["name"] for did in api.search_did(scope, "notebook*", search_type="all")],
    "bytes": json.loads(api.get_metadata(scope, name))["bytes"],
    "files": [file["name"] for file in api.get_files(scope, name)],
    "replicas": [replica["name"] for replica in api.get_replicas(scope, name)],
    "rules": [found["id"] for found in api.get_rules(scope, name)],
    "rule": rule,
}))
"""


def called(programs: Programs, box: Box, token: Path, name: str) -> subprocess.CompletedProcess[str]:
    peers = programs.python.parents[2] / "peers" / "bin" / "python"
    assert peers.exists(), f"{peers} is missing: run `install/run --tests`"
    return subprocess.run(
        [str(peers), "-c", CALLS, box.endpoints.catalogue, box.endpoints.ca_bundle, str(token), "user.alice", name],
        env={"PATH": os.defpath, "HOME": str(token.parent)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_its_calls_work_with_the_token_file_of_a_session(programs: Programs, lake_box: Box, tmp_path: Path) -> None:
    file = tmp_path / "notebook.dat"
    file.write_bytes(os.urandom(4321))
    lake = lake_box.login("alice")
    lake.put([file], scope="user.alice", rse_expression="CNAF-STORM")
    done = called(programs, lake_box, Path(lake_box.env("alice")["BEARER_TOKEN_FILE"]), file.name)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert {"cms", "user.alice"} <= set(told["scopes"])
    assert sorted(told["rses"]) == ["CNAF-STORM", "CNAF_CMS_TEMP"]
    assert told["found"] == told["files"] == told["replicas"] == [file.name]
    assert told["bytes"] == 4321
    assert set(told["rule"]) <= set(told["rules"])


def test_a_token_that_does_not_say_who_is_refused(programs: Programs, lake_box: Box, tmp_path: Path) -> None:
    token = tmp_path / "bearer"
    said = lake_box.cli("token", "--audience", "rucio", "--scope", "storage.read:/lake/cms", user="alice").stdout
    token.write_text(said.strip())
    done = called(programs, lake_box, token, "any")
    assert done.returncode != 0
    assert "RucioHTTPException" in done.stderr
