"""``demo``: the main job from an empty machine to a plot and back, by the commands that a user would type."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from boathouse.cli.common import State, err, line, out, state_dir
from boathouse.cli.lakes import open_lake
from boathouse.cli.run import endpoints_table, login_hint
from boathouse.errors import AuthError, BoathouseError, ServiceError
from boathouse.lake.names import Did
from boathouse.run.facility import example, open_facility
from boathouse.units import format_seconds

_USER = "alice"
_SITE = "CNAF"
_SAMPLE_DATASET = "cms:DoubleMu.sample"
_NOISE = Did("testing", "noise.dat")
_NOISE_LIFETIME = "2 s"
_GONE_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Step:
    """What one step of the demonstration did."""

    title: str
    outcome: str
    took_s: float


class Demo:
    """Runs commands of ``boathouse`` one after another and keeps account of them.

    Args:
        run: executes one command line, given as words, and gives the status with which it would have ended.
        state: state directory of the facility.
        directory: where samples and results go.
    """

    def __init__(self, run: Callable[[Sequence[str]], int | None], state: Path, directory: Path) -> None:
        self._run = run
        self._state = state
        self._directory = directory
        self._began = time.monotonic()
        self.steps: list[Step] = []
        self.plot_after_s = 0.0
        self.status = 0

    def command(self, *words: str, needs_facility: bool = True) -> bool:
        """Show a command as it would be typed, and run it. Returns whether it ended well."""
        out.print("", f"$ boathouse {shlex.join(words)}", sep="\n", style="bold")
        status = self._run([*words, "--state", str(self._state)] if needs_facility else words) or 0
        self.status = self.status or status
        return not status

    def note(self, title: str, began: float, outcome: str) -> None:
        """Write a step into the account."""
        self.steps.append(Step(title, outcome, time.monotonic() - began))

    def whole_job(self, facility: str, data: Sequence[str]) -> None:
        """All steps in order; every one may be repeated."""
        self._bring_up(facility)
        dataset = Did.parse(_SAMPLE_DATASET if not data else f"cms:DoubleMu.{Path(data[0]).stem}")
        files = list(data) or self._make_sample()
        self._import(files, dataset)
        self._replicate(dataset)
        result = self._analyse(dataset)
        self._publish(result, dataset)
        self._let_expire()
        self._audit()

    def _bring_up(self, facility: str) -> None:
        began = time.monotonic()
        self.command("up", facility)
        self.note("services", began, f"{len(open_facility(self._state).plan.units)} units ready")
        self.log_in()

    def log_in(self) -> None:
        """Log the demonstration's user in, with the password that the facility made, unless they are.

        Raises:
            AuthError: the password is another one by now.
        """
        began = time.monotonic()
        if _is_logged_in(self._state):
            self.note("login", began, f"{_USER} was logged in")
            return
        password = self._state / "secrets" / f"password-{_USER}"
        try:
            self.command("login", "--user", _USER, "--password-file", str(password))
        except AuthError as error:
            raise AuthError(
                f"the demonstration cannot log in as {_USER}",
                expected="the password that the facility made",
                got=error.got,
                where=str(password),
                remedy=f"boathouse login --user {_USER}, with the password of now; then boathouse demo",
            ) from error
        self.note("login", began, f"{_USER}, by device code")

    def _make_sample(self) -> list[str]:
        began = time.monotonic()
        folder = self._directory / "samples"
        self.command("sample", "--out", str(folder), needs_facility=False)
        files = sorted(str(path) for path in folder.glob("*.root"))
        self.note("sample", began, f"{len(files)} NanoAOD-like files")
        return files

    def _import(self, files: list[str], dataset: Did) -> None:
        began = time.monotonic()
        self.command("import", *files, "--to", str(dataset), "--qos", "FAST")
        size = sum(1 for _ in open_lake(self._state).catalogue.content(dataset))
        self.note("import", began, f"{size} files in {dataset}, on FAST")

    def _replicate(self, dataset: Did) -> None:
        began = time.monotonic()
        lake = open_lake(self._state)
        expression = "QOS=SAFE"
        known = [rule for rule in lake.rules.of(dataset) if rule.rse_expression == expression]
        if not known:
            self.command("rule", "add", str(dataset), expression, "--wait")
            known = [rule for rule in lake.rules.of(dataset) if rule.rse_expression == expression]
        self.command("rule", "show", known[0].id)
        rule = lake.rules.wait(known[0].id, timeout_s=600)
        self.note("replicate", began, f"rule {rule.state} {rule.locks}, third-party copies to SAFE")

    def _analyse(self, dataset: Did) -> Path:
        began = time.monotonic()
        result = self._directory / "result"
        analysis = example("laptop").parent / "analysis" / "dimuon.py"
        self.command("run", str(analysis), str(dataset), "--out", str(result), "--site", _SITE)
        self.plot_after_s = time.monotonic() - self._began
        self.note("analyse", began, "dimuon spectrum, read through the cache")
        return result

    def _publish(self, result: Path, dataset: Did) -> None:
        began = time.monotonic()
        to = f"{dataset}.plots"
        self.command("publish", str(result), "--to", to)
        self.note("publish", began, f"{to}, on CHEAP-ANALYSIS")

    def _let_expire(self) -> None:
        began = time.monotonic()
        noise = self._directory / _NOISE.name
        noise.write_bytes(b"noise\n" * 1000)
        self.command("put", str(noise), "--scope", _NOISE.scope, "--rse", "EULAKE-1", "--lifetime", _NOISE_LIFETIME)
        lake = open_lake(self._state)
        deadline = time.monotonic() + _GONE_TIMEOUT_S
        while any(found.states for found in lake.catalogue.replicas([_NOISE], all_states=True)):
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"the replica of {_NOISE} is still there {_GONE_TIMEOUT_S:.0f} s after its rule has expired",
                    remedy="boathouse logs rucio-daemons",
                )
            time.sleep(0.2)
        self.note("delete", began, f"rule of {_NOISE_LIFETIME} expired, its replica is gone")

    def _audit(self) -> None:
        began = time.monotonic()
        agree = self.command("audit", "--in-flight", "0 s")
        self.note("audit", began, f"catalogue and storage {'agree' if agree else 'disagree, as told above'}")

    def summary(self) -> Table:
        """All steps with what they did and how long they took."""
        table = Table("step", "what happened", "time", title="what happened", title_justify="left")
        for step in self.steps:
            table.add_row(step.title, step.outcome, format_seconds(step.took_s))
        return table


def _is_logged_in(state: Path) -> bool:
    try:
        return open_lake(state).catalogue.account == _USER
    except BoathouseError:
        return False


def demo(
    data: Annotated[
        list[str] | None, typer.Argument(help="ROOT files to analyse instead of generated ones.", metavar="[FILES…]")
    ] = None,
    *,
    facility: Annotated[str, typer.Option("--facility", help="Facility file or example to bring up.")] = "laptop",
    directory: Annotated[
        Path, typer.Option("--out", help="Directory for samples and results.", file_okay=False)
    ] = Path("boathouse-demo"),
    state: State = None,
) -> None:
    """Bring up a whole lake, run an analysis on it, and leave it running. Repeat it as you like."""
    from boathouse.cli.main import build  # noqa: PLC0415 - the demonstration is itself one of the commands

    where = state_dir(state).absolute()
    directory.mkdir(parents=True, exist_ok=True)
    directory = directory.absolute()
    command_line = build()
    show = Demo(lambda words: command_line(list(words), standalone_mode=False), where, directory)
    show.whole_job(facility, data or [])
    _finish(show, where, directory)
    if show.status:
        raise typer.Exit(show.status)


def _finish(show: Demo, state: Path, directory: Path) -> None:
    local = open_facility(state)
    out.print()
    out.print(show.summary())
    for plot in sorted((directory / "result").glob("*.png")):
        out.print(line(("plot", "bold"), f"  {plot}"))
    endpoints = local.plan.endpoints
    out.print(endpoints_table(endpoints))
    out.print(login_hint(local))
    err.print(f"The plot was there after {format_seconds(show.plot_after_s)}. The facility goes on running.")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo", epilog="Examples:  boathouse demo  |  boathouse demo mine/*.root --out /tmp/demo")(demo)
