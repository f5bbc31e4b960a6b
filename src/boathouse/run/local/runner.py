"""The runner of one machine: start order, readiness with reasons, restart of what changed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from boathouse.errors import NotFoundError, ServiceError
from boathouse.facility.faults import nearest
from boathouse.plan import endpoints as endpoints_file
from boathouse.plan.model import Plan, Task, Unit
from boathouse.plan.service import Programs
from boathouse.run.base import Health, Progress, Runner, UnitState
from boathouse.run.local import files, secrets
from boathouse.run.local.account import child_environment
from boathouse.run.local.probe import Prober
from boathouse.run.local.state import State, locked, write_atomically, write_public
from boathouse.run.local.supervise import (
    FACILITY_MARK,
    RUNNING_STATES,
    ProcessInfo,
    Supervisor,
    marked_processes,
    tail,
)

_TAIL_LINES = 25
_STOP_TIMEOUT_S = 60.0


def _silent(unit: str, state: UnitState, detail: str) -> None:
    del unit, state, detail


@dataclass(frozen=True)
class _Start:
    """What the start of every unit needs."""

    plan: Plan
    values: dict[str, str]
    prober: Prober
    tell: Progress
    cancelled: threading.Event


class LocalRunner(Runner):
    """Runs a plan as processes of this machine, under Supervisor."""

    def __init__(self, state: State, programs: Programs) -> None:
        self.programs = programs
        self._state = state
        self._supervisor = Supervisor(state, programs.python)
        self._applied_file = state.layout.run / "applied.json"
        self._lock = threading.Lock()

    def apply(self, plan: Plan, progress: Progress | None = None) -> None:
        """See :meth:`Runner.apply`."""
        tell = progress or _silent
        with locked(self._state):
            files.prepare_state(self._state)
            renewed = files.certificates(plan, self._state)
            values = secrets.ensure(plan.secrets, plan.layout.secrets, self._state.account)
            running = self._supervisor.is_running
            if running:
                self._stop_changed(plan, renewed, tell)
                self._supervisor.update(plan.units)
            else:
                self._end_strays()
                self._applied_file.unlink(missing_ok=True)
                self._supervisor.start(plan.units)
            # The keeper renews certificates of this list and restarts who uses them.
            write_atomically(
                plan.layout.config / "plan.json", files.plan_document(plan), self._state.account, mode=0o600
            )
            self._start_all(plan, values, tell)
            write_public(self._state.endpoints_file, endpoints_file.dumps(plan.endpoints))

    def status(self, plan: Plan) -> tuple[Health, ...]:
        """See :meth:`Runner.status`."""
        processes = self._supervisor.processes()
        prober = self._prober(plan)
        with ThreadPoolExecutor(8) as pool:
            return tuple(pool.map(lambda unit: _health(unit, processes.get(unit.name), prober), plan.units))

    def logs(self, plan: Plan, unit: str, *, lines: int, follow: bool) -> Iterator[str]:
        """See :meth:`Runner.logs`."""
        names = [known.name for known in plan.units]
        if unit not in names:
            raise NotFoundError(
                f"no unit {unit}",
                expected=f"one of {', '.join(names)}",
                got=unit,
                remedy=f"boathouse logs {nearest(unit, names) or 'rucio'}",
            )
        path = self._state.layout.logs / f"{unit}.log"
        yield from self._tail(path, lines)
        if not follow:
            return
        command = ["tail", "-n", "0", "-F", str(path)]
        result = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **self._state.account.popen_arguments())
        try:
            assert result.stdout is not None
            for line in result.stdout:
                yield line.rstrip("\n")
        finally:
            result.terminate()
            result.wait()

    def stop(self, plan: Plan | None, progress: Progress | None = None) -> int:
        """See :meth:`Runner.stop`."""
        tell = progress or _silent
        with locked(self._state):
            before = marked_processes(self._state.facility_id)
            if not before:
                return 0
            self._state.endpoints_file.unlink(missing_ok=True)
            if self._supervisor.is_running:
                if plan:
                    self._stop_all(plan, tell)
                self._supervisor.shutdown()
                self._wait_gone(_STOP_TIMEOUT_S)
            self._end_strays()
            self._applied_file.unlink(missing_ok=True)
            return len(before)

    # -- starting -----------------------------------------------------------------------------------------------

    def _start_all(self, plan: Plan, values: dict[str, str], tell: Progress) -> None:
        """Start units as soon as all that they need is ready, side by side."""
        waiting = {unit.name: unit for unit in plan.units}
        ready: set[str] = set()
        start = _Start(plan, values, self._prober(plan), tell, threading.Event())
        with ThreadPoolExecutor(len(plan.units)) as pool:
            active: dict[Future[None], str] = {}
            while waiting or active:
                for unit in [unit for unit in waiting.values() if ready.issuperset(unit.needs)]:
                    del waiting[unit.name]
                    active[pool.submit(self._start_unit, start, unit)] = unit.name
                done, _ = wait(active, return_when=FIRST_COMPLETED)
                for future in done:
                    name = active.pop(future)
                    if future.exception() is not None:
                        start.cancelled.set()
                        wait(active)
                        future.result()
                    ready.add(name)

    def _start_unit(self, start: _Start, unit: Unit) -> None:
        info = self._supervisor.processes().get(unit.name)
        if info is not None and info.state == "BACKOFF":
            # It died again and again: begin afresh, now that what it lacked may be there.
            self._supervisor.stop_process(unit.name)
        if info is None or info.state not in {"STARTING", "RUNNING"}:
            start.tell(unit.name, UnitState.preparing, "")
            files.write_unit(unit, self._state, start.values)
            for task in unit.prepare:
                self._run_task(start.plan, unit, task)
            self._supervisor.start_process(unit.name)
        start.tell(unit.name, UnitState.starting, "")
        if not self._wait_ready(start, unit):
            return
        for task in unit.after:
            self._run_task(start.plan, unit, task)
        self._remember(unit)
        start.tell(unit.name, UnitState.ready, "")

    def _wait_ready(self, start: _Start, unit: Unit) -> bool:
        """Wait for the probe; false if another unit's failure has ended the start meanwhile."""
        deadline = time.monotonic() + unit.probe.timeout_s
        pause = 0.03
        while not start.cancelled.wait(pause):
            answer = start.prober.ask(unit.probe)
            if answer.ok:
                return True
            info = self._supervisor.processes().get(unit.name)
            # The keeper may just be restarting it, with a new certificate.
            if info is None or info.state not in {"STARTING", "RUNNING", "STOPPING", "STOPPED"}:
                raise self._failure(unit, f"{unit.name} died while starting", info.detail if info else "not supervised")
            if time.monotonic() > deadline:
                raise self._failure(unit, f"{unit.name} is not ready after {unit.probe.timeout_s:.0f} s", answer.detail)
            pause = min(pause * 1.3, 0.3)
        return False

    def _failure(self, unit: Unit, what: str, got: str) -> ServiceError:
        log = self._state.layout.logs / f"{unit.name}.log"
        return ServiceError(
            what,
            got=got,
            where=str(log),
            log_tail=self._tail(log, _TAIL_LINES),
            remedy=f"boathouse logs {unit.name}; boathouse doctor",
        )

    def _tail(self, log: Path, lines: int) -> tuple[str, ...]:
        with self._state.account.acting():
            return tail(log, lines)

    def _run_task(self, plan: Plan, unit: Unit, task: Task) -> None:
        marker = plan.layout.root / "markers" / f"{unit.name}.{task.name}"
        with self._state.account.acting():
            digest = files.content_digest(task.inputs)
            if task.once and marker.exists() and marker.read_text(encoding="utf-8") == digest:
                return
        environment = child_environment(
            self._state.account, plan.layout.run, {**task.env, FACILITY_MARK: self._state.facility_id}
        )
        log = plan.layout.logs / f"{unit.name}.{task.name}.log"
        with files.open_log(log, self._state.account) as handle:
            try:
                status = subprocess.run(
                    task.command,
                    cwd=plan.layout.root,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=handle,
                    stderr=handle,
                    timeout=task.timeout_s,
                    check=False,
                    **self._state.account.popen_arguments(),
                ).returncode
                reason = f"exit status {status}"
            except subprocess.TimeoutExpired:
                status, reason = -1, f"not done after {task.timeout_s:.0f} s"
            except OSError as error:
                status, reason = -1, str(error)
        if status != 0:
            raise ServiceError(
                f"{unit.name}: the task {task.name} failed",
                got=reason,
                where=str(log),
                log_tail=self._tail(log, _TAIL_LINES),
                remedy="boathouse doctor",
            )
        if task.once:
            write_atomically(marker, digest, self._state.account, mode=0o600)

    # -- changing -----------------------------------------------------------------------------------------------

    def _stop_changed(self, plan: Plan, renewed: frozenset[str], tell: Progress) -> None:
        """Stop units whose definition or certificate has changed since they were started."""
        applied = self._applied()
        renewed_paths = {str(plan.layout.certificate(name)) for name in renewed}
        for unit in reversed(plan.units):
            if unit.name not in applied:
                continue
            text = "\n".join((*unit.command, *unit.env.values(), *(file.text for file in unit.files)))
            if applied[unit.name] != files.fingerprint(unit, self.programs) or any(
                path in text for path in renewed_paths
            ):
                tell(unit.name, UnitState.stopping, "its definition changed")
                self._supervisor.stop_process(unit.name)

    def _applied(self) -> dict[str, str]:
        try:
            with self._state.account.acting():
                document = json.loads(self._applied_file.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return {str(name): str(digest) for name, digest in document.items()}

    def _remember(self, unit: Unit) -> None:
        with self._lock:
            applied = self._applied() | {unit.name: files.fingerprint(unit, self.programs)}
            write_atomically(self._applied_file, json.dumps(applied), self._state.account, mode=0o600)

    # -- stopping -----------------------------------------------------------------------------------------------

    def _stop_all(self, plan: Plan, tell: Progress) -> None:
        """Stop units as soon as nobody needs them any more, side by side.

        What does not end in time is left to Supervisor, which then kills it.
        """
        left = {unit.name: unit for unit in plan.units}
        asked: set[str] = set()
        deadline = time.monotonic() + max(unit.stop_timeout_s for unit in plan.units) + _STOP_TIMEOUT_S
        while left and time.monotonic() < deadline:
            needed = {need for unit in left.values() for need in unit.needs}
            for name in [name for name in left if name not in needed and name not in asked]:
                tell(name, UnitState.stopping, "")
                self._supervisor.stop_process(name, wait=False)
                asked.add(name)
            running = {name for name, info in self._supervisor.processes().items() if info.state in RUNNING_STATES}
            for name in [name for name in asked if name in left and name not in running]:
                del left[name]
                tell(name, UnitState.stopped, "")
            time.sleep(0.02)

    def _wait_gone(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while marked_processes(self._state.facility_id):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def _end_strays(self) -> None:
        """End processes of this facility that no supervisor holds, as after the supervisor itself was killed."""
        for number, patience_s in ((signal.SIGINT, 5.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
            for pid in marked_processes(self._state.facility_id):
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue
            if self._wait_gone(patience_s):
                return
        left = ", ".join(f"{name} ({pid})" for pid, name in marked_processes(self._state.facility_id).items())
        raise ServiceError("processes of this facility cannot be ended", got=left)

    def _prober(self, plan: Plan) -> Prober:
        environment = child_environment(self._state.account, plan.layout.run, {})
        return Prober(plan.layout.ca, self._state.account, environment)


def _health(unit: Unit, info: ProcessInfo | None, prober: Prober) -> Health:
    def health(state: UnitState, detail: str) -> Health:
        return Health(
            unit=unit.name,
            title=unit.title,
            state=state,
            detail=detail,
            since=info.started if info else 0.0,
            pid=info.pid if info else 0,
            url=unit.url,
        )

    if info is None or info.state == "STOPPED":
        return health(UnitState.stopped, "not running")
    if info.state in {"BACKOFF", "EXITED", "FATAL"}:
        return health(UnitState.dead, f"{info.detail}; exit status {info.exit_status}")
    if info.state == "STOPPING":
        return health(UnitState.stopping, info.detail)
    answer = prober.ask(unit.probe)
    if answer.ok:
        return health(UnitState.ready, answer.detail)
    young = time.time() - info.started < unit.probe.timeout_s
    return health(UnitState.starting if young else UnitState.failing, answer.detail)
