"""The keeper: keys for storage, tokens for caches, certificates, disk (see :mod:`boathouse.run.local.keeper`)."""

from __future__ import annotations

import json
from typing import ClassVar

from boathouse.facility.model import CacheMode, Facility
from boathouse.plan.model import File, PortRequest, Probe, ProbeKind, Unit
from boathouse.plan.service import Context, Contribution, Service
from boathouse.services import federated, rucio, tokens, transfers, trust, xcache, xrootd


class Keeper(Service):
    """One process that serves nobody and keeps the others supplied."""

    name: ClassVar[str] = "keeper"

    def ports(self, facility: Facility) -> tuple[PortRequest, ...]:
        """None."""
        del facility
        return ()

    def plan(self, context: Context) -> Contribution:
        """One unit, ready once storage has the issuer's keys and caches have their tokens."""
        facility = context.facility
        external = facility.services.issuer
        report = context.run(self.name) / "report.json"
        storage_units = [name(rse) for rse in facility.storage for name in (xrootd.unit_name, xrootd.copy_unit_name)]
        directories = (
            context.run(self.name),
            context.data(self.name),
            trust.key_cache(context),
            # It measures them from the first round on.
            *(xrootd.files_directory(context, rse) for rse in facility.storage),
        )
        cache_units = [xcache.unit_name(cache) for cache in facility.caches]
        settings = {
            "state": str(context.layout.root),
            "report": str(report),
            "issuer": context.issuer,
            # Of an issuer that others run, the keys are asked for.
            "jwks": None if external else str(tokens.jwks_file(context)),
            "ca": str(context.layout.ca_bundle),
            "key_caches": [
                str(trust.key_cache(context)),
                *(str(xrootd.key_cache_directory(context, unit)) for unit in (*storage_units, *cache_units)),
            ],
            "tokens": [
                {
                    "path": str(xcache.token_file(context, cache)),
                    "client_id": context.client_id("cache"),
                    "secret": str(context.layout.secret("client-cache")),
                    "audience": " ".join(xcache.upstream_audiences(context, cache)),
                    "scope": xcache.token_scope(context, cache),
                }
                for cache, settings in facility.caches.items()
                if settings.mode is not CacheMode.translating
            ],
            "credentials": federated.credentials(
                context, {cache: xcache.token_file(context, cache) for cache in facility.caches}
            ),
            "disk_reserve_bytes": facility.services.disk_reserve,
            "writers": [rucio.DAEMONS, transfers.Transfers.name],
            "space": str(rucio.space_file(context.layout)),
            "elements": {
                rse: {"directory": str(xrootd.files_directory(context, rse)), "capacity_bytes": element.capacity}
                for rse, element in facility.storage.items()
            },
            "trusted": [
                {
                    "url": issuer.url,
                    "ca_file": trust.ca_path(context, name),
                    "refresh_s": issuer.key_refresh,
                    "kept": str(context.data(self.name) / f"keys-{name}.json"),
                }
                for name, issuer in facility.issuers.items()
            ]
            + (
                [
                    {
                        "url": external.url,
                        "ca_file": str(context.layout.ca_bundle),
                        "refresh_s": external.key_refresh,
                        "kept": str(context.data(self.name) / "keys.json"),
                    }
                ]
                if external
                else []
            ),
        }
        config = File(context.config(self.name, "keeper.json"), json.dumps(settings, indent=2))
        unit = Unit(
            name=self.name,
            title="keeper of keys, tokens, certificates and disk",
            command=context.programs.daemon("boathouse.run.local.keeper", config.path),
            probe=Probe(ProbeKind.report, target=str(report)),
            needs=trust.needs_issuer(facility),
            directories=(
                *directories,
                *(context.run(unit) for unit in (*storage_units, *cache_units)),
                *(xrootd.key_cache_directory(context, unit) for unit in (*storage_units, *cache_units)),
            ),
            files=(config,),
        )
        return Contribution(units=(unit,), secrets=(*trust.secrets(facility), trust.client_secret(facility, "cache")))
