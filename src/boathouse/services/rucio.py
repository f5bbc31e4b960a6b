"""Rucio: the catalogue's server and its daemons, run by the site package in an environment of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from boathouse.facility.model import Facility, Protocol, Storage, User
from boathouse.facility.trust import OWN
from boathouse.plan.model import (
    Certificate,
    File,
    Layout,
    PortRequest,
    Probe,
    ProbeKind,
    Secret,
    SecretKind,
    Unit,
)
from boathouse.plan.service import Context, Contribution, Service
from boathouse.services import trust
from boathouse.services.postgres import database_url

LOGIN_CLIENT = "rucio-login"
"""The issuer's name of the client with which people log in to the catalogue by browser."""

DAEMONS = "rucio-daemons"
"""Unit of the daemons."""

_SITE_PACKAGE = "boathouse_rucio_site"
_WORKERS = 2
_LAST = 9
"""Priority of an entry that no client shall choose."""
_ACCESS = ("read", "write", "delete")

_RUCIO_CFG = """\
[common]
logdir = {logs}
loglevel = INFO
logformat = %(asctime)s %(levelname)s %(message)s
mailtemplatedir = {mail_templates}

[database]
default = {database}
pool_size = 10
max_overflow = 20
pool_recycle = 3600
pool_reset_on_return = rollback
echo = 0

[policy]
package = {package}
permission = generic
schema = generic
lfn2pfn_algorithm_default = hash
support = the operators of this facility
support_rucio = the operators of this facility

[webui]
usercert =

[cache]
# Caches are in the process; nothing listens here.
url = 127.0.0.1:9

[monitor]
enable_metrics = False

[oidc]
idpsecrets = {idpsecrets}
admin_issuer = facility
expected_audience = rucio
expected_scope = openid profile

[conveyor]
scheme = davs
transfertool = boathouse
poller_oidc_support = True
use_deterministic_id = False

[transfers]
# Every pair of storage elements has a direct way.
multihop_rse_expression =

[hermes]
# No broker listens: events would pile up in the database.
services_list = email

[necromancer]
cache_time = 1

[repairer]
updated_at_delta = 60

[boathouse]
address = {address}
port = {port}
certificate = {certificate}
key = {key}
workers = {workers}
threads = 16
lake = {lake}
trusted = {trusted}
key_cache = {key_cache}
report = {report}
space = {space}
bulk_multi_source = True
"""

_IMPLEMENTATIONS: Mapping[Protocol, str] = {
    Protocol.https: "rucio.rse.protocols.webdav.Default",
    Protocol.davs: f"{_SITE_PACKAGE}.davs.Default",
    Protocol.root: "rucio.rse.protocols.xrootd.Default",
}
"""Rucio's implementation of each protocol."""

_PORTS: Mapping[Protocol, str] = {
    Protocol.https: "{rse}.https",
    # Copies and deletions go through the door that is for services only.
    Protocol.davs: "{rse}.copy.https",
    Protocol.root: "{rse}.root",
}
"""Key of the port behind each protocol."""


class Rucio(Service):
    """The catalogue: one server, one process of daemons, one database."""

    name: ClassVar[str] = "rucio"

    def ports(self, facility: Facility) -> tuple[PortRequest, ...]:
        """The server's port."""
        return (PortRequest(self.name, facility.services.address, facility.services.catalogue_port),)

    def plan(self, context: Context) -> Contribution:
        """Server and daemons with their configuration; the server makes database and lake ready before it serves."""
        lake = File(_lake(context), json.dumps(lake_description(context), indent=1))
        environment = {
            "REQUESTS_CA_BUNDLE": str(context.layout.ca_bundle),
            "SSL_CERT_FILE": str(context.layout.ca_bundle),
            # Rucio's dependencies would else write their caches wherever HOME is.
            "XDG_CACHE_HOME": str(context.run(self.name) / "cache"),
        }
        server = Unit(
            name=self.name,
            title="Rucio server, the catalogue",
            command=_command(context, self.name, "server"),
            probe=Probe(ProbeKind.https, target=f"{context.catalogue}/ping", timeout_s=180),
            env=environment,
            # It makes the catalogue before it serves.
            needs=("postgres",),
            directories=(context.run(self.name), context.run(self.name) / "cache"),
            files=(*_files(context, self.name), lake),
            url=context.catalogue,
        )
        daemons = Unit(
            name=DAEMONS,
            title="Rucio daemons: rules, transfers, deletion",
            command=_command(context, DAEMONS, "daemons"),
            probe=Probe(ProbeKind.report, target=str(_report(context)), timeout_s=180),
            env=environment,
            # They wait for the database to be made and keep work for an issuer and a transfer service that are not
            # there yet, so they need none of these: their start is a good part of the facility's.
            needs=("postgres",),
            directories=(context.run(DAEMONS),),
            # Their own copies, for both units are prepared at once.
            files=_files(context, DAEMONS),
        )
        return Contribution(
            units=(server, daemons),
            secrets=(
                trust.client_secret(context.facility, "rucio"),
                *_own_secrets(context.facility),
                *trust.secrets(context.facility),
            ),
            certificates=(Certificate(self.name, addresses=(context.addresses[self.name],), dns=("localhost",)),),
        )


