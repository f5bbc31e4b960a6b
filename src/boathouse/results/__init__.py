"""What is kept: plots, histograms, ntuples, and the record of how they came about."""

from __future__ import annotations
