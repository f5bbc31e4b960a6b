"""Settings of the relay: one JSON file, read once."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class LinkSettings(_Model):
    """A link between two sites; it counts for both directions."""

    between: tuple[str, str]
    rtt_s: float
    bandwidth_bit_s: int | None


class PathSettings(_Model):
    """Where a site reaches a port of an element or cache at another site, and where that really is."""

    site: str
    """The one that connects."""
    element: str
    element_site: str
    listen_address: str
    port: int
    """Of both."""
    element_address: str


class Settings(_Model):
    """All that the relay is told."""

    listen_address: str
    """Where it answers about itself: ``/health`` and ``/metrics``."""
    port: int
    certificate: Path
    key: Path
    window_bytes: int
    links: tuple[LinkSettings, ...]
    paths: tuple[PathSettings, ...]