def _lake(context: Context) -> Path:
    return context.config("rucio", "lake.json")


def _command(context: Context, unit: str, module: str) -> tuple[str, ...]:
    config = context.config(unit, "rucio.cfg")
    return (str(context.programs.rucio_python), "-m", f"{_SITE_PACKAGE}.{module}", "--config", str(config))


def space_file(layout: Layout) -> Path:
    """Where the keeper tells how full storage elements are (:mod:`boathouse.run.local.space`)."""
    return layout.run / "keeper" / "space.json"


def _report(context: Context) -> Path:
    return context.run(DAEMONS) / "report.json"


def _files(context: Context, unit: str) -> tuple[File, ...]:
    idpsecrets, trusted = context.config(unit, "idpsecrets.json"), context.config(unit, "trusted.json")
    settings = _RUCIO_CFG.format(
        logs=context.layout.logs,
        # Where the wheel of Rucio puts them.
        mail_templates=context.programs.rucio_python.parent.parent / "rucio" / "etc" / "mail_templates",
        database=database_url(context, "rucio"),
        package=_SITE_PACKAGE,
        idpsecrets=idpsecrets,
        address=context.addresses["rucio"],
        port=context.ports["rucio"],
        certificate=context.layout.certificate("rucio"),
        key=context.layout.key("rucio"),
        workers=_WORKERS,
        lake=_lake(context),
        trusted=trusted,
        key_cache=trust.key_cache(context),
        report=_report(context),
        space=space_file(context.layout),
    )
    return (
        File(
            context.config(unit, "rucio.cfg"),
            # Rucio reads a single per cent sign as the beginning of a reference.
            settings.replace("%(", "%%(") + context.facility.services.rucio_extra_config,
        ),
        File(idpsecrets, json.dumps(_identity_providers(context), indent=2)),
        # Not in idpsecrets.json: Rucio has no client at them, and asks whoever stands there for metadata.
        File(trusted, json.dumps(trust.described(context), indent=2)),
    )


def _own_secrets(facility: Facility) -> tuple[Secret, ...]:
    """What stands for people and for Rucio's further clients at the facility's own issuer."""
    if facility.services.issuer:
        return ()
    clients = (Secret("client-rucio-admin"), Secret(f"client-{LOGIN_CLIENT}"))
    return (*clients, *(Secret(f"sub-{login}", SecretKind.uuid) for login in facility.users))


def _identity_providers(context: Context) -> dict[str, Any]:
    """``idpsecrets.json``; Rucio insists on a block for SCIM."""
    if context.facility.services.issuer:
        client = {"client_id": context.client_id("rucio"), "client_secret": "${secret:client-rucio}"}
        return {
            "facility": {
                "issuer": context.issuer,
                **client,
                "redirect_uris": [login_redirect(context)],
                "SCIM": {**client, "grant_type": "client_credentials"},
            }
        }
    return {
        "facility": {
            "issuer": context.issuer,
            "client_id": "rucio",
            "client_secret": "${secret:client-rucio}",
            "redirect_uris": [login_redirect(context)],
            # The site package takes it for the browser login.
            "login": {"client_id": LOGIN_CLIENT, "client_secret": f"${{secret:client-{LOGIN_CLIENT}}}"},
            "SCIM": {
                "client_id": "rucio-admin",
                "client_secret": "${secret:client-rucio-admin}",
                "grant_type": "client_credentials",
            },
        }
    }


def login_redirect(context: Context) -> str:
    """Where the issuer sends a browser back to."""
    return f"{context.catalogue}/auth/oidc_code"


