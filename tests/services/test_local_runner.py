"""The local runner with real processes: PostgreSQL, and services that misbehave on purpose."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from boathouse.errors import ServiceError, StateError
from boathouse.facility.model import Facility
from boathouse.plan.model import Certificate, Endpoints, Layout, Plan, Task, Unit
from boathouse.plan.order import start_order
from boathouse.plan.service import Context, Programs
from boathouse.run.base import UnitState
from boathouse.run.local.account import service_account
from boathouse.run.local.runner import LocalRunner
from boathouse.run.local.state import State, create_or_open, forget_link, locked
from boathouse.run.local.supervise import Supervisor, marked_processes
from boathouse.services.postgres import Postgres
from boathouse.testing import faults
from boathouse.testing.scratch import scratch
from boathouse.testing.small import small
from boathouse.testing.wait import wait_for

FACILITY = Facility.model_validate(small())


@dataclass
class Bench:
    """A state directory and a runner on it."""

    state: State
    programs: Programs

    @property
    def runner(self) -> LocalRunner:
        return LocalRunner(self.state, self.programs)

    @property
    def scratch(self) -> Path:
        return self.state.layout.run / "faults"

    def plan(self, *units: Unit) -> Plan:
        endpoints = Endpoints("small", "escape", "", "", "", "")
        return Plan("small", self.state.layout, start_order(units), (), (), 86400.0, endpoints)

    def postgres(self) -> Plan:
        context = Context(FACILITY, self.state.layout, self.programs, {}, {})
        part = Postgres().plan(context)
        certificates = (Certificate("tokens", ("127.0.0.1",), ("localhost",)),)
        return replace(self.plan(*part.units), secrets=part.secrets, certificates=certificates)

    def alive(self) -> dict[int, str]:
        return dict(marked_processes(self.state.facility_id))


@pytest.fixture(params=["plain", "with a space"])
def bench(request: pytest.FixtureRequest, programs: Programs) -> Iterator[Bench]:
    yield from _bench(programs, request.param)


@pytest.fixture
def plain_bench(programs: Programs) -> Iterator[Bench]:
    yield from _bench(programs, "plain")


def _bench(programs: Programs, name: str) -> Iterator[Bench]:
    with scratch() as base:
        state = create_or_open(base / name, "small", service_account())
        made = Bench(state, programs)
        try:
            yield made
        finally:
            made.runner.stop(None)
            assert not made.alive()
            forget_link(state)


def test_postgres_comes_up_keeps_its_data_and_goes_down(bench: Bench) -> None:
    plan = bench.postgres()
    bench.runner.apply(plan)
    _psql(bench, "rucio", "create table kept (n int); insert into kept values (42)")
    (health,) = bench.runner.status(plan)
    assert (health.state, health.detail) == (UnitState.ready, "answers")
    assert health.pid in bench.alive()

    assert bench.runner.stop(plan) == 2
    assert bench.runner.status(plan)[0].state is UnitState.stopped
    assert not bench.alive()
    assert bench.runner.stop(plan) == 0

    bench.runner.apply(plan)
    assert "42" in _psql(bench, "rucio", "select n from kept")


def test_each_role_enters_its_own_database_only_and_with_its_password(plain_bench: Bench) -> None:
    plain_bench.runner.apply(plain_bench.postgres())
    assert "1" in _psql(plain_bench, "tokens", "select 1")
    with pytest.raises(AssertionError, match="permission denied"):
        _psql(plain_bench, "tokens", "select 1", database="rucio")
    with pytest.raises(AssertionError, match="password authentication failed"):
        _psql(plain_bench, "tokens", "select 1", password="wrong")


def test_a_second_apply_restarts_nothing_and_a_changed_unit_only(plain_bench: Bench) -> None:
    same, other = faults.good("same", plain_bench.scratch), faults.good("other", plain_bench.scratch)
    plain_bench.runner.apply(plain_bench.plan(same, other))
    before = _pids(plain_bench, plain_bench.plan(same, other))
    plain_bench.runner.apply(plain_bench.plan(same, other))
    assert _pids(plain_bench, plain_bench.plan(same, other)) == before

    changed = plain_bench.plan(same, replace(other, env={"COLOUR": 'blue % "quoted" text'}))
    plain_bench.runner.apply(changed)
    after = _pids(plain_bench, changed)
    assert after["same"] == before["same"]
    assert after["other"] != before["other"]
    environment = Path(f"/proc/{after['other']}/environ").read_bytes().split(b"\0")
    assert b'COLOUR=blue % "quoted" text' in environment


def test_a_new_build_restarts_what_runs_from_it(plain_bench: Bench) -> None:
    plan = plain_bench.plan(faults.good("built", plain_bench.scratch))
    plain_bench.runner.apply(plan)
    before = _pids(plain_bench, plan)["built"]
    plain_bench.programs = replace(plain_bench.programs, python=Path(sys.executable), python_build="newer")
    plain_bench.runner.apply(plan)
    assert _pids(plain_bench, plan)["built"] != before


def test_a_unit_may_be_restarted_while_its_start_is_awaited(plain_bench: Bench) -> None:
    supervisor = Supervisor(plain_bench.state, plain_bench.programs.python)
    again = threading.Timer(0.5, supervisor.start_process, ["renewed"])

    def stop(name: str, state: UnitState, _: str) -> None:
        if state is UnitState.starting:
            supervisor.stop_process(name)
            again.start()

    plain_bench.runner.apply(plain_bench.plan(faults.slow("renewed", plain_bench.scratch, delay_s=0.4)), stop)
    again.join()


def test_a_unit_starts_only_when_all_that_it_needs_is_ready(plain_bench: Bench) -> None:
    plan = plain_bench.plan(
        faults.good("last", plain_bench.scratch, needs=("first",)),
        faults.slow("first", plain_bench.scratch, delay_s=0.4),
    )
    seen: list[tuple[str, UnitState]] = []
    plain_bench.runner.apply(plan, lambda unit, state, _: seen.append((unit, state)))
    assert seen.index(("first", UnitState.ready)) < seen.index(("last", UnitState.preparing))


@pytest.mark.parametrize(
    ("make", "message", "in_log"),
    [
        (faults.dies_at_start, "wrong died while starting", "cannot find my configuration"),
        (lambda name, where: faults.never_ready(name, where, timeout_s=6), "wrong is not ready after 6 s", "hello"),
    ],
)
def test_a_service_that_fails_to_start_is_named_with_its_last_lines(
    plain_bench: Bench, make: Callable[[str, Path], Unit], message: str, in_log: str
) -> None:
    plan = plain_bench.plan(faults.good("right", plain_bench.scratch), make("wrong", plain_bench.scratch))
    with pytest.raises(ServiceError) as caught:
        plain_bench.runner.apply(plan)
    assert caught.value.what == message
    assert any(in_log in line for line in caught.value.log_tail)
    assert caught.value.remedy


def test_a_service_that_crashes_is_started_again(plain_bench: Bench) -> None:
    plan = plain_bench.plan(faults.good("victim", plain_bench.scratch))
    plain_bench.runner.apply(plan)
    before = _pids(plain_bench, plan)["victim"]
    os.kill(before, signal.SIGKILL)

    def is_back() -> bool:
        (health,) = plain_bench.runner.status(plan)
        return health.state is UnitState.ready and health.pid != before

    wait_for("the victim is ready again", is_back)


def test_a_service_that_ends_by_itself_is_shown_with_its_exit_status(plain_bench: Bench) -> None:
    plan = plain_bench.plan(faults.dies_when_ready("tired", plain_bench.scratch, life_s=3))
    plain_bench.runner.apply(plan)

    def is_dead() -> str:
        (health,) = plain_bench.runner.status(plan)
        return health.detail if health.state is UnitState.dead else ""

    assert wait_for("it is shown as dead", is_dead, period_s=0.02)


def test_up_begins_afresh_with_a_service_that_had_died(plain_bench: Bench) -> None:
    other = faults.good("other", plain_bench.scratch)
    with pytest.raises(ServiceError):
        plain_bench.runner.apply(plain_bench.plan(other, faults.dies_at_start("mended", plain_bench.scratch)))
    plan = plain_bench.plan(other, faults.good("mended", plain_bench.scratch))
    plain_bench.runner.apply(plan)
    assert {health.state for health in plain_bench.runner.status(plan)} == {UnitState.ready}


def test_down_ends_a_service_that_does_not_want_to(plain_bench: Bench) -> None:
    plan = plain_bench.plan(faults.stubborn("deaf", plain_bench.scratch))
    plain_bench.runner.apply(plan)
    plain_bench.runner.stop(plan)
    assert not plain_bench.alive()


def test_down_ends_what_a_killed_supervisor_left_and_nothing_else(plain_bench: Bench) -> None:
    plan = plain_bench.plan(faults.good("orphan", plain_bench.scratch))
    bystander = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    try:
        plain_bench.runner.apply(plan)
        supervisor = next(pid for pid, _ in plain_bench.alive().items() if _is_supervisor(pid))
        os.kill(supervisor, signal.SIGKILL)
        wait_for("the supervisor is gone", lambda: supervisor not in plain_bench.alive())
        assert plain_bench.alive()
        plain_bench.runner.stop(plan)
        assert not plain_bench.alive()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_failed_task_stops_the_start_with_its_output(plain_bench: Bench) -> None:
    task = Task("check", (sys.executable, "-c", "import sys; print('line 3: no such option'); sys.exit(1)"))
    unit = replace(faults.good("configured", plain_bench.scratch), prepare=(task,))
    with pytest.raises(ServiceError) as caught:
        plain_bench.runner.apply(plain_bench.plan(unit))
    assert caught.value.what == "configured: the task check failed"
    assert "line 3: no such option" in caught.value.log_tail


def test_a_task_once_runs_again_only_when_its_inputs_change(plain_bench: Bench) -> None:
    layout: Layout = plain_bench.state.layout
    source = plain_bench.scratch / "input"
    count = f"open({str(layout.run / 'count')!r}, 'a').write('x')"
    task = Task("count", (sys.executable, "-c", count), once=True, inputs=(source,))
    plan = plain_bench.plan(replace(faults.good("counted", plain_bench.scratch), after=(task,)))
    for text, runs in (("one", 1), ("one", 1), ("two", 2)):
        source.parent.mkdir(exist_ok=True, parents=True)
        plain_bench.state.account.own(source.parent)
        source.write_text(text)
        plain_bench.runner.apply(plan)
        assert (layout.run / "count").read_text() == "x" * runs


def test_two_commands_cannot_change_one_facility_at_once(plain_bench: Bench) -> None:
    with locked(plain_bench.state), pytest.raises(StateError, match="another command"):
        plain_bench.runner.stop(None)


def test_services_run_without_rights_over_the_machine(plain_bench: Bench) -> None:
    plan = plain_bench.plan(faults.good("modest", plain_bench.scratch))
    plain_bench.runner.apply(plan)
    status = Path(f"/proc/{_pids(plain_bench, plan)['modest']}/status").read_text()
    uids = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
    assert set(uids) == {str(plain_bench.state.account.uid)}
    assert "0" not in uids


def test_nothing_is_written_through_a_link_that_a_service_has_planted(plain_bench: Bench) -> None:
    """A flaw in a service must not reach the caller's files, root's perhaps."""
    precious = plain_bench.state.path.parent / "precious"
    precious.write_text("as it was")
    task = Task("check", (sys.executable, "-c", "print('planted')"))
    plan = plain_bench.plan(replace(faults.good("honest", plain_bench.scratch), after=(task,)))
    plain_bench.runner.apply(plan)
    log = plain_bench.state.layout.logs / "honest.check.log"
    log.unlink()
    log.symlink_to(precious)
    plain_bench.runner.stop(plan)
    with pytest.raises(StateError, match="cannot write a log"):
        plain_bench.runner.apply(plan)
    assert precious.read_text() == "as it was"


def _pids(bench: Bench, plan: Plan) -> dict[str, int]:
    return {health.unit: health.pid for health in bench.runner.status(plan)}


def _is_supervisor(pid: int) -> bool:
    return b"supervisor.supervisord" in Path(f"/proc/{pid}/cmdline").read_bytes()


def _psql(bench: Bench, role: str, sql: str, *, database: str | None = None, password: str | None = None) -> str:
    layout = bench.state.layout
    result = subprocess.run(
        [
            bench.programs.postgres_bin / "psql",
            "-h",
            layout.run / "postgres",
            "-U",
            role,
            "-d",
            database or role,
            "-c",
            sql,
        ],
        env={"PGPASSWORD": password or layout.secret(f"postgres-{role}").read_text()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout
