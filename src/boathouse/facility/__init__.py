"""What is wanted: the facility file, loaded once into frozen models."""

from __future__ import annotations
