"""From a facility and its drivers to a plan. Pure: no I/O, no clock, no driver imported here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from boathouse.facility.model import Facility
from boathouse.plan.model import Certificate, Endpoints, Layout, LoginEndpoint, Plan, PortRequest, Secret
from boathouse.plan.order import start_order
from boathouse.plan.service import Context, Contribution, Programs, Service

Named = TypeVar("Named", Secret, Certificate)


def port_requests(facility: Facility, services: Iterable[Service]) -> tuple[PortRequest, ...]:
    """All ports that the facility's services want.

    Raises:
        ValueError: two drivers use one key.
    """
    requests = tuple(request for service in services for request in service.ports(facility))
    keys = [request.key for request in requests]
    if len(set(keys)) != len(keys):
        msg = f"two ports of one key: {', '.join(sorted(key for key in set(keys) if keys.count(key) > 1))}"
        raise ValueError(msg)
    return requests


def build(
    facility: Facility,
    services: Sequence[Service],
    *,
    layout: Layout,
    programs: Programs,
    ports: Mapping[str, int],
) -> Plan:
    """The plan of a facility.

    Args:
        facility: what is wanted.
        services: the drivers, in the order in which ``status`` shows their units.
        layout: where files will lie.
        programs: where the installed programs are.
        ports: a port for every key of :func:`port_requests`.

    Raises:
        HostError: a program is unfit for this facility.
        ValueError: drivers contradict each other.
    """
    requests = port_requests(facility, services)
    context = Context(
        facility=facility,
        layout=layout,
        programs=programs,
        ports=dict(ports),
        addresses={request.key: request.address for request in requests},
    )
    external = facility.services.issuer
    parts = [service.plan(context) for service in services]
    return Plan(
        facility=facility.name,
        layout=layout,
        units=start_order(unit for part in parts for unit in part.units),
        secrets=_by_name(secret for part in parts for secret in part.secrets),
        certificates=_by_name(certificate for part in parts for certificate in part.certificates),
        certificate_lifetime_s=facility.services.certificate_lifetime,
        endpoints=_endpoints(context, parts),
        authorities=(Path(external.ca_file),) if external and external.ca_file else (),
    )


def _endpoints(context: Context, parts: Sequence[Contribution]) -> Endpoints:
    external = context.facility.services.issuer
    return Endpoints(
        facility=context.facility.name,
        vo=context.facility.vo,
        issuer=context.issuer,
        catalogue=context.catalogue,
        transfers=context.url("transfers"),
        transfers_audience=context.addresses["transfers"],
        ca_bundle=str(context.layout.ca_bundle),
        storage=tuple(endpoint for part in parts for endpoint in part.storage),
        caches=tuple(endpoint for part in parts for endpoint in part.caches),
        logins=tuple(
            LoginEndpoint(name, issuer.url, issuer.client_id, issuer.ca_file or "")
            for name, issuer in context.facility.issuers.items()
            if issuer.client_id
        ),
        client_id=external.client_id if external else Endpoints.client_id,
        operator_id=context.client_id("operator"),
        care=context.url("caches") if context.facility.caches else "",
        login_at=context.facility.services.login_at or "",
    )


def _by_name(wanted: Iterable[Named]) -> tuple[Named, ...]:
    """In the order of their names, and each once, for several drivers may want the same."""
    named = {each.name: each for each in wanted}
    return tuple(named[name] for name in sorted(named))
