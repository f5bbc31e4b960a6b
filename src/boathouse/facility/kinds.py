"""What single values of the facility file may be; the models are made of these."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from boathouse.errors import InputError
from boathouse.units import parse_bandwidth, parse_bytes, parse_seconds


def _size(value: object) -> int:
    try:
        return parse_bytes(value if isinstance(value, str | int | float) else str(value))
    except InputError as error:
        raise ValueError(f"{error.what}: expected {error.expected}") from error


def _duration(value: object) -> float:
    try:
        return parse_seconds(value if isinstance(value, str | int | float) else str(value))
    except InputError as error:
        raise ValueError(f"{error.what}: expected {error.expected}") from error


def _bandwidth(value: object) -> int:
    try:
        return parse_bandwidth(value if isinstance(value, str | int | float) else str(value))
    except InputError as error:
        raise ValueError(f"{error.what}: expected {error.expected}") from error


def _address(value: str) -> str:
    ipaddress.ip_address(value)
    return value


def _absolute(value: str) -> str:
    if not value.startswith("/") or "//" in value or ".." in value.split("/"):
        msg = "not a normalised absolute path"
        raise ValueError(msg)
    return value.rstrip("/") or "/"


def _network(value: str) -> str:
    return str(ipaddress.ip_network(value))


Size = Annotated[int, BeforeValidator(_size), Field(json_schema_extra={"type": ["integer", "string"]})]
Duration = Annotated[float, BeforeValidator(_duration), Field(json_schema_extra={"type": ["number", "string"]})]
Bandwidth = Annotated[int, BeforeValidator(_bandwidth), Field(json_schema_extra={"type": ["integer", "string"]})]
Address = Annotated[str, AfterValidator(_address)]
Network = Annotated[str, AfterValidator(_network)]
AbsolutePath = Annotated[str, AfterValidator(_absolute)]
RseName = Annotated[str, Field(pattern=r"^[A-Z0-9]([A-Z0-9_\-]{0,97}[A-Z0-9])?$")]
Label = Annotated[str, Field(pattern=r"^[A-Z0-9]([A-Z0-9\-]{0,62}[A-Z0-9])?$")]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_\-]{0,24}$")]
ScopeName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.\-]{0,24}$")]
SiteName = Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9\-]{0,40}$")]
Port = Annotated[int, Field(ge=1024, le=65535)]
IssuerUrl = Annotated[str, Field(pattern=r"^https://[^\s?#/]+(/[^\s?#]*)?$")]
StoreUrl = Annotated[
    str, Field(pattern=r"^(s3s|davs|https)://[a-z0-9][a-z0-9.\-]*(:[0-9]{1,5})?(/[A-Za-z0-9._\-]+)*/?$")
]
FederationUrl = Annotated[str, Field(pattern=r"^roots?://[A-Za-z0-9][A-Za-z0-9.\-]*(:[0-9]{1,5})?/?$")]
FederationPath = Annotated[str, Field(pattern=r"^(/[A-Za-z0-9_][A-Za-z0-9._\-]*)+$")]
GroupPath = Annotated[str, Field(pattern=r"^(/[a-zA-Z0-9][a-zA-Z0-9_.\-]*)+$")]
