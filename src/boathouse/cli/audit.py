"""``audit``: do catalogue and storage agree?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from boathouse.cli.common import Json, State, count, emit, err, hint, hinted, out, state_dir
from boathouse.cli.lakes import bar, columns, endpoints_of
from boathouse.errors import PartialError
from boathouse.lake.audit import Report, audit, repair
from boathouse.lake.lake import OPERATOR, Lake
from boathouse.units import parse_seconds


def audit_(
    rse: Annotated[list[str] | None, typer.Option("--rse", help="Only this RSE; may be repeated.")] = None,
    in_flight: Annotated[
        str, typer.Option("--in-flight", help="Files younger than this may still be uploads.")
    ] = "5 min",
    state: State = None,
    *,
    checksums: Annotated[bool, typer.Option("--checksums", help="Read every file and sum its bytes.")] = False,
    mend: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Delete dark files; give withheld ones back; let the catalogue replace lost and wrong ones.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare catalogue and storage: lost, dark, withheld, wrong size, wrong bytes, each with what to do.

    Exit code 0 if they agree, 20 if not. It runs as the facility's operator, on the machine of the facility.
    """
    directory = state_dir(state)
    lake = Lake.operator(endpoints_of(directory), directory / "secrets" / f"client-{OPERATOR}")
    with bar("reading", size_bytes=0, files=0) as progress:
        report = audit(lake, rses=rse, checksums=checksums, in_flight_s=parse_seconds(in_flight), progress=progress)
    if as_json:
        emit(hinted(report.as_dict(), directory))
    else:
        _print(report, directory)
    if mend and report.findings:
        done = repair(lake, report.findings)
        err.print(f"{done} of {len(report.findings)} repaired; the catalogue copies what it can in the background")
    elif not report.clean:
        raise typer.Exit(PartialError.exit_code)


def _print(report: Report, state: Path) -> None:
    if report.findings:
        columns(
            ("WHAT", "RSE", "FILE", "EXPECTED", "GOT", "REMEDY"),
            (
                (
                    finding.kind.value,
                    finding.rse,
                    finding.did or finding.url,
                    finding.expected,
                    finding.got,
                    hint(finding.remedy, state),
                )
                for finding in report.findings
            ),
        )
    verdict = "agree" if report.clean else f"disagree about {count(len(report.findings), 'file')}"
    summed = f", {report.summed:,} of them read and summed" if report.summed else ""
    flight = f"; {report.in_flight:,} in flight" if report.in_flight else ""
    out.print(
        f"Catalogue and storage {verdict}: {count(report.catalogued, 'replica')} catalogued, "
        f"{count(report.stored, 'file')} stored{summed}{flight}, at {count(len(report.rses), 'RSE')}.",
        style="green" if report.clean else "red",
    )


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "audit",
        epilog="Examples: boathouse audit | boathouse audit --checksums --rse CNAF-STORM | boathouse audit --json",
    )(audit_)
