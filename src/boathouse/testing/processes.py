"""Units as children of a test, without the supervisor: whatever dies stays dead."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from functools import partial
from typing import Protocol, Self

from boathouse.plan.model import Task, Unit
from boathouse.run.local import files
from boathouse.run.local.account import child_environment
from boathouse.run.local.probe import Prober
from boathouse.run.local.state import State
from boathouse.run.local.supervise import FACILITY_MARK, marked_processes
from boathouse.testing.wait import wait_for

_STOP_S = 60.0
_READY_S = 120.0
"""However short a unit's own time is: on a busy machine a start takes long."""
_TAIL_CHARACTERS = 4000


class Server(Protocol):
    """What a test puts in the place of a unit."""

    def start(self) -> None:
        """Answer."""

    def stop(self) -> None:
        """Answer no more."""


class Processes:
    """Starts units by name, in any order and without those that they need.

    Args:
        state: where their files and logs lie.
        units: the units by name; others may be put beside them.
        values: the secrets that their files name.
    """

    def __init__(self, state: State, units: dict[str, Unit], values: Mapping[str, str]) -> None:
        self.state, self.units, self.values = state, units, values
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        """Those that were started and not stopped, by the name of their unit."""
        self._servers: list[Server] = []
        self._prober = Prober(state.layout.ca, state.account, self._environment({}))
        self._done: set[str] = set()

    def __enter__(self) -> Self:
        """Themselves."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop what runs, the last that was started first, and make sure that nothing of it is left."""
        with ExitStack() as stack:
            for server in self._servers:
                stack.callback(server.stop)
            stack.callback(self._require_none_left)
            for name in self.processes:
                stack.callback(self.stop, name)

    def beside(self, server: Server) -> None:
        """Start a server of the test's own; it stops when all units have ended."""
        server.start()
        self._servers.append(server)

    def start(self, *names: str) -> None:
        """Write units' files, run their tasks, start them, and wait until all of them are ready."""
        for name in names:
            unit = self.units[name]
            files.write_unit(unit, self.state, self.values)
            self._do(unit.prepare)
            self._spawn(unit)
        for name in names:
            unit = self.units[name]
            ready = partial(self._is_ready, unit)
            wait_for(f"{name} is ready", ready, timeout_s=max(unit.probe.timeout_s, _READY_S), period_s=0.01)
            self._do(unit.after)

    def stop(self, *names: str, number: int | None = None) -> dict[str, int]:
        """End units side by side, as the runner does or with a signal of one's own; the exit status of each.

        Raises:
            AssertionError: some of them did not end, and were killed.
        """
        processes = {name: self.processes.pop(name) for name in names}
        for name, process in processes.items():
            process.send_signal(number or signal.Signals[f"SIG{self.units[name].stop_signal}"])
        deadline = time.monotonic() + _STOP_S
        ended: dict[str, int] = {}
        stubborn: list[str] = []
        for name, process in processes.items():
            try:
                ended[name] = process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                stubborn.append(f"{name} did not end within {_STOP_S:.0f} s:\n{self._tail(name)}")
        if stubborn:
            raise AssertionError("\n".join(stubborn))
        return ended

    def _require_none_left(self) -> None:
        """Make sure that no process is left, children of units that were killed among them.

        Raises:
            AssertionError: some were, and were killed.
        """

        def left() -> Mapping[int, str]:
            return marked_processes(self.state.facility_id)

        try:
            wait_for("every process has ended", lambda: not left(), timeout_s=_STOP_S)
        except AssertionError as error:
            found = left()
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            msg = f"processes were left, and killed: {', '.join(f'{name} ({pid})' for pid, name in found.items())}"
            raise AssertionError(msg) from error

    def check(self, name: str) -> None:
        """Make sure that a unit runs.

        Raises:
            AssertionError: it has ended; its last lines are in the message.
        """
        status = self.processes[name].poll()
        if status is not None:
            msg = f"{name} ended with {status}:\n{self._tail(name)}"
            raise AssertionError(msg)

    def log(self, name: str) -> str:
        """All that a unit has said."""
        return (self.state.layout.logs / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def run(self, task: Task) -> subprocess.CompletedProcess[str]:
        """Run a command as the services' user, as the runner runs tasks."""
        return subprocess.run(
            task.command,
            env=self._environment(task.env),
            cwd=self.state.layout.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=task.timeout_s,
            check=False,
            **self.state.account.popen_arguments(),
        )

    def _spawn(self, unit: Unit) -> None:
        with (self.state.layout.logs / f"{unit.name}.log").open("ab") as log:
            self.processes[unit.name] = subprocess.Popen(
                unit.command,
                env=self._environment(unit.env),
                cwd=self.state.layout.run,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                umask=0o077,
                **self.state.account.popen_arguments(),
            )

    def _do(self, tasks: tuple[Task, ...]) -> None:
        for task in tasks:
            if task.name in self._done:
                continue
            done = self.run(task)
            if done.returncode:
                msg = f"{task.name}: {done.stdout}\n{done.stderr}"
                raise AssertionError(msg)
            if task.once:
                self._done.add(task.name)

    def _is_ready(self, unit: Unit) -> bool:
        self.check(unit.name)
        return self._prober.ask(unit.probe).ok

    def _tail(self, name: str) -> str:
        return self.log(name)[-_TAIL_CHARACTERS:]

    def _environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        mark = {FACILITY_MARK: self.state.facility_id}
        return child_environment(self.state.account, self.state.layout.run, {**extra, **mark})
