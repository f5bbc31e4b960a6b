"""The contract of a service driver: what one kind of real service adds to the plan."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from boathouse.facility.model import Facility
from boathouse.plan.addresses import far_addresses, far_key
from boathouse.plan.model import (
    CacheEndpoint,
    Certificate,
    Layout,
    PortRequest,
    Secret,
    StorageEndpoint,
    Unit,
)


@dataclass(frozen=True)
class Programs:
    """Where the installed programs are; written by the installer, read by the runner, handed to the drivers."""

    python: Path
    """Interpreter of the environment that holds Boathouse itself and its own daemons."""
    rucio_python: Path
    """Interpreter of the environment that holds the Rucio server."""
    rucio_client_bin: Path
    """``bin`` directory of the stock Rucio client's environment."""
    postgres_bin: Path
    """Directory of ``postgres``, ``initdb``, ``pg_ctl``, ``psql``."""
    xrootd_bin: Path
    """Directory of ``xrootd``, ``xrdfs``, ``xrdcp``: programs or launchers of a private tree."""
    xrootd_version: str
    """Version of that server, e.g. ``6.2.0``."""
    python_build: str = ""
    """Digest of what the environment of ``python`` was made from; a unit started from another build must restart."""
    rucio_build: str = ""
    """The same of ``rucio_python``."""

    def daemon(self, module: str, config: Path) -> tuple[str, ...]:
        """The command of a daemon of ours."""
        return (str(self.python), "-m", module, "--config", str(config))

    def build_of(self, program: str) -> str:
        """What stands for the content of a program whose path stays the same from build to build."""
        return {
            str(self.python): self.python_build,
            str(self.rucio_python): self.rucio_build,
            str(self.xrootd_bin / "xrootd"): self.xrootd_version,
        }.get(program, "")


@dataclass(frozen=True)
class Context:
    """What a driver may look at. Everything is decided before: ports are chosen, paths are laid out."""

    facility: Facility
    layout: Layout
    programs: Programs
    ports: Mapping[str, int]
    """Port by the key of its :class:`~boathouse.plan.model.PortRequest`."""
    addresses: Mapping[str, str]
    """Address by the same key."""

    def url(self, key: str, scheme: str = "https") -> str:
        """``scheme://address:port`` of a requested port, without a path."""
        return f"{scheme}://{self.addresses[key]}:{self.ports[key]}"

    def seen_from(self, site: str, name: str) -> str:
        """What stands before ``.https`` and ``.root`` in the port keys by which a site reaches an element or cache."""
        near = self.facility.distance(site, self.facility.site_of(name)) is None
        return name if near else far_key(site, name)

    def far_hosts(self, name: str) -> dict[str, str]:
        """Address by site of an element or cache, for those sites that see it over a distance."""
        return {site: address for (site, seen), address in far_addresses(self.facility).items() if seen == name}

    @property
    def issuer(self) -> str:
        """The issuer URL. Ours is scheme, host and port only, since clients disagree on how to join a path to it."""
        external = self.facility.services.issuer
        return external.url if external else f"https://localhost:{self.ports['tokens']}"

    def client_id(self, service: str) -> str:
        """The name of a service's client at the issuer."""
        external = self.facility.services.issuer
        return str(getattr(external, service).id) if external else service

    @property
    def catalogue(self) -> str:
        """URL of the Rucio server, by the name that its certificate has."""
        return f"https://localhost:{self.ports['rucio']}"

    def config(self, unit: str, name: str) -> Path:
        """Path of a unit's configuration file."""
        return self.layout.config / unit / name

    def data(self, unit: str) -> Path:
        """Directory of a unit's lasting data."""
        return self.layout.data / unit

    def run(self, unit: str) -> Path:
        """Directory of a unit's sockets and other passing files."""
        return self.layout.run / unit


@dataclass(frozen=True)
class Contribution:
    """What a driver adds to the plan."""

    units: tuple[Unit, ...] = ()
    secrets: tuple[Secret, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    storage: tuple[StorageEndpoint, ...] = ()
    caches: tuple[CacheEndpoint, ...] = ()


class Service(ABC):
    """One kind of real service. Drivers are pure: the same facility gives the same contribution, nothing is run.

    A driver never reads the environment, a file or the clock. Both methods may be called any number of times, in
    any order; :meth:`ports` is called first, so that every driver can refer to any port by its key.
    """

    name: ClassVar[str]
    """Name of the service; prefix of its units' names where it has several."""

    @abstractmethod
    def ports(self, facility: Facility) -> tuple[PortRequest, ...]:
        """Ports that the service listens on.

        Returns:
            One request a port, with keys unique in the facility; empty if it listens on none.

        Raises:
            Nothing: a facility that was loaded is valid.
        """

    @abstractmethod
    def plan(self, context: Context) -> Contribution:
        """Units with their files and tasks, and the secrets and certificates that these refer to.

        Returns:
            The contribution; units may need units of other services by name.

        Raises:
            HostError: a program in ``context.programs`` is unfit for this facility.
        """
