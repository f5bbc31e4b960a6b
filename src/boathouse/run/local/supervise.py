"""Supervisor (the PyPI project): it holds the processes, restarts what crashes, captures and rotates logs.

Start order, readiness and reasons are not its trade; they are in :mod:`boathouse.run.local.runner`.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import shlex
import socket
import subprocess
import time
import xmlrpc.client
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boathouse.errors import ServiceError
from boathouse.plan.model import Secret, Unit
from boathouse.run.local import secrets
from boathouse.run.local.account import child_environment
from boathouse.run.local.state import State, write_atomically

FACILITY_MARK = "BOATHOUSE_FACILITY_ID"
"""Environment variable that marks a facility's processes."""

_USER = "boathouse"
_LOG_BYTES, _LOG_BACKUPS = 10_000_000, 3
_START_TIMEOUT_S = 60.0

RUNNING_STATES = frozenset({"STARTING", "RUNNING", "BACKOFF", "STOPPING"})


@dataclass(frozen=True)
class ProcessInfo:
    """What Supervisor says of one process."""

    state: str
    """STOPPED, STARTING, RUNNING, BACKOFF, STOPPING, EXITED, FATAL."""
    pid: int
    started: float
    detail: str
    exit_status: int


class Supervisor:
    """The supervisor of one state directory; every call talks to the running daemon or says that there is none."""

    def __init__(self, state: State, python: Path) -> None:
        self._state = state
        self._python = python
        self._directory = state.layout.run / "supervisor"
        self._socket = self._directory / "socket"
        self._config = self._directory / "supervisord.conf"
        self._log = state.layout.logs / "supervisor.log"

    @property
    def is_running(self) -> bool:
        """Whether the daemon answers."""
        try:
            return bool(self._call("getState")["statename"] == "RUNNING")
        except (OSError, http.client.HTTPException, xmlrpc.client.Error):
            return False

    def start(self, units: Iterable[Unit]) -> None:
        """Write the configuration and start the daemon, with no process running yet.

        Raises:
            ServiceError: the daemon did not come up.
        """
        self.write_config(units)
        # It detaches by itself: this call returns at once, with an error if the configuration is wrong.
        command = [str(self._python), "-m", "supervisor.supervisord", "-c", str(self._config)]
        result = subprocess.run(
            command,
            cwd=self._state.layout.root,
            env=child_environment(
                self._state.account, self._state.layout.run, {FACILITY_MARK: self._state.facility_id}
            ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            umask=0o077,
            **self._state.account.popen_arguments(),
        )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self.is_running:
            if result.returncode or time.monotonic() > deadline:
                raise ServiceError(
                    "the process supervisor did not start",
                    got=result.stderr.strip() or f"no answer in {_START_TIMEOUT_S:.0f} s",
                    where=str(self._log),
                    log_tail=tail(self._log, 15),
                )
            time.sleep(0.02)

    def write_config(self, units: Iterable[Unit]) -> None:
        """Write the daemon's configuration for these units."""
        with self._state.account.acting():
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        text = _render(self._state, self._socket, self._log, self._password(), units)
        write_atomically(self._config, text, self._state.account, mode=0o600)

    def update(self, units: Iterable[Unit]) -> None:
        """Make the running daemon know new and changed units; removed and changed ones are stopped."""
        self.write_config(units)
        ((added, changed, removed),) = self._call("reloadConfig")
        for name in (*changed, *removed):
            self._call("stopProcessGroup", name, True)  # noqa: FBT003 - positional in XML-RPC
            self._call("removeProcessGroup", name)
        for name in (*added, *changed):
            self._call("addProcessGroup", name)

    def processes(self) -> dict[str, ProcessInfo]:
        """What every process does, by unit name; empty if the daemon is not up."""
        try:
            rows = self._call("getAllProcessInfo")
        except (OSError, http.client.HTTPException):
            return {}
        return {
            row["name"]: ProcessInfo(
                state=row["statename"],
                pid=row["pid"],
                started=float(row["start"]),
                detail=row["spawnerr"] or row["description"],
                exit_status=row["exitstatus"],
            )
            for row in rows
        }

    def start_process(self, name: str) -> None:
        """Start one process, without waiting; no-op if it is running.

        One that dies at once has been started: its state says so, and its log why.

        Raises:
            ServiceError: it cannot be started at all.
        """
        try:
            self._call("startProcess", name, False)  # noqa: FBT003 - positional in XML-RPC
        except xmlrpc.client.Fault as fault:
            # The daemon answers SPAWN_ERROR when the process has ended before it looks.
            if not any(each in fault.faultString for each in ("ALREADY_STARTED", "SPAWN_ERROR")):
                raise ServiceError(f"cannot start {name}", got=fault.faultString) from fault

    def stop_process(self, name: str, *, wait: bool = True) -> None:
        """Stop one process and, if told to, wait until it is gone; no-op if it is not running."""
        try:
            self._call("stopProcess", name, wait)
        except xmlrpc.client.Fault as fault:
            if "NOT_RUNNING" not in fault.faultString:
                raise ServiceError(f"cannot stop {name}", got=fault.faultString) from fault

    def shutdown(self) -> None:
        """End the daemon; it ends its processes in reverse order of their start first."""
        self._call("shutdown")

    def _password(self) -> str:
        name = "supervisor"
        return secrets.ensure([Secret(name)], self._state.layout.secrets, self._state.account)[name]

    def _call(self, method: str, *arguments: Any) -> Any:
        basic = base64.b64encode(f"{_USER}:{self._password()}".encode()).decode()
        headers = {"Authorization": f"Basic {basic}", "Content-Type": "text/xml"}
        with contextlib.closing(_UnixConnection(self._socket)) as connection:
            connection.request("POST", "/RPC2", xmlrpc.client.dumps(arguments, f"supervisor.{method}"), headers)
            with connection.getresponse() as response:
                text = response.read()
        if response.status != 200:
            raise ServiceError("the process supervisor refused a call", got=f"HTTP {response.status}", where=method)
        ((value,), _) = xmlrpc.client.loads(text)
        return value


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("supervisor", timeout=120)
        self._path = path

    def connect(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(self.timeout)
            connection.connect(str(self._path))
        except OSError:
            connection.close()
            raise
        self.sock = connection


def _quote(value: str) -> str:
    """A value inside Supervisor's ``environment=``, where quotes cannot be escaped and ``%`` starts an expansion."""
    quote = "'" if '"' in value else '"'
    if quote in value or "\n" in value or value[:1] in {'"', "'"} or value[-1:] in {'"', "'"}:
        msg = f"Supervisor cannot pass on this value of an environment variable: {value!r}"
        raise ValueError(msg)
    return f"{quote}{value}{quote}".replace("%", "%%")


def _render(state: State, socket_path: Path, log: Path, password: str, units: Iterable[Unit]) -> str:
    directory = socket_path.parent
    sections = [
        f"""\
[supervisord]
logfile={log}
logfile_maxbytes={_LOG_BYTES}
logfile_backups={_LOG_BACKUPS}
pidfile={directory / "pid"}
childlogdir={state.layout.logs}
directory={state.layout.root}
identifier={state.facility}
umask=077
minfds=4096
nocleanup=true

[unix_http_server]
file={socket_path}
chmod=0700
username={_USER}
password={password}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""
    ]
    for place, unit in enumerate(units):
        sections.append(_program(state, place, unit))
    return "\n".join(sections)


def _program(state: State, place: int, unit: Unit) -> str:
    environment = ",".join(f"{key}={_quote(value)}" for key, value in sorted(unit.env.items()))
    command = shlex.join(unit.command).replace("%", "%%")
    return f"""\
[program:{unit.name}]
command={command}
environment={environment}
priority={place + 1}
directory={state.layout.run}
autostart=false
autorestart=true
startsecs=1
startretries=60
stopsignal={unit.stop_signal}
stopwaitsecs={round(unit.stop_timeout_s)}
stopasgroup=false
killasgroup=true
redirect_stderr=true
stdout_logfile={state.layout.logs / unit.name}.log
stdout_logfile_maxbytes={_LOG_BYTES}
stdout_logfile_backups={_LOG_BACKUPS}
"""


def tail(path: Path, lines: int) -> tuple[str, ...]:
    """The last lines of a text file; empty if there is none."""
    try:
        with path.open("rb") as handle:
            handle.seek(0, os.SEEK_END)
            handle.seek(max(0, handle.tell() - 400 * lines))
            text = handle.read().decode(errors="replace")
    except FileNotFoundError:
        return ()
    return tuple(text.splitlines()[-lines:])


def marked_processes(facility_id: str) -> Mapping[int, str]:
    """Processes on this machine that carry a facility's mark: command name by pid."""
    wanted = f"{FACILITY_MARK}={facility_id}".encode()
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            is_marked = wanted in (entry / "environ").read_bytes().split(b"\0")
            # A zombie has ended; only its parent can remove it.
            if is_marked and ") Z " not in (entry / "stat").read_text():
                found[int(entry.name)] = (entry / "comm").read_text().strip()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found