def lake_description(context: Context) -> dict[str, Any]:
    """``lake.json``: accounts, scopes, RSEs, distances and limits, as :mod:`boathouse_rucio_site.lake` reads them."""
    facility = context.facility
    everybody = ("root", *facility.users)
    rses = tuple(facility.storage)
    return {
        "version": 1,
        "accounts": _accounts(context),
        "scopes": {
            **{name: scope.group for name, scope in facility.scopes.items()},
            **{f"user.{login}": login for login in facility.users},
        },
        "rses": {rse: _rse(context, rse, element) for rse, element in facility.storage.items()},
        "distances": {source: {target: 1 for target in rses if target != source} for source in rses},
        # null is infinity; quotas come with accounting.
        "account_limits": {account: dict.fromkeys(rses) for account in everybody},
    }


def _accounts(context: Context) -> dict[str, Any]:
    facility = context.facility
    accounts: dict[str, Any] = {
        # The operator's client acts as root, for audits and checks.
        "root": {
            "type": "SERVICE",
            "email": "",
            "identities": [f"SUB={context.client_id('operator')}, ISS={context.issuer}"],
            "attributes": {},
        }
    }
    for name, group in facility.groups.items():
        attributes = {"embargoed": "True"} if group.embargoed else {}
        accounts[name] = {"type": "GROUP", "email": "", "identities": [], "attributes": attributes}
    for login, user in facility.users.items():
        attributes = {f"group-{group}": "member" for group in user.groups}
        if user.admin:
            attributes["admin"] = "True"
        accounts[login] = {
            "type": "USER",
            "email": user.email,
            "identities": _identities(context, login, user),
            "attributes": attributes,
        }
    return accounts


def _identities(context: Context, login: str, user: User) -> list[str]:
    facility = context.facility
    own = user.identities[OWN] if facility.services.issuer else f"${{secret:sub-{login}}}"
    elsewhere = ((facility.issuers[name].url, sub) for name, sub in user.identities.items() if name in facility.issuers)
    return [f"SUB={subject}, ISS={issuer}" for issuer, subject in ((context.issuer, own), *elsewhere)]


def _rse(context: Context, rse: str, element: Storage) -> dict[str, Any]:
    attributes: dict[str, str | bool] = {
        **element.attributes,
        "QOS": element.qos,
        "site": context.facility.site_of(rse),
        "fts": context.url("transfers"),
        "oidc_support": True,
        "verify_checksum": True,
        "supported_checksums": "adler32",
        "greedyDeletion": True,
    }
    if not element.deterministic:
        # New replicas on it lie where they would on a deterministic one.
        attributes["naming_convention"] = "boathouse"
    return {
        "deterministic": element.deterministic,
        "volatile": element.volatile,
        "attributes": attributes,
        "limits": {"MaxSpaceAvailable": element.capacity},
        "protocols": _protocols(context, rse, element),
    }


def _protocols(context: Context, rse: str, element: Storage) -> list[dict[str, Any]]:
    """Entries with the priorities of each: for every operation the first that offers it has 1, and so on."""
    entries = []
    for protocol in element.protocols:
        key = _PORTS[protocol].format(rse=rse)
        lan = {name: priority for name in _ACCESS if (priority := _priority(element, name, protocol, lan=True))}
        wan = {name: priority for name in _ACCESS if (priority := _priority(element, name, protocol))}
        for activity in ("copy_read", "copy_write"):
            if priority := _priority(element, activity, protocol):
                wan[f"third_party_{activity}"] = priority
        if protocol is Protocol.davs and not element.deterministic:
            # The finisher takes the path of a new replica from the URL, with the protocol that writes it.
            wan["write"] = _LAST
        entries.append(
            {
                "scheme": protocol.value,
                "hostname": context.addresses[key],
                "port": context.ports[key],
                "prefix": element.prefix.rstrip("/") + "/",
                "impl": _IMPLEMENTATIONS[protocol],
                # XRootD refuses to delete a directory with content, so trying to is safe.
                "extended_attributes": {"remove_empty_directories": True} if protocol is Protocol.davs else None,
                "domains": {"lan": lan, "wan": wan},
            }
        )
    return entries


def _priority(element: Storage, activity: str, protocol: Protocol, *, lan: bool = False) -> int | None:
    """The place of a protocol among those for an activity, from 1; None if it is not for it."""
    order = element.order(activity, lan=lan)
    return order.index(protocol) + 1 if protocol in order else None
