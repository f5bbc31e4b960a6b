"""From a dataset to histograms, every event accounted for. These names are what a user's analysis imports."""

from __future__ import annotations

from boathouse.analysis.events import Events
from boathouse.analysis.histograms import Axis, Histogram
from boathouse.analysis.physics import FourMomenta
from boathouse.analysis.task import Output

__all__ = ["Axis", "Events", "FourMomenta", "Histogram", "Output"]
