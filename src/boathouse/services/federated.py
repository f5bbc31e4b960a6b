"""Caches before a lake of somebody else's: readers show this facility's tokens, the lake another credential.

The cache checks a reader's token for its own audience and looks up in the table of the facility file what the groups
may read that it names. It reads with a token of the federation, or an X.509 proxy, which the keeper puts beside it
(:mod:`boathouse.run.local.credentials`) and which goes to the federation's servers alone; the reader's token, sent at
the login of the XRootD protocol, stays at the cache (``docs/decisions/0010-caches-before-federations.md``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from boathouse.facility import federations
from boathouse.facility.model import Cache, Facility, Federation
from boathouse.plan.model import File, Secret
from boathouse.plan.service import Context

_PORT = 1094
"""What XRootD servers listen on where a URL says nothing else."""


def origin(context: Context, name: str) -> str:
    """URL of a federation's server or redirector, with its port."""
    parts = urlsplit(context.facility.federations[name].url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or _PORT}"


def readers(context: Context, cache: Cache) -> dict[str, tuple[str, ...]]:
    """By group, as tokens name it, the directories that a cache gives to its members."""
    return federations.readers(context.facility, _behind(context, cache))


def directories(context: Context, cache: Cache) -> tuple[str, ...]:
    """All directories that a cache gives to anybody, without slashes at their ends."""
    return tuple(dict.fromkeys(path for paths in readers(context, cache).values() for path in paths))


def variables(context: Context, unit: str, cache: Cache, credential: Path) -> dict[str, str]:
    """How a cache's client speaks with a federation: the credential, and the CAs of its servers.

    Those are the file's or directory's that the facility file names alone, or the host's.
    """
    federation = _behind(context, cache)
    shown = (
        {"XrdSecPROTOCOL": "gsi", "X509_USER_PROXY": str(credential)}
        if federation.proxy_file
        else {"XrdSecPROTOCOL": "ztn", "BEARER_TOKEN_FILE": str(credential)}
    )
    if federation.ca_file:
        return {**shown, "X509_CERT_FILE": str(_ca_file(context, unit))}
    return {**shown, "X509_CERT_DIR": federation.ca_directory or str(context.layout.public_ca_directory)}


def reads(context: Context, cache: Cache) -> tuple[Path, ...]:
    """What a cache must be able to read besides its own."""
    directory = cache.federation and _behind(context, cache).ca_directory
    return (Path(directory),) if directory else ()


def files(context: Context, unit: str, cache: Cache) -> tuple[File, ...]:
    """What a cache's variables name."""
    if cache.federation and _behind(context, cache).ca_file:
        return (File(_ca_file(context, unit), f"${{secret:{_ca_name(cache.federation)}}}\n"),)
    return ()


def secrets(facility: Facility) -> tuple[Secret, ...]:
    """Copies of the operator's files: CAs, and the secrets of clients at other issuers."""
    found = []
    for name, federation in facility.federations.items():
        client = federation.client
        wanted = {
            _ca_name(name): federation.ca_file,
            _client_name(name): client and client.secret_file,
            _issuer_ca_name(name): client and client.ca_file,
        }
        found += [Secret(secret, source=Path(source)) for secret, source in wanted.items() if source]
    return tuple(found)


def credentials(context: Context, token_files: Mapping[str, Path]) -> list[dict[str, Any]]:
    """What the keeper must know to keep the caches' credentials fresh, one entry a federation.

    Args:
        context: of the facility.
        token_files: where each cache looks for its token, by cache.
    """
    entries = []
    for name, federation in context.facility.federations.items():
        paths = [str(token_files[cache]) for cache, one in context.facility.caches.items() if one.federation == name]
        if paths:
            entries.append({"federation": name, "paths": paths, **_source(context, name, federation)})
    return entries


def _source(context: Context, name: str, federation: Federation) -> dict[str, Any]:
    client = federation.client
    if client is None:
        return {"file": federation.token_file or federation.proxy_file, "proxy": bool(federation.proxy_file)}
    return {
        "client": {
            "issuer": client.issuer,
            "id": client.id,
            "secret": str(context.layout.secret(_client_name(name))),
            "ca_file": str(context.layout.secret(_issuer_ca_name(name))) if client.ca_file else None,
            "audience": client.audience,
            "scope": client.scope,
        }
    }


def _behind(context: Context, cache: Cache) -> Federation:
    assert cache.federation is not None
    return context.facility.federations[cache.federation]


def _ca_file(context: Context, unit: str) -> Path:
    return context.config(unit, "federation-ca.pem")


def _ca_name(name: str) -> str:
    return f"federation-{name}-ca"


def _client_name(name: str) -> str:
    return f"federation-{name}-client"


def _issuer_ca_name(name: str) -> str:
    return f"federation-{name}-issuer-ca"
