"""All checks, one after another, whatever the others found."""

from __future__ import annotations

from dataclasses import replace

from boathouse.errors import BoathouseError
from boathouse.run.doctor import facility, installation, machine
from boathouse.run.doctor.finding import Finding, Patient, fail, ok


def examine(patient: Patient) -> tuple[Finding, ...]:
    """The findings of all checks, in order; without a state directory those of the facility are left out."""
    checks = [*installation.CHECKS, *machine.CHECKS]
    found: list[Finding] = []
    if (patient.state / "state.json").exists():
        checks += facility.CHECKS
    for check in checks:
        name = check.__name__.replace("_", " ")
        try:
            found += [replace(finding, name=name) for finding in check(patient)]
        except BoathouseError as error:
            detail = f"{error.what}: {error.got}" if error.got else error.what
            found.append(replace(fail(detail, error.remedy or ""), name=name))
        except OSError as error:
            found.append(replace(fail(str(error), "see docs/troubleshooting.md"), name=name))
    if not (patient.state / "state.json").exists():
        found.append(replace(ok(f"none yet in {patient.state}"), name="facility"))
    return tuple(found)
