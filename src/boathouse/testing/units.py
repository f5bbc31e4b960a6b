"""The units of a facility as the drivers plan them, for tests that run some of them and put their own beside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from boathouse.facility.model import Facility
from boathouse.plan.build import build, port_requests
from boathouse.plan.model import File
from boathouse.plan.service import Context, Programs
from boathouse.run.local import files, secrets
from boathouse.run.local.account import service_account
from boathouse.run.local.state import create_or_open
from boathouse.services.registry import drivers
from boathouse.services.xrootd import key_cache_directory
from boathouse.testing.pki import Authority
from boathouse.testing.processes import Processes
from boathouse.testing.scratch import free_port
from boathouse.wlcg import keycache


class Units(Processes):
    """The planned units of a facility, with its certificates and secrets made; none runs yet.

    Args:
        document: the facility, as its file would say it.
        programs: where the installed programs are.
        directory: where its state directory is made; the services' user must be able to reach it.
    """

    def __init__(self, document: Mapping[str, Any], programs: Programs, directory: Path) -> None:
        facility = Facility.model_validate(document)
        account = service_account()
        state = create_or_open(directory / "state", facility.name, account)
        requests = port_requests(facility, drivers())
        ports = {one.key: one.wanted or free_port(one.address) for one in requests if not one.same_as}
        ports |= {one.key: ports[one.same_as] for one in requests if one.same_as}
        addresses = {request.key: request.address for request in requests}
        self.context = Context(facility, state.layout, programs, ports, addresses)
        self.plan = build(facility, drivers(), layout=state.layout, programs=programs, ports=ports)
        files.prepare_state(state)
        files.certificates(self.plan, state)
        self.authority = Authority(state.layout.pki, facility.name, account.own)
        values = secrets.ensure(self.plan.secrets, state.layout.secrets, account)
        super().__init__(state, {unit.name: unit for unit in self.plan.units}, values)

    def certify(self) -> None:
        """Make the certificates that have gone."""
        files.certificates(self.plan, self.state)

    def tls(self, name: str) -> tuple[Path, Path]:
        """Certificate chain and key of a unit, for a server of the test's own in its place."""
        return self.state.layout.certificate(name), self.state.layout.key(name)

    def variant(self, of: str, name: str, more: tuple[File, ...] = (), **changes: object) -> None:
        """Plan another process of a unit, with settings of its own in part.

        Args:
            of: the unit whose ``settings.json`` is taken.
            name: that of the new one, and of its log.
            more: files that only the new one has.
            changes: settings that differ.
        """
        unit = self.units[of]
        old, *others = sorted(unit.files, key=lambda file: file.path.name != "settings.json")
        settings = json.loads(old.text)
        new = File(self.context.config(name, old.path.name), json.dumps({**settings, **changes}, indent=2))
        port = changes.get("port", settings["port"])
        self.units[name] = replace(
            unit,
            name=name,
            command=tuple(str(new.path) if word == str(old.path) else word for word in unit.command),
            probe=replace(unit.probe, target=unit.probe.target.replace(f":{settings['port']}/", f":{port}/")),
            files=(new, *others, *more),
        )

    def on_small_disk(self, name: str, directory: Path, size: str) -> None:
        """Plan a unit with a disk of its own, in memory and small, which fills while it writes.

        Only its process sees the disk: it lies in its own mount namespace, which no rights are needed for.

        Args:
            name: the unit, which does not run.
            directory: where the disk is mounted; what the unit writes lies below.
            size: how large it is, as mount(8) takes it.
        """
        unit, user = self.units[name], self.state.account
        mount = f'mount -t tmpfs -o size={size},mode=0700 small "$1" && shift && exec "$@"'
        outside = ("unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh", str(directory))
        inside = ("unshare", f"--map-user={user.uid}", f"--map-group={user.gid}")
        self.units[name] = replace(unit, command=(*outside, *inside, *unit.command))

    def trust(self, unit: str, issuer: str, jwks: Mapping[str, object]) -> None:
        """Give an XRootD server an issuer's keys, as the keeper does."""
        directory = key_cache_directory(self.context, unit)
        files.make_directory(directory, self.state.account)
        with self.state.account.acting():
            keycache.seed(directory, issuer, jwks)
