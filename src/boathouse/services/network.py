"""The network between the sites: one relay for all of them, where the facility file puts a distance between some."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any, ClassVar

from boathouse.facility.model import Facility
from boathouse.plan.addresses import far_addresses, far_key
from boathouse.plan.model import Certificate, File, PortRequest, Probe, ProbeKind, Unit
from boathouse.plan.service import Context, Contribution, Service

_PROTOCOLS = ("https", "root")


class Network(Service):
    """The relay, if the facility has a network."""

    name: ClassVar[str] = "network"

    def ports(self, facility: Facility) -> tuple[PortRequest, ...]:
        """The relay's own port, and for every site those of all that it sees over a distance.

        Their keys are ``<SITE>><NAME>.https`` and ``<SITE>><NAME>.root`` (:func:`~boathouse.plan.addresses.far_key`).
        """
        far = far_addresses(facility)
        if not far:
            return ()
        return (
            PortRequest(self.name, facility.services.address),
            *(
                PortRequest(f"{far_key(site, seen)}.{protocol}", address, same_as=f"{seen}.{protocol}")
                for (site, seen), address in far.items()
                for protocol in _PROTOCOLS
            ),
        )

    def plan(self, context: Context) -> Contribution:
        """One unit with its settings, or nothing."""
        facility = context.facility
        if facility.network is None or not far_addresses(facility):
            return Contribution()
        address = context.addresses[self.name]
        settings = {
            "listen_address": address,
            "port": context.ports[self.name],
            "certificate": str(context.layout.certificate(self.name)),
            "key": str(context.layout.key(self.name)),
            "window_bytes": facility.network.window,
            "links": _links(facility),
            "paths": _paths(context),
        }
        config = File(context.config(self.name, "settings.json"), json.dumps(settings, indent=2))
        unit = Unit(
            name=self.name,
            title="network: the distance between the sites",
            command=context.programs.daemon("boathouse.apps.network", config.path),
            probe=Probe(ProbeKind.https, target=context.url(self.name) + "/health"),
            files=(config,),
            url=context.url(self.name),
        )
        return Contribution(units=(unit,), certificates=(Certificate(self.name, addresses=(address,)),))


def _links(facility: Facility) -> list[dict[str, Any]]:
    """All pairs of sites with a distance between them."""
    distances = {pair: facility.distance(*pair) for pair in combinations(facility.sites, 2)}
    return [
        {"between": pair, "rtt_s": distance.rtt, "bandwidth_bit_s": distance.bandwidth}
        for pair, distance in distances.items()
        if distance
    ]


def _paths(context: Context) -> list[dict[str, Any]]:
    """Where a site reaches each port of what is far, and where that really is."""
    return [
        {
            "site": site,
            "element": name,
            "element_site": context.facility.site_of(name),
            "listen_address": address,
            "port": context.ports[f"{name}.{protocol}"],
            "element_address": context.addresses[f"{name}.{protocol}"],
        }
        for (site, name), address in far_addresses(context.facility).items()
        for protocol in _PROTOCOLS
    ]
