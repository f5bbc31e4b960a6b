"""Bring files into the lake: rows A1, A8, A12, A20, A22, C16, and what a kill leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

from boathouse.errors import ConflictError, InputError, PartialError, StorageError
from boathouse.lake.lake import OPERATOR, Lake
from boathouse.lake.names import Did, hash_path
from boathouse.lake.storage import join
from boathouse.lake.upload import Order
from boathouse.testing.box import Box
from boathouse.testing.corpus import with_zeros
from boathouse.testing.https import HttpsServer
from boathouse.testing.scratch import free_port
from boathouse.testing.wait import wait_for

FILES = 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "in"
    made.mkdir()
    return made


@pytest.fixture
def tag(request: pytest.FixtureRequest) -> str:
    """A prefix that no other test uses."""
    return f"{zlib.crc32(request.node.nodeid.encode()):08x}-"


def operator(box: Box) -> Lake:
    return Lake.operator(box.endpoints, box.local.plan.layout.secret(f"client-{OPERATOR}"))


def content(box: Box, did: str) -> dict[str, str]:
    """Checksum by name of the files of a dataset."""
    listed = json.loads(box.cli("ls", did, "--json", user="alice").stdout)
    return {item["did"]: item["adler32"] for item in listed}


def audit(box: Box) -> dict[str, object]:
    result = box.cli("audit", "--in-flight", "0", "--json", check=False)
    return dict(json.loads(result.stdout))


def test_a12_steps_are_logged_in_order_for_each_file(lake_box: Box, folder: Path, tag: str) -> None:
    # case import-1
    for number in range(5):
        (folder / f"{tag}{number}.dat").write_bytes(os.urandom(1000))
    result = lake_box.cli("import", folder, "--to", f"cms:{tag}a12", "--qos", "FAST", "--any-file", "-v", user="alice")
    lines = result.stderr.splitlines()
    for number in range(5):
        name = f"{tag}{number}.dat"
        steps = [line.partition(" - INFO - ")[2] or line.partition(" - DEBUG - ")[2] for line in lines if name in line]
        assert steps == [
            f"Successfully uploaded file {name}",
            f"Registering file cms:{name}",
            f"Successfully added replica of cms:{name} in the catalogue at CNAF-STORM",
            f"Successfully added replication rule for cms:{name} at CNAF-STORM",
        ]
    (rule,) = json.loads(lake_box.cli("rule", "list", f"cms:{tag}a12", "--json", user="alice").stdout)
    assert (rule["rse_expression"], rule["account"], rule["copies"]) == ("QOS=FAST", "alice", 1)


def test_a1_the_same_did_twice_is_a_clean_conflict(lake_box: Box, folder: Path, tag: str) -> None:
    # case import-6
    file = folder / f"{tag}file.dat"
    file.write_bytes(b"first")
    lake = lake_box.login("alice")
    dataset = Did("cms", f"{tag}a1")
    lake.put([file], scope="cms", dataset=dataset, rse_expression="QOS=FAST")
    file.write_bytes(b"other")
    with pytest.raises(ConflictError, match="taken by a file with other content") as caught:
        lake.put([file], scope="cms", dataset=dataset, rse_expression="QOS=FAST")
    assert caught.value.where == f"cms:{file.name}"
    assert content(lake_box, str(dataset)) == {f"cms:{file.name}": f"{zlib.adler32(b'first'):08x}"}
    (fetched,) = lake.get(dataset, folder / "out")
    assert fetched.path.read_bytes() == b"first"


def test_a20_a_second_import_adds_only_what_is_new_and_rules_follow(lake_box: Box, folder: Path, tag: str) -> None:
    # cases import-5 import-9 import-10
    did = f"cms:{tag}a20"
    command = ("import", folder, "--to", did, "--qos", "FAST", "--any-file", "--json")
    (folder / f"{tag}1.dat").write_bytes(os.urandom(100))
    first = json.loads(lake_box.cli(*command, user="alice").stdout)
    (folder / f"{tag}2.dat").write_bytes(os.urandom(100))
    second = json.loads(lake_box.cli(*command, user="alice").stdout)
    again = json.loads(lake_box.cli(*command, user="alice").stdout)
    assert [item["outcome"] for item in first] == ["uploaded"]
    assert [item["outcome"] for item in second] == ["present", "uploaded"]
    assert [item["outcome"] for item in again] == ["present", "present"]
    assert len(content(lake_box, did)) == 2
    rules = lake_box.login("alice").rules
    (rule,) = rules.of(Did.parse(did))
    # The judge takes the new file into the rule by itself.
    wait_for("a lock on each file", lambda: rules.get(rule.id).locks == "2/0/0")


@pytest.mark.parametrize("zeros", [1, 2, 3])
@pytest.mark.parametrize("rse", ["CNAF-STORM", "CNAF_CMS_TEMP", "DESY-DCACHE"])
def test_a22_checksums_with_leading_zeros(lake_box: Box, folder: Path, tag: str, zeros: int, rse: str) -> None:
    body = with_zeros(zeros, tag)
    file = folder / f"{tag}{zeros}.dat"
    file.write_bytes(body)
    lake = lake_box.login("alice")
    (result,) = lake.put([file], scope="cms", rse_expression=rse)
    assert result.adler32 == f"{zlib.adler32(body):08x}"
    assert len(result.adler32) == 8
    (known,) = lake.catalogue.replicas([result.did])
    assert known.adler32 == result.adler32
    (fetched,) = lake.get(result.did, folder / "out")
    assert fetched.path.read_bytes() == body


def test_a8_an_rse_that_keeps_paths(lake_box: Box, folder: Path, tag: str) -> None:
    # case import-18
    file = folder / f"{tag}raw.dat"
    file.write_bytes(os.urandom(5000))
    lake_box.cli(
        *("import", file, "--to", f"cms:{tag}raw", "--rse", "CNAF_CMS_TEMP"),
        *("--path", "daq/2018/run42", "--any-file"),
        user="alice",
    )
    lake = lake_box.login("alice")
    (known,) = lake.catalogue.replicas([Did("cms", file.name)], schemes=["https"])
    (url,) = known.pfns
    assert url.endswith(f"/lake/cms/daq/2018/run42/{file.name}")
    (fetched,) = lake.get(known.did, folder / "out")
    assert fetched.path.read_bytes() == file.read_bytes()
    root = lake_box.local.plan.layout.data / "se-cnaf_cms_temp"

    def places() -> list[str]:
        return [str(path.relative_to(root)) for path in root.rglob(file.name)]

    assert places() == [f"lake/cms/daq/2018/run42/{file.name}"]
    # There is no other place that it could be copied from.
    (rule_id,) = lake.rules.add([known.did], "QOS=SAFE", account="alice")
    assert lake.rules.wait(rule_id, timeout_s=180).state == "OK"
    for rule in lake.rules.of(Did("cms", f"{tag}raw")):
        lake.rules.remove(rule.id, now=True)
    wait_for("it is deleted where it lay", lambda: not places(), timeout_s=180)
    (fetched,) = lake.get(known.did, folder / "copied")
    assert fetched.path.read_bytes() == file.read_bytes()


def test_bad_files_are_refused_by_name_and_the_rest_goes_on_if_asked(lake_box: Box, folder: Path, tag: str) -> None:
    # case import-12
    good = folder / f"{tag}good.root"
    with uproot.recreate(good) as made:
        made["Events"] = {"x": np.arange(1000.0)}
    body = good.read_bytes()
    (folder / f"{tag}short.root").write_bytes(body[: len(body) // 2])
    (folder / f"{tag}text.root").write_text("no ROOT file")
    (folder / f"{tag}empty.root").touch()
    command = ("import", folder, "--to", f"cms:{tag}bad", "--qos", "FAST")
    stopped = lake_box.cli(*command, user="alice", check=False)
    assert stopped.returncode == 2
    assert f"{tag}empty.root" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    went_on = lake_box.cli(*command, "--keep-going", user="alice", check=False)
    assert went_on.returncode == PartialError.exit_code
    for name in ("short", "text", "empty"):
        assert f"{tag}{name}.root" in went_on.stderr
    assert "1 of 4 files are in the lake" in went_on.stderr
    assert list(content(lake_box, f"cms:{tag}bad")) == [f"cms:{tag}good.root"]


@pytest.fixture(params=[1, 45])
def killed(request: pytest.FixtureRequest, lake_box: Box, folder: Path, tag: str) -> tuple[str, list[str]]:
    """The dataset of an import that was killed after so many lines of its log, and the files that had been uploaded."""
    name = f"{tag}{request.param}-"
    for number in range(FILES):
        (folder / f"{name}{number:03d}.dat").write_bytes(os.urandom(200_000))
    lake_box.ensure_login("alice")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "boathouse.cli", "import", str(folder), "--to", f"cms:{name}killed"),
            *("--qos", "FAST", "--any-file", "-v", "--workers", "2"),
        ],
        env=lake_box.environment("alice"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    lines = [process.stderr.readline() for _ in range(request.param)]
    process.send_signal(signal.SIGKILL)
    process.wait()
    lines += process.stderr.read().splitlines()
    process.stderr.close()
    told = [line.rpartition(" ")[2].strip() for line in lines if "Successfully uploaded file" in line]
    assert told
    return f"cms:{name}killed", told


def test_a12_a_killed_import_goes_on_where_it_stopped(
    lake_box: Box, folder: Path, killed: tuple[str, list[str]]
) -> None:
    # case import-11
    dataset, told = killed
    result = lake_box.cli("import", folder, "--to", dataset, "--qos", "FAST", "--any-file", "--json", user="alice")
    outcomes = {item["did"].partition(":")[2]: item["outcome"] for item in json.loads(result.stdout)}
    assert len(outcomes) == FILES
    # What was told to be uploaded is not sent a second time.
    assert {outcomes[name] for name in told} <= {"found", "present"}
    expected = {f"cms:{file.name}": f"{zlib.adler32(file.read_bytes()):08x}" for file in folder.iterdir()}
    assert content(lake_box, dataset) == expected
    assert len(lake_box.login("alice").rules.of(Did.parse(dataset))) == 1
    # What other tests have had deleted may still be on its way out.
    wait_for("catalogue and storage agree", lambda: audit(lake_box)["clean"], timeout_s=120)


def test_a_dark_file_with_the_right_bytes_is_not_sent_again(lake_box: Box, folder: Path, tag: str) -> None:
    """What an earlier try left at the path."""
    # case import-2
    lake = lake_box.login("alice")
    target = lake.catalogue.rse("CNAF-STORM").base("write")
    file = folder / f"{tag}dark.dat"
    file.write_bytes(os.urandom(1000))
    url = f"{target}/{hash_path(Did('cms', file.name))}"
    lake.storage.put(url, file.read_bytes(), 1000)
    (result,) = lake.put([file], scope="cms", rse_expression="CNAF-STORM")
    assert result.outcome == "found"
    assert lake.storage.stat(url) is not None


def test_c16_when_an_element_is_down_another_of_the_same_quality_takes_over(
    lake_box: Box, folder: Path, tag: str
) -> None:
    # case import-13
    file = folder / f"{tag}c16.dat"
    file.write_bytes(os.urandom(1000))
    lake = lake_box.login("alice")
    supervisor = lake_box.local.runner._supervisor
    supervisor.stop_process("se-pic-dcache")
    try:
        (result,) = lake.put([file], scope="cms", rse_expression="PIC-DCACHE|SARA-DCACHE")
        assert result.rse == "SARA-DCACHE"
        with pytest.raises(StorageError, match="does not answer"):
            lake.put([file.rename(folder / f"{tag}none.dat")], scope="cms", rse_expression="PIC-DCACHE")
    finally:
        supervisor.start_process("se-pic-dcache")
        lake_box.wait_ready("se-pic-dcache")


@contextmanager
def serving(folder: Path, handler: type[SimpleHTTPRequestHandler], tls: tuple[Path, Path]) -> Iterator[str]:
    """The URL of a web server outside the lake that serves a folder."""
    port = free_port()
    server = HttpsServer(partial(handler, directory=str(folder)), "127.0.0.1", port, tls)
    server.start()
    try:
        yield f"https://localhost:{port}"
    finally:
        server.stop()


def trusted(box: Box) -> tuple[Path, Path]:
    """Certificate and key of a server that storage elements trust."""
    layout = box.local.plan.layout
    return layout.certificate("tokens"), layout.key("tokens")


@pytest.fixture
def outside(lake_box: Box, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """A web server outside the lake that serves the folder, and the methods and user agents that came to it."""
    agents: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            assert "Authorization" not in self.headers, "the user's token was shown to a server outside"
            agents.append(f"{self.command} {self.headers.get('User-Agent', '')}")

    with serving(folder, Handler, trusted(lake_box)) as origin:
        yield origin, agents


def test_a21_a_web_source_is_fetched_by_the_element_itself(
    lake_box: Box, folder: Path, tag: str, outside: tuple[str, list[str]]
) -> None:
    # case import-15
    origin, agents = outside
    body = os.urandom(300_000)
    (folder / f"{tag}web.dat").write_bytes(body)
    did = f"cms:{tag}web"
    command = ("import", f"{origin}/{tag}web.dat", "--to", did, "--qos", "FAST", "--any-file", "--json")
    (result,) = json.loads(lake_box.cli(*command, user="alice").stdout)
    assert (result["outcome"], result["adler32"]) == ("uploaded", f"{zlib.adler32(body):08x}")
    assert not [agent for agent in agents if agent.startswith("GET boathouse/")], "this machine streamed it"
    assert [agent for agent in agents if agent.startswith("GET ")]
    assert not result["streamed"]
    (again,) = json.loads(lake_box.cli(*command, user="alice").stdout)
    assert again["outcome"] == "present"
    (fetched,) = lake_box.login("alice").get(Did.parse(did), folder / "out")
    assert fetched.path.read_bytes() == body


def test_a21_a_web_source_that_the_element_does_not_trust_is_streamed(
    lake_box: Box, folder: Path, tag: str, tmp_path: Path
) -> None:
    """The element knows only the facility's CA; this machine may know more."""
    # case import-16
    body = os.urandom(300_000)
    (folder / f"{tag}stream.dat").write_bytes(body)
    certificate = own_certificate(tmp_path)
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(Path(lake_box.endpoints.ca_bundle).read_text() + certificate.read_text())
    lake = lake_box.login("alice")
    wider = Lake(replace(lake.endpoints, ca_bundle=str(bundle)), lake.token)
    with serving(folder, QuietHandler, (certificate, certificate)) as origin:
        items, errors = wider.scan([f"{origin}/{tag}stream.dat"], scope="cms", any_file=True)
        assert not errors
        (result,) = wider.upload(items, Order("CNAF-STORM"))
    assert (result.outcome, result.adler32) == ("uploaded", f"{zlib.adler32(body):08x}")


