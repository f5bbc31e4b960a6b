"""The transfer service: FTS3's REST interface, third-party copies between storage elements underneath."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from boathouse.facility.model import TRANSFERS_ADDRESS, Facility
from boathouse.plan.model import Certificate, File, PortRequest, Probe, ProbeKind, Secret, Unit
from boathouse.plan.service import Context, Contribution, Service
from boathouse.services import trust
from boathouse.services.postgres import database_url
from boathouse.services.xrootd import copy_key

PAGES_CLIENT = "transfers-pages"
"""The client of the issuer with which people sign in to the service's pages."""
_STORE_KEY = "transfers-store-key"


class Transfers(Service):
    """The service that Rucio's conveyor hands its transfers to."""

    name: ClassVar[str] = "transfers"

    def ports(self, facility: Facility) -> tuple[PortRequest, ...]:
        """The service's port."""
        return (PortRequest(self.name, TRANSFERS_ADDRESS, facility.services.transfers_port),)

    def plan(self, context: Context) -> Contribution:
        """One unit with its settings."""
        address = context.addresses[self.name]
        settings = {
            "listen_address": address,
            "port": context.ports[self.name],
            "certificate": str(context.layout.certificate(self.name)),
            "key": str(context.layout.key(self.name)),
            "database_url": database_url(context, self.name),
            "issuer": context.issuer,
            "ca_file": str(context.layout.ca_bundle),
            "key_cache": str(trust.key_cache(context)),
            "audience": address,
            "vo": context.facility.vo,
            "client_id": context.client_id(self.name),
            "client_secret": "${secret:client-transfers}",
            "store_key": f"${{secret:{_STORE_KEY}}}",
            "doors": _doors(context),
            "https_of": _https_of(context),
            "far": _far(context),
            "copy_from": list(context.facility.services.copy_from),
            "stores": [_store(context, name) for name in context.facility.stores],
            "operators": [context.client_id("operator"), *trust.administrators(context)],
            "services": [context.client_id("rucio")],
            "pages": _pages(context),
            "trusted": [
                {key: issuer[key] for key in ("name", "url", "ca_file", "vo")} for issuer in trust.described(context)
            ],
        }
        config = File(context.config(self.name, "settings.json"), json.dumps(settings, indent=2))
        unit = Unit(
            name=self.name,
            title="transfer service (FTS3 REST, third-party copies)",
            command=context.programs.daemon("boathouse.apps.transfers", config.path),
            probe=Probe(ProbeKind.https, target=context.url(self.name) + "/health"),
            needs=("postgres",),
            files=(config,),
            stop_timeout_s=12,
            url=context.url(self.name),
        )
        return Contribution(
            units=(unit,),
            secrets=(
                Secret("postgres-transfers"),
                trust.client_secret(context.facility, "transfers"),
                trust.client_secret(context.facility, "operator"),
                Secret(_STORE_KEY),
                *trust.subjects(context.facility),
                *trust.secrets(context.facility),
                *_store_secrets(context.facility),
            ),
            certificates=(Certificate(self.name, addresses=(address,)),),
        )


def pages_redirect(context: Context) -> str:
    """Where the issuer sends a browser that signed in for the service's pages."""
    return context.url(Transfers.name) + "/pages/done"


def _pages(context: Context) -> dict[str, str] | None:
    """The pages; another issuer knows no client for them."""
    if context.facility.services.issuer:
        return None
    return {"url": context.url(Transfers.name), "client_id": PAGES_CLIENT}


def _store(context: Context, name: str) -> dict[str, Any]:
    """A store with what opens it, and who may use that."""
    store = context.facility.stores[name]
    url = urlsplit(store.url)
    return {
        "name": name,
        "kind": "s3" if url.scheme == "s3s" else "webdav",
        "host": url.netloc.removesuffix(":443"),
        "path": url.path.rstrip("/"),
        "region": store.region,
        "user": store.user or "",
        "secret": f"${{secret:{_store_secret(name)}}}" if store.secret_file else "",
        "write": store.write,
        "groups": [f"/{context.facility.vo}/{group}" for group in store.groups],
        "subjects": [context.client_id("rucio")],
    }


def _store_secrets(facility: Facility) -> tuple[Secret, ...]:
    return tuple(
        Secret(_store_secret(name), source=Path(store.secret_file))
        for name, store in facility.stores.items()
        if store.secret_file
    )


def _store_secret(name: str) -> str:
    return f"store-{name}"


def _doors(context: Context) -> dict[str, str]:
    """``host:port`` of each element's copy door by that of the element."""
    return {
        _netloc(context, f"{rse}.https"): _netloc(context, f"{copy_key(rse)}.https") for rse in context.facility.storage
    }


def _https_of(context: Context) -> dict[str, str]:
    """``host:port`` for https of each element and copy door by that for the XRootD protocol."""
    return {
        _netloc(context, f"{key}.root"): _netloc(context, f"{key}.https")
        for rse in context.facility.storage
        for key in (rse, copy_key(rse))
    }


def _far(context: Context) -> dict[str, dict[str, str]]:
    """Where each copy door sees elements over a distance, by its own address and by theirs."""
    seen = {
        _netloc(context, f"{copy_key(rse)}.https"): {
            _netloc(context, f"{other}.https"): _netloc(context, f"{key}.https")
            for other in context.facility.storage
            if (key := context.seen_from(context.facility.site_of(rse), other)) != other
        }
        for rse in context.facility.storage
    }
    return {door: elements for door, elements in seen.items() if elements}


def _netloc(context: Context, key: str) -> str:
    return f"{context.addresses[key]}:{context.ports[key]}"
