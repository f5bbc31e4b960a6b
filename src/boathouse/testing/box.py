"""A whole facility for a test: real services in a directory and on ports of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from boathouse.lake.lake import Lake
from boathouse.plan import endpoints as endpoints_file
from boathouse.plan.model import Endpoints
from boathouse.run.base import UnitState
from boathouse.run.facility import LocalFacility, prepare
from boathouse.testing.quirks import Profile, Zoo
from boathouse.testing.scratch import scratch
from boathouse.testing.wait import wait_for


@dataclass
class Box:
    """A running facility and what a test does with it."""

    local: LocalFacility
    work: Path
    """A directory for the test's own files."""
    zoo: Zoo | None = None
    """What stands before its storage elements, if they are to behave like those of other families."""
    _logged_in: set[str] = field(default_factory=set)

    @property
    def state(self) -> Path:
        """The state directory."""
        return self.local.state.path

    @property
    def endpoints(self) -> Endpoints:
        """What the facility publishes."""
        return endpoints_file.load(self.state)

    def environment(self, user: str | None = None) -> dict[str, str]:
        """The caller's environment with this facility and, for a user, a session of their own."""
        session = {"BOATHOUSE_SESSION": str(self.work / f"session-{user}")} if user else {}
        return {**os.environ, "BOATHOUSE_STATE": str(self.state), **session}

    def cli(
        self, *arguments: str | Path, user: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run ``boathouse`` with these arguments, logged in as a user if one is named."""
        if user:
            self.ensure_login(user)
        return self._run(*arguments, user=user, check=check)

    def _run(self, *arguments: str | Path, user: str | None, check: bool) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "boathouse.cli", *map(str, arguments)]
        result = subprocess.run(
            command, env=self.environment(user), capture_output=True, text=True, timeout=500, check=False
        )
        if check and result.returncode:
            msg = f"{command[2:]}: exit status {result.returncode}\n{result.stdout}\n{result.stderr}"
            raise AssertionError(msg)
        return result

    def ensure_login(self, user: str) -> None:
        """Log a user in once, as a person would with the password."""
        if user not in self._logged_in:
            password = self.local.plan.layout.secret(f"password-{user}")
            self._run("login", "--user", user, "--password-file", password, user=user, check=True)
            self._logged_in.add(user)

    def login_with(self, user: str, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Log a user in by a command of the test's own; also where that fails, what it leaves is ended with the box."""
        self._logged_in.add(user)
        return self._run("login", *arguments, user=user, check=check)

    def login(self, user: str) -> Lake:
        """The lake as a user sees it."""
        self.ensure_login(user)
        return Lake.from_session(self.endpoints, Path(self.environment(user)["BOATHOUSE_SESSION"]))

    def env(self, user: str) -> dict[str, str]:
        """The environment in which stock clients work, as ``boathouse env`` exports it."""
        script = self.cli("env", user=user).stdout
        shown = subprocess.run(
            ["bash", "-c", f"{script}\nenv -0"],
            env=self.environment(user),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        return dict(item.split("=", 1) for item in shown.split("\0") if "=" in item)

    def wait_ready(self, *units: str) -> None:
        """Wait until these units are ready, or all if none is named: after one of them was stopped, or was killed."""

        def ready() -> bool:
            healths = self.local.runner.status(self.local.plan)
            return all(one.state is UnitState.ready for one in healths if not units or one.unit in units)

        wait_for(f"{', '.join(units) or 'every unit'} is ready", ready, timeout_s=180, period_s=0.3)

    def logout_all(self) -> None:
        """End the sessions, and with them their agents."""
        for user in sorted(self._logged_in):
            self._run("logout", user=user, check=False)
        self._logged_in.clear()


@contextmanager
def box(
    facility_file: Path, *, base: Path | None = None, profiles: Mapping[str, Profile] | None = None
) -> Iterator[Box]:
    """Bring a facility up, hand it over, take it down and remove every trace.

    Args:
        facility_file: what to bring up.
        base: where its directory is made; the services' user must be able to reach it.
        profiles: how storage elements behave, by RSE; XRootD's own way if none is given.
    """
    with scratch(base) as directory, ExitStack() as stack:
        work = directory / "work"
        work.mkdir(mode=0o700)
        local = prepare(facility_file, directory / "state")
        zoo = Zoo.of(local.plan, profiles) if profiles else None
        if zoo:
            local = replace(local, plan=zoo.plan)
        stack.callback(local.down)
        local.up()
        made = Box(local, work, zoo)
        if zoo:
            stack.enter_context(zoo)
        stack.callback(made.logout_all)
        yield made
