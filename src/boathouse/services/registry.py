"""All drivers, in the order in which ``status`` shows their units."""

from __future__ import annotations

from boathouse.plan.service import Service
from boathouse.services.cachecare import CacheCare
from boathouse.services.keeper import Keeper
from boathouse.services.network import Network
from boathouse.services.postgres import Postgres
from boathouse.services.rucio import Rucio
from boathouse.services.tokens import TokenIssuer
from boathouse.services.transfers import Transfers
from boathouse.services.xcache import Caches
from boathouse.services.xrootd import StorageElements


def drivers() -> tuple[Service, ...]:
    """One driver for each kind of service that a facility may have."""
    return (
        Postgres(),
        TokenIssuer(),
        Keeper(),
        Network(),
        StorageElements(),
        Caches(),
        CacheCare(),
        Transfers(),
        Rucio(),
    )
