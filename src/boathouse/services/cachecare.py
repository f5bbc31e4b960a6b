"""The care of caches: one process that counts, evicts and scrubs for all of them (:mod:`boathouse.apps.caches`)."""

from __future__ import annotations

import json
from typing import ClassVar

from boathouse.facility.model import Facility
from boathouse.plan.model import Certificate, File, PortRequest, Probe, ProbeKind, Unit
from boathouse.plan.service import Context, Contribution, Service
from boathouse.services import trust, xrootd
from boathouse.services.xcache import CARE, stream_key, unit_name


class CacheCare(Service):
    """What looks after the caches of all sites."""

    name: ClassVar[str] = CARE

    def ports(self, facility: Facility) -> tuple[PortRequest, ...]:
        """None: caches must know them, so they are of :class:`~boathouse.services.xcache.Caches`."""
        del facility
        return ()

    def plan(self, context: Context) -> Contribution:
        """One unit, where there are caches."""
        facility = context.facility
        if not facility.caches:
            return Contribution()
        data = context.data(self.name)
        settings = {
            "listen_address": context.addresses[self.name],
            "port": context.ports[self.name],
            "url": context.url(self.name),
            "certificate": str(context.layout.certificate(self.name)),
            "key": str(context.layout.key(self.name)),
            "database": str(data / "counts.sqlite"),
            "issuer": context.issuer,
            "ca_file": str(context.layout.ca_bundle),
            "cache_ca_directory": str(context.layout.ca_directory),
            "service_key_cache": str(trust.key_cache(context)),
            "operators": [context.client_id("operator"), *trust.administrators(context)],
            "prefixes": sorted({element.prefix.rstrip("/") for element in facility.storage.values()}),
            "caches": [
                {
                    "name": name,
                    "site": facility.site_of(name),
                    "level": cache.level.value,
                    "address": context.addresses[f"{name}.https"],
                    "far": list(context.far_hosts(name).values()),
                    "root_port": context.ports[f"{name}.root"],
                    "stream_port": context.ports[stream_key(name)],
                    "data": str(context.data(unit_name(name))),
                    "key_cache": str(xrootd.key_cache_directory(context, unit_name(name))),
                    "size_bytes": cache.size,
                    "scrub_interval_s": cache.scrub_interval,
                    "of_lake": not cache.federation,
                }
                for name, cache in facility.caches.items()
            ],
            "xrdfs": str(context.programs.xrootd_bin / "xrdfs"),
            "catalogue": context.catalogue,
            "client_id": context.client_id("operator"),
            "client_secret": "${secret:client-operator}",
        }
        config = File(context.config(self.name, "settings.json"), json.dumps(settings, indent=2))
        unit = Unit(
            name=self.name,
            title="care of caches: accounting, eviction, scrubs",
            command=context.programs.daemon("boathouse.apps.caches", config.path),
            probe=Probe(ProbeKind.https, target=context.url(self.name) + "/health"),
            needs=("keeper",),
            directories=(
                data,
                *(xrootd.key_cache_directory(context, unit_name(name)) for name in facility.caches),
            ),
            files=(config,),
            stop_timeout_s=12,
            url=context.url(self.name),
        )
        return Contribution(
            units=(unit,),
            secrets=(trust.client_secret(facility, "operator"), *trust.subjects(facility)),
            certificates=(Certificate(self.name, addresses=(context.addresses[self.name],), dns=("localhost",)),),
        )
