"""Settings of this package: the section ``[boathouse]`` of ``rucio.cfg``, so that one file describes the service."""

from __future__ import annotations

import os
import time
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path

from boathouse_rucio_site.errors import SiteError

SECTION = "boathouse"


@dataclass(frozen=True)
class Settings:
    """What the server, the daemons and the bootstrap need to know beyond Rucio's own settings."""

    config: Path
    """``rucio.cfg``."""
    address: str
    """Address that the server listens on."""
    port: int
    """Port that the server listens on."""
    certificate: Path
    """Certificate chain of the server."""
    key: Path
    """Private key of the server."""
    workers: int
    """Server processes."""
    threads: int
    """Requests that one server process handles at once."""
    lake: Path
    """Declarative description of accounts, scopes and RSEs."""
    report: Path
    """File in which the daemons tell how they are."""
    space: Path
    """File in which the facility tells how full the storage elements are (:mod:`.space`)."""
    bulk_multi_source: bool
    """Whether the transfer service takes many files with several sources each in one job (FTS3 does not)."""


def load(config: Path) -> Settings:
    """Read the settings and make ``rucio.cfg`` the configuration of every Rucio module imported from now on.

    Times in the database are UTC, but some are written with the local clock: the process is put into UTC.

    Raises:
        SiteError: the file cannot be read or a setting is missing.
    """
    parser = ConfigParser(interpolation=None)
    if not parser.read(config, encoding="utf-8"):
        raise SiteError(f"cannot read {config}: start with --config and the path of rucio.cfg")
    if not parser.has_section(SECTION):
        raise SiteError(f"{config} has no section [{SECTION}]: it was not written for this package")
    section = parser[SECTION]
    try:
        settings = Settings(
            config=config,
            address=section["address"],
            port=int(section["port"]),
            certificate=Path(section["certificate"]),
            key=Path(section["key"]),
            workers=int(section.get("workers", "1")),
            threads=int(section.get("threads", "16")),
            lake=Path(section["lake"]),
            report=Path(section["report"]),
            space=Path(section["space"]),
            bulk_multi_source=section.getboolean("bulk_multi_source", fallback=False),
        )
    except (KeyError, ValueError) as error:
        raise SiteError(f"{config}, section [{SECTION}]: {error} is missing or not what it should be") from error
    os.environ["RUCIO_CONFIG"] = str(config)
    os.environ["TZ"] = "UTC"
    time.tzset()
    return settings
