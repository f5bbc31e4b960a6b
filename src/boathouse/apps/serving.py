"""How daemons of ours begin: their settings, their log, and the web server that runs them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, TypeVar

import uvicorn
from pydantic import BaseModel, ValidationError
from starlette.types import ASGIApp

from boathouse.errors import InputError

_STOP_S = 1
"""How long requests may go on after SIGTERM; clients that wait for something ask again."""

Model = TypeVar("Model", bound=BaseModel)


class Listens(Protocol):
    """Settings that say where a daemon listens, and by which certificate it is known."""

    @property
    def listen_address(self) -> str:
        """The address."""

    @property
    def port(self) -> int:
        """The port."""

    @property
    def certificate(self) -> Path:
        """PEM."""

    @property
    def key(self) -> Path:
        """PEM."""


def load(kind: type[Model], path: Path) -> Model:
    """Settings from a JSON file.

    Raises:
        InputError: the file cannot be read, or a setting is missing, unknown or of the wrong kind; all are named.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError("cannot read the settings", got=str(error), where=str(path)) from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise InputError("unfit settings", got=problems, where=str(path)) from error


def log_to_stderr(quiet: Iterable[str] = ()) -> None:
    """Log in UTC to the standard error; loggers named as quiet tell warnings only."""
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for name in quiet:
        logging.getLogger(name).setLevel(logging.WARNING)


def serve(application: ASGIApp, settings: Listens) -> None:
    """Run an application over TLS until SIGTERM."""
    uvicorn.run(
        application,
        host=settings.listen_address,
        port=settings.port,
        ssl_certfile=settings.certificate,
        ssl_keyfile=str(settings.key),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_STOP_S,
        lifespan="on",
    )
