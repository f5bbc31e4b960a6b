"""HTTP over verified TLS with keep-alive, shared by many threads: all that the lake client asks, it asks through this.

Others have pools of their own, with the patience that their work allows: workers that read ranges of files
(``analysis.sources``), probes of the runner (``run.local.probe``), whoever asks the issuer (``wlcg.http``), and the
transfer service, which does not block (``apps.transfers``).
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import urllib3
from urllib3.util import Retry, Timeout

from boathouse import __version__
from boathouse.errors import BoathouseError, HostError, ServiceError

_BLOCK_BYTES = 1 << 20
_AGENT = f"boathouse/{__version__}"

PATIENT = Retry(
    total=7, backoff_factor=0.2, status_forcelist=(502, 503, 504), allowed_methods=None, raise_on_status=False
)
"""For requests that may be repeated: about 25 s, the time that a service takes to come back."""

BRIEF = Retry(total=2, backoff_factor=0.3, allowed_methods=None, raise_on_status=False)
"""For a first look at a server outside the lake."""

CONNECT_ONLY = Retry(total=7, backoff_factor=0.2, read=0, other=0, status=0, redirect=3)
"""For requests that must not be repeated once they were sent."""

ONCE = Retry(total=0, redirect=False, raise_on_status=False)
"""For requests whose repetition the caller decides."""


class Http:
    """Connections to servers whose certificates one CA bundle verifies.

    Args:
        ca_bundle: path of the bundle.
        connections: connections kept to each server; more threads than that wait for one.
        failure: class of the error raised when a server cannot be reached.
        remedy: what that error tells the user to do.
    """

    def __init__(
        self,
        ca_bundle: str,
        *,
        connections: int = 16,
        failure: type[BoathouseError] = ServiceError,
        remedy: str = "boathouse status",
    ) -> None:
        if not Path(ca_bundle).is_file():
            raise HostError("the facility's CA bundle is missing", where=ca_bundle, remedy="boathouse up")
        context = ssl.create_default_context(cafile=ca_bundle)
        self._failure = failure
        self._remedy = remedy
        self._pool = urllib3.PoolManager(
            num_pools=64, maxsize=connections, block=True, ssl_context=context, blocksize=_BLOCK_BYTES
        )

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | IO[bytes] | Iterable[bytes] | Any | None = None,
        retry: Retry = PATIENT,
        timeout_s: float = 60.0,
        stream: bool = False,
    ) -> urllib3.BaseHTTPResponse:
        """Send a request and return the response, whatever its status.

        With ``stream`` the caller reads the body and calls ``release_conn()``.

        Raises:
            BoathouseError: of the class ``failure``, when no response came.
        """
        try:
            return self._pool.request(
                method,
                url,
                headers={"User-Agent": _AGENT, **(headers or {})},
                body=body,
                retries=retry,
                timeout=Timeout(connect=10.0, read=timeout_s),
                preload_content=not stream,
                decode_content=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self.unreachable(url, error) from error

    def unreachable(self, url: str, error: Exception) -> BoathouseError:
        """The error that a broken connection means."""
        what, got = broken(error)
        host = urllib3.util.parse_url(url).netloc or url
        return self._failure(what, got=got, where=host, remedy=self._remedy)

    def close(self) -> None:
        """Close all connections."""
        self._pool.clear()


def broken(error: Exception) -> tuple[str, str]:
    """What a broken connection means, and the reason of it in few words."""
    cause: BaseException = error
    while isinstance(cause, urllib3.exceptions.MaxRetryError) and cause.reason is not None:
        cause = cause.reason
    if isinstance(cause, urllib3.exceptions.SSLError):
        return "the server's certificate was refused", str(cause)
    return "the server does not answer", str(cause).rpartition(": ")[2] or type(cause).__name__
