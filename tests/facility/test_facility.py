"""The facility as a whole: up, twice, beside another, down, and what bad circumstances get."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from boathouse.lake.lake import OPERATOR, Lake
from boathouse.plan import endpoints as endpoints_file
from boathouse.run.local.state import LONGEST_ROOT
from boathouse.run.local.supervise import marked_processes
from boathouse.testing.box import Box, box
from boathouse.testing.scratch import scratch
from boathouse.testing.small import small
from boathouse.testing.wait import wait_for

EXAMPLES = Path(__file__).parents[2] / "examples"

SEED_RSES = {
    "CNAF-STORM",
    "CNAF_CMS_TEMP",
    "DESY-DCACHE",
    "EULAKE-1",
    "EULAKE-2",
    "IN2P3-CC-DCACHE",
    "INFN-NAPOLI-DPM",
    "LAPP-DCACHE",
    "LAPP-DPM",
    "PIC-DCACHE",
    "SARA-DCACHE",
}


@pytest.fixture
def place() -> Iterator[Path]:
    with scratch() as directory:
        yield directory
        run("down", state=directory / "state")


def write(place: Path, document: dict[str, object]) -> Path:
    path = place / "facility.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def run(*arguments: str | Path, state: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "boathouse.cli", *map(str, arguments), "--state", str(state)]
    return subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)


def test_status_gives_every_unit_with_a_reason(lake_box: Box) -> None:
    document = json.loads(lake_box.cli("status", "--json").stdout)
    assert document["ready"] is True
    assert all(unit["detail"] and unit["pid"] and unit["since"] for unit in document["units"])
    names = {unit["unit"] for unit in document["units"]}
    assert {"postgres", "tokens", "keeper", "transfers", "rucio", "rucio-daemons", "se-cnaf-storm"} <= names
    shown = lake_box.cli("status").stdout
    assert all(name in shown for name in names)
    assert max(map(len, shown.splitlines()[1:])) <= 80, shown


def test_logs_of_every_unit_can_be_read_and_hold_no_token(lake_box: Box) -> None:
    lake_box.cli("ls", user="alice")
    for unit in lake_box.local.plan.units:
        text = lake_box.cli("logs", unit.name, "-n", "2000").stdout
        # Every JSON Web Token begins so: the encoding of {"alg or {"typ or {"kid.
        assert "eyJ" not in text, unit.name


def test_an_unknown_unit_is_refused_with_the_known_ones(lake_box: Box) -> None:
    result = lake_box.cli("logs", "postgers", check=False)
    assert result.returncode == 2
    assert "postgres" in result.stderr
    assert "Traceback" not in result.stderr


def test_nothing_listens_beyond_loopback(lake_box: Box) -> None:
    inodes = {inode for pid in marked_processes(lake_box.local.state.facility_id) for inode in sockets(pid)}
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                listening.append(fields[1].split(":")[0])
    assert listening
    # The kernel writes IPv4 addresses with the bytes turned round: 127.x.y.z ends in 7F.
    assert all(address.endswith("7F") for address in listening), listening


def sockets(pid: int) -> set[str]:
    """Inodes of the sockets that a process has open; it, and each of them, may go meanwhile."""
    found = set()
    with suppress(FileNotFoundError, ProcessLookupError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):
                found.add(str(link.readlink()))
    return {name.removeprefix("socket:[").removesuffix("]") for name in found if name.startswith("socket:")}


def test_secrets_are_readable_by_the_services_only(lake_box: Box) -> None:
    open_to_others = set()
    for directory, _, names in os.walk(lake_box.state):
        for path in (Path(directory) / name for name in names):
            # Services make files and remove them meanwhile.
            with suppress(FileNotFoundError, ProcessLookupError):
                mode = path.lstat().st_mode
                if stat.S_ISREG(mode) and mode & 0o077:
                    open_to_others.add(path)
                    assert b"PRIVATE KEY" not in path.read_bytes(), path
    assert open_to_others
    assert not open_to_others & set((lake_box.state / "secrets").iterdir())
    assert not {path for path in open_to_others if "config" in path.relative_to(lake_box.state).parts}


def test_a3_the_eleven_storage_elements_of_the_seeds_come_up_and_are_active() -> None:
    with box(EXAMPLES / "escape.yaml") as escape:
        shown = escape.cli("status", "--json").stdout
        assert json.loads(shown)["ready"] is True
        lake = escape.login("alice")
        assert set(lake.catalogue.rses("*")) == SEED_RSES


def test_a93_destroyed_and_made_again_from_one_file_it_is_the_same(place: Path) -> None:
    facility, state = write(place, small()), place / "state"
    seen = []
    for _ in range(2):
        assert run("up", facility, state=state).returncode == 0
        document = json.loads((state / "endpoints.json").read_text())
        seen.append({element["rse"]: element["audience"] for element in document["storage"]})
        gone = run("down", "--purge", state=state)
        assert gone.returncode == 0, gone.stderr
        assert not state.exists()
    assert seen[0] == seen[1] == {"CNAF-STORM": "127.0.1.11"}


def test_two_facilities_stand_side_by_side_one_of_them_in_a_directory_with_a_space(place: Path) -> None:
    facility = write(place, small())
    states = [place / "state", place / "my second lake"]
    try:
        for state in states:
            result = run("up", facility, state=state)
            assert result.returncode == 0, result.stderr
        for state in states:
            assert json.loads(run("status", "--json", state=state).stdout)["ready"] is True
        assert run("down", state=states[1]).returncode == 0
        assert json.loads(run("status", "--json", state=states[0]).stdout)["ready"] is True
    finally:
        run("down", state=states[1])


def test_the_longest_names_fit_into_the_longest_directory_that_needs_no_link(place: Path) -> None:
    """Paths of unix sockets end at 107 characters."""
    state = place / "state".ljust(LONGEST_ROOT - len(f"{place}/"), "x")
    storage, cache = "S" * 99, "C" * 99
    sites = {"CNAF": {"storage": {storage: {"qos": "FAST"}}, "caches": {cache: {}}}}
    try:
        up = run("up", write(place, small(sites=sites)), state=state)
        assert up.returncode == 0, up.stderr
    finally:
        run("down", state=state)


def test_a10_up_twice_restarts_nothing_and_a_changed_file_only_what_it_concerns(place: Path) -> None:
    """The order of protocols concerns the catalogue, which has the new one then (A11)."""
    facility, state = write(place, small()), place / "state"
    assert run("up", facility, state=state).returncode == 0
    before = pids(state)
    assert run("up", facility, state=state).returncode == 0
    assert pids(state) == before
    assert order(state) == {"read": ["https", "root"], "delete": ["https", "davs"]}

    changed = small()
    storage = changed["sites"]["CNAF"]["storage"]["CNAF-STORM"]
    storage["extra_config"] = "# a line of the operator's"
    storage["protocols"] = ["davs", "root", "https"]
    assert run("up", write(place, changed), state=state).returncode == 0
    after = pids(state)
    assert {unit for unit in before if before[unit] != after[unit]} == {"se-cnaf-storm", "rucio"}
    assert "a line of the operator's" in (state / "config/se-cnaf-storm/xrootd.cfg").read_text()
    wanted = {"read": ["root", "https"], "delete": ["davs", "https"]}
    wait_for("every worker tells the new order", lambda: all(order(state) == wanted for _ in range(8)))


def test_a_facility_of_an_older_boathouse_with_fewer_ports_is_shown_stopped_and_brought_up(place: Path) -> None:
    facility, state = write(place, small()), place / "state"
    assert run("up", facility, state=state).returncode == 0
    kept = json.loads((state / "ports.json").read_text())
    older = {key: port for key, port in kept.items() if ".copy." not in key}
    assert older != kept
    (state / "ports.json").write_text(json.dumps(older))
    assert "Traceback" not in run("status", state=state).stderr
    assert run("down", state=state).returncode == 0
    assert run("up", facility, state=state).returncode == 0
    assert json.loads((state / "ports.json").read_text()).keys() == kept.keys()


def test_a5_a_site_joins_a_running_facility_without_stopping_the_others(place: Path) -> None:
    state = place / "state"
    joined = small()
    joined["sites"]["CNAF"]["caches"]["CNAF-XCACHE"]["upstreams"] = "lake"
    assert run("up", write(place, joined), state=state).returncode == 0
    before = pids(state)
    joined["sites"]["PIC"] = {"storage": {"PIC-DCACHE": {"qos": "B"}}}
    result = run("up", write(place, joined), state=state)
    assert result.returncode == 0, result.stderr
    after = pids(state)
    assert "se-pic-dcache" in after
    assert before["postgres"] == after["postgres"]
    assert before["se-cnaf-storm"] == after["se-cnaf-storm"]


def test_ports_in_use_are_all_named_before_anything_starts(place: Path) -> None:
    with socket.socket() as one, socket.socket() as two:
        for held in (one, two):
            held.bind(("127.0.0.1", 0))
            held.listen()
        wanted = [one.getsockname()[1], two.getsockname()[1]]
        document = small(services={"issuer_port": wanted[0], "catalogue_port": wanted[1]})
        result = run("up", write(place, document), state=place / "state")
    assert result.returncode == 4
    assert all(f"port {port} is in use" in result.stderr for port in wanted)
    assert "Traceback" not in result.stderr
    assert not (place / "state/run/supervisor").exists()


def test_too_little_disk_is_told_before_anything_starts(place: Path) -> None:
    document = small(services={"disk_reserve": "900 TB"})
    result = run("up", write(place, document), state=place / "state")
    assert result.returncode == 4
    assert "too little disk" in result.stderr
    assert "900.0 TB" in result.stderr


def test_a_service_that_dies_at_start_shows_its_last_lines(place: Path) -> None:
    document = small(services={"postgres_extra_config": "shared_buffers = a_lot\n"})
    result = run("up", write(place, document), state=place / "state")
    assert result.returncode == 5
    assert "postgres died while starting" in result.stderr
    assert 'invalid value for parameter "shared_buffers"' in result.stderr
    assert "Traceback" not in result.stderr


def test_commands_on_a_facility_that_is_not_there_say_so(place: Path) -> None:
    for command in (("status",), ("logs", "rucio")):
        result = run(*command, state=place / "nowhere")
        assert result.returncode == 6
        assert "boathouse up" in result.stderr
    assert run("down", state=place / "nowhere").returncode == 0


def pids(state: Path) -> dict[str, int]:
    document = json.loads(run("status", "--json", state=state).stdout)
    assert document["ready"], document
    return {unit["unit"]: unit["pid"] for unit in document["units"]}


def order(state: Path) -> dict[str, list[str]]:
    """Protocols in the order in which the catalogue would have each activity take them, from elsewhere."""
    lake = Lake.operator(endpoints_file.load(state), state / "secrets" / f"client-{OPERATOR}")
    protocols = lake.catalogue.rest.call("GET", "/rses/CNAF-STORM")["protocols"]
    ranked = {
        activity: sorted((each["domains"]["wan"][activity] or 0, each["scheme"]) for each in protocols)
        for activity in ("read", "delete")
    }
    return {activity: [scheme for priority, scheme in found if priority] for activity, found in ranked.items()}
