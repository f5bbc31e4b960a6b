"""FTS3's REST surface, as Rucio's transfer tool and the ``fts3`` client call it, and what we add to it.

Added: ``GET /jobs/<ids>?wait=<seconds>`` answers when a job changes, ``GET /jobs/<id>/why`` tells the causal chain,
``/health`` and ``/metrics``. Tokens need no delegation, so ``/delegation`` only tells how long the caller's lives.
"""

from __future__ import annotations

from starlette.routing import Route

from boathouse.apps.transfers.pages.routes import PageRoutes
from boathouse.apps.transfers.rest.archive import Archive
from boathouse.apps.transfers.rest.base import Services
from boathouse.apps.transfers.rest.config import Config
from boathouse.apps.transfers.rest.files import Files
from boathouse.apps.transfers.rest.jobs import Jobs
from boathouse.apps.transfers.rest.operating import Operating
from boathouse.apps.transfers.rest.people import People
from boathouse.apps.transfers.rest.signed import Signed
from boathouse.apps.transfers.rest.state import State


def routes(services: Services) -> list[Route]:
    """All routes of the service; the first that fits a path and its method answers."""
    parts = (State, People, Operating, Config, Archive, Files, Signed, Jobs)
    found = [route for part in parts for route in part(services).routes]
    pages = services.settings.pages
    return [*found, *PageRoutes(services, pages).routes] if pages else found