def test_a21_ctrl_c_while_the_element_fetches_ends_the_copy(lake_box: Box, folder: Path, tag: str) -> None:
    # case import-22
    body = os.urandom(3_000_000)
    (folder / f"{tag}slow.dat").write_bytes(body)
    fetching, go_on = threading.Event(), threading.Event()

    class Stalled(QuietHandler):
        def copyfile(self, source: Any, outputfile: Any) -> None:
            outputfile.write(source.read(1_000_000))
            outputfile.flush()
            fetching.set()
            go_on.wait(300)

    lake = lake_box.login("alice")
    command = [sys.executable, "-m", "boathouse.cli", "import", "--to", f"cms:{tag}slow", "--rse", "PIC-DCACHE"]
    with serving(folder, Stalled, trusted(lake_box)) as origin, ExitStack() as at_the_end:
        at_the_end.callback(go_on.set)
        with subprocess.Popen(
            [*command, f"{origin}/{tag}slow.dat", "--any-file"],
            env=lake_box.environment("alice"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as running:
            assert fetching.wait(180), "the element does not fetch"
            running.send_signal(signal.SIGINT)
            _, said = running.communicate(timeout=180)
        assert (running.returncode, said.splitlines()[-1].partition(":")[0]) == (130, "interrupted")
        headers = {"Authorization": f"Bearer {lake.token()}"}
        jobs = lake.http.request("GET", f"{lake_box.endpoints.transfers}/jobs", headers=headers).json()
        assert not [job for job in jobs if job["source_se"] in f"{origin}/{tag}slow.dat"]
    place = lake.catalogue.rse("PIC-DCACHE").base("read")
    path = join(str(place), hash_path(Did("cms", f"{tag}slow.dat")))
    wait_for("nothing is left", lambda: lake.storage.stat(path, checksum=False) is None, timeout_s=120)


def test_ctrl_c_in_an_upload_turns_to_no_other_element(lake_box: Box, folder: Path, tag: str) -> None:
    """FAST has two elements; an end that was asked for is no failure of the first."""
    file = folder / f"{tag}large.dat"
    with file.open("wb") as stream:
        stream.truncate(600_000_000)
    data = lake_box.local.plan.layout.data
    wanted = data / "se-cnaf-storm" / "lake" / hash_path(Did("cms", file.name))
    command = [sys.executable, "-m", "boathouse.cli", "import", str(file), "--to", f"cms:{tag}large", "--qos", "FAST"]
    lake_box.ensure_login("alice")
    with subprocess.Popen(
        [*command, "--any-file"],
        env=lake_box.environment("alice"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        wait_for(
            "bytes arrive",
            lambda: (wanted.exists() and wanted.stat().st_size > 0) or running.poll() is not None,
            period_s=0.005,
        )
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=180)
    try:
        assert (running.returncode, said.splitlines()[-1].partition(":")[0]) == (130, "interrupted")
        assert not list((data / "se-cnaf_cms_temp").rglob(file.name))
    finally:
        wanted.unlink(missing_ok=True)


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""


def own_certificate(folder: Path) -> Path:
    """A key and a certificate for localhost that signs itself, in one file."""
    pem = folder / "own.pem"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
            ),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", "key", "-out", "cert"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    pem.write_text((folder / "key").read_text() + (folder / "cert").read_text())
    return pem


def test_a21_an_xrootd_source(lake_box: Box, folder: Path, tag: str) -> None:
    """Read through xrdcp; here an element of the lake plays the server outside."""
    # case import-17
    body = os.urandom(400_000)
    (folder / f"{tag}there.dat").write_bytes(body)
    lake = lake_box.login("alice")
    (there,) = lake.put([folder / f"{tag}there.dat"], scope="cms", rse_expression="DESY-DCACHE")
    (found,) = lake.files(there.did, prefer="replica")
    url = next(url for url in found.urls if url.startswith("root:"))
    environment = lake_box.env("alice")
    # A token that the caller holds for the server outside, in a file of the caller's own.
    bearer = folder / "bearer"
    bearer.write_text(lake.token())
    bearer.chmod(0o600)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "boathouse.cli", "import", url, "--to", f"cms:{tag}root", "--rse", "CNAF-STORM"),
            *("--prefix", "again-", "--any-file", "--json"),
        ],
        env={**environment, "BEARER_TOKEN_FILE": str(bearer)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)
    assert (result["outcome"], result["adler32"]) == ("uploaded", f"{zlib.adler32(body):08x}")
    missing = subprocess.run(
        [sys.executable, "-m", "boathouse.cli", "import", url + "-no", "--to", f"cms:{tag}root", "--rse", "CNAF-STORM"],
        env={**environment, "BEARER_TOKEN_FILE": str(bearer)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert missing.returncode == InputError.exit_code
    assert "Traceback" not in missing.stderr
