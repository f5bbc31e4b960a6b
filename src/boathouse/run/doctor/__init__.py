"""What may be wrong with a machine, an installation or a facility, and the command that mends it."""

from __future__ import annotations

from boathouse.run.doctor.examine import examine
from boathouse.run.doctor.finding import Finding, Patient, Verdict

__all__ = ["Finding", "Patient", "Verdict", "examine"]
