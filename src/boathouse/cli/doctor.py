"""``doctor``: what is missing or broken, and the command that mends it."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import typer

from boathouse.cli.common import Json, State, emit, hint, line, out, require_own, state_dir
from boathouse.errors import HostError
from boathouse.run import programs
from boathouse.run.doctor import Finding, Patient, Verdict, examine

_COLOUR = {Verdict.ok: "green", Verdict.warn: "yellow", Verdict.fail: "red"}


def doctor(*, state: State = None, as_json: Json = False) -> None:
    """Say what is missing or broken on this machine, and the command that mends it.

    Looks only, changes nothing. Exit code 4 if something fails; warnings leave it at 0.
    """
    directory = state_dir(state)
    require_own(directory)
    findings = [addressed(finding, directory) for finding in examine(Patient(programs.home(), directory))]
    if as_json:
        emit([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            _print(finding)
    if any(finding.verdict is Verdict.fail for finding in findings):
        raise typer.Exit(HostError.exit_code)


def addressed(finding: Finding, state: Path) -> Finding:
    """A finding whose remedy is for the facility in this state directory."""
    return replace(finding, remedy=hint(finding.remedy, state))


def _print(finding: Finding) -> None:
    out.print(line((f"{finding.verdict:5}", _COLOUR[finding.verdict]), f" {finding.name:20} {finding.detail}"))
    if finding.remedy:
        out.print(line(f"{'':26} ", ("→", "bold"), f" {finding.remedy}"))


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("doctor", epilog="Examples:  boathouse doctor  |  boathouse doctor --json")(doctor)
