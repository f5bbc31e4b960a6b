"""From a facility and its drivers to a plan. Pure: no I/O, no clock, no driver imported here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from boathouse.facility.model import Facility
from boathouse.plan.model import Certificate, Endpoints, Layout, Plan, PortRequest, Secret
from boathouse.plan.order import start_order
from boathouse.plan.service import Context, Programs, Service


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
    parts = [service.plan(context) for service in services]
    secrets = {secret.name: secret for part in parts for secret in part.secrets}
    certificates = {certificate.name: certificate for part in parts for certificate in part.certificates}
    endpoints = Endpoints(
        facility=facility.name,
        vo=facility.vo,
        issuer=context.issuer,
        catalogue=context.catalogue,
        transfers=context.url("transfers"),
        transfers_audience=context.addresses["transfers"],
        ca_bundle=str(layout.ca_bundle),
        storage=tuple(endpoint for part in parts for endpoint in part.storage),
        caches=tuple(endpoint for part in parts for endpoint in part.caches),
    )
    return Plan(
        facility=facility.name,
        layout=layout,
        units=start_order(unit for part in parts for unit in part.units),
        secrets=_sorted_secrets(secrets),
        certificates=_sorted_certificates(certificates),
        certificate_lifetime_s=facility.services.certificate_lifetime,
        endpoints=endpoints,
    )


def _sorted_secrets(secrets: Mapping[str, Secret]) -> tuple[Secret, ...]:
    return tuple(secrets[name] for name in sorted(secrets))


def _sorted_certificates(certificates: Mapping[str, Certificate]) -> tuple[Certificate, ...]:
    return tuple(certificates[name] for name in sorted(certificates))
