"""What stock clients need to work with a facility: environment variables and Rucio's configuration file.

The names and their readers: ``RUCIO_HOME``/``RUCIO_CONFIG`` (rucio), ``REQUESTS_CA_BUNDLE`` (Python requests),
``SSL_CERT_FILE`` (OpenSSL, Python, Go), ``CURL_CA_BUNDLE`` (curl), ``X509_CERT_DIR``/``X509_CERT_FILE`` (XRootD,
davix, gfal2), ``XrdSecPROTOCOL`` (XRootD) and ``BEARER_TOKEN_FILE`` (WLCG bearer token discovery).
"""

from __future__ import annotations

import configparser
import io
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from boathouse import atomic
from boathouse.lake.session import Session
from boathouse.plan.model import Endpoints


def rucio_config(endpoints: Endpoints, session: Session, account: str) -> str:
    """``rucio.cfg`` of the stock client.

    ``auth_type = oidc`` makes the client take the token that ``BEARER_TOKEN_FILE`` names, at every start. Where that
    failed it would fall back to a token of its own making; that file is put into the session, since by default all
    facilities of a user share one in ``/tmp``.
    """
    config = configparser.ConfigParser(interpolation=None)
    config["client"] = {
        "rucio_host": endpoints.catalogue,
        "auth_host": endpoints.catalogue,
        "auth_type": "oidc",
        "account": account,
        "ca_cert": endpoints.ca_bundle,
        "request_retries": "3",
        "auth_token_file_path": str(session.directory / "rucio" / "token"),
        "oidc_issuer": endpoints.issuer,
    }
    config["policy"] = {"permission": "generic", "schema": "generic", "lfn2pfn_algorithm_default": "hash"}
    text = io.StringIO()
    config.write(text)
    return text.getvalue()


def write_rucio_config(endpoints: Endpoints, session: Session, account: str) -> Path:
    """Write ``rucio.cfg`` into the session; returns its ``RUCIO_HOME``."""
    home = session.directory / "rucio"
    (home / "etc").mkdir(mode=0o700, parents=True, exist_ok=True)
    atomic.write(home / "etc" / "rucio.cfg", rucio_config(endpoints, session, account).encode())
    return home


def variables(
    endpoints: Endpoints, session: Session, *, rucio_home: Path, account: str, path: Sequence[Path]
) -> dict[str, str]:
    """Environment variables for stock clients.

    Args:
        endpoints: of the facility.
        session: whose token is used.
        rucio_home: with ``etc/rucio.cfg``.
        account: in the catalogue.
        path: directories to put before ``PATH``.
    """
    bundle = endpoints.ca_bundle
    found = {
        "BOATHOUSE_SESSION": str(session.directory),
        "BEARER_TOKEN_FILE": str(session.token_file),
        "RUCIO_HOME": str(rucio_home),
        "RUCIO_CONFIG": str(rucio_home / "etc" / "rucio.cfg"),
        "RUCIO_ACCOUNT": account,
        "REQUESTS_CA_BUNDLE": bundle,
        "SSL_CERT_FILE": bundle,
        "CURL_CA_BUNDLE": bundle,
        "X509_CERT_FILE": bundle,
        "XrdSecPROTOCOL": "ztn",
    }
    hashed = Path(bundle).parent / "hashed"
    if hashed.is_dir():
        found["X509_CERT_DIR"] = str(hashed)
    directories = list(dict.fromkeys(str(directory) for directory in path))
    kept = [part for part in os.environ.get("PATH", "").split(os.pathsep) if part and part not in directories]
    found["PATH"] = os.pathsep.join([*directories, *kept])
    return found


def exports(values: Mapping[str, str]) -> str:
    """Lines for a POSIX shell; a token in the environment itself would win over the file and is taken away."""
    lines = ["unset BEARER_TOKEN X509_USER_PROXY"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in values.items()]
    return "\n".join(lines)
