"""Third-party copies on a user's behalf: the facility's transfer service lets a storage element fetch a file.

The interface is FTS3's REST (``POST /jobs``, ``GET`` and ``DELETE /jobs/<id>``), with this facility's additions
``?wait=`` and ``/jobs/<id>/why``. No byte passes through this machine.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import urllib3

from boathouse.errors import ChecksumError, NoSpaceError, StorageError, TransferError
from boathouse.lake.http import CONNECT_ONLY, PATIENT, Http

_REVISION = "X-Boathouse-Revision"
_FIELDS = "file_state,reason,error_class,transferred"
_WAIT_S = 1
"""How long one question waits for a change: also how often progress is told."""
_QUEUE = "2m"
"""How long a file may wait for a free slot: streaming is better than waiting longer."""
_CLEAN_S = 30.0
"""How long the removal of what an aborted copy left is waited for; the service promises it within this time."""


class Copies:
    """The transfer service as one user sees it. One object serves many threads.

    Args:
        http: connections whose ``failure`` is :class:`~boathouse.errors.TransferError`.
        url: of the service.
        token: gives the current bearer token, with the service's audience and the scope ``fts``.
    """

    def __init__(self, http: Http, url: str, token: Callable[[], str]) -> None:
        self._http = http
        self._url = url.rstrip("/")
        self._token = token

    def fetch(
        self,
        source: str,
        destination: str,
        *,
        size_bytes: int,
        adler32: str | None,
        overwrite: bool,
        moved: Callable[[int], None],
        stop: threading.Event,
    ) -> None:
        """Let a storage element fetch a public file, and wait for the end. Nothing partial is left behind.

        Args:
            source: https URL, readable without a token.
            destination: https URL of the file on the element, which the token allows to write.
            size_bytes: of the source; the copy is compared with it.
            adler32: of the source; compared if given.
            overwrite: whether a file that is there may be replaced.
            moved: told how many bytes have arrived so far.
            stop: set by whoever wants to end it early.

        Raises:
            ChecksumError: the bytes that came are not those of ``adler32``.
            NoSpaceError: the element is full.
            TransferError: the element could not fetch it; this machine perhaps can.
            StorageError: what a failed copy left has not been removed yet.
        """
        job_id = self._submit(source, destination, size_bytes, adler32, overwrite=overwrite)
        try:
            file = self._follow(job_id, moved, stop)
        except BaseException:
            with contextlib.suppress(TransferError):
                self._call("DELETE", f"/jobs/{job_id}")
            raise
        if file["file_state"] == "FINISHED":
            return
        if file["file_state"] == "SUBMITTED":
            # Something failed that the service would try again, for longer than anybody wants to watch.
            self._call("DELETE", f"/jobs/{job_id}")
        self._wait_clean(job_id, destination)
        raise _failure(file, f"{source} -> {destination}")

    def _submit(self, source: str, destination: str, size_bytes: int, adler32: str | None, *, overwrite: bool) -> str:
        file: dict[str, Any] = {
            "sources": [source],
            "destinations": [destination],
            "destination_tokens": [self._token()],
            "filesize": size_bytes,
            "checksum": f"adler32:{adler32}" if adler32 else None,
            "activity": "User Import",
        }
        params = {
            "overwrite": overwrite,
            "verify_checksum": "target" if adler32 else "none",
            "retry": -1,
            "max_time_in_queue": _QUEUE,
        }
        return str(self._call("POST", "/jobs", {"files": [file], "params": params})[0]["job_id"])

    def _follow(self, job_id: str, moved: Callable[[int], None], stop: threading.Event) -> dict[str, Any]:
        """The job's file when it has ended, or was put back after a failure."""
        known = ""
        while True:
            job, known = self._call("GET", f"/jobs/{job_id}?files={_FIELDS}&wait={_WAIT_S}{known}")
            file: dict[str, Any] = job["files"][0]
            moved(int(file["transferred"]))
            waiting = file["file_state"] in ("SUBMITTED", "ACTIVE")
            if not waiting or (file["file_state"] == "SUBMITTED" and file["reason"]):
                return file
            if stop.is_set():
                raise TransferError("stopped", where=job_id)

    def _wait_clean(self, job_id: str, destination: str) -> None:
        """Wait until the service will touch the destination no more."""
        deadline = time.monotonic() + _CLEAN_S
        while True:
            job, _ = self._call("GET", f"/jobs/{job_id}/why")
            awaits = job["files"][0]["awaits"]
            if awaits is None:
                return
            if time.monotonic() > deadline:
                raise StorageError("a failed copy still occupies the destination", got=awaits, where=destination)
            time.sleep(0.5)

    def _call(self, method: str, path: str, document: object = None) -> tuple[Any, str]:
        """One request; its JSON, and what to add to the next question to be answered at the next change."""
        headers = {"Authorization": f"Bearer {self._token()}", "Content-Type": "application/json"}
        body = None if document is None else json.dumps(document).encode()
        retry = CONNECT_ONLY if method == "POST" else PATIENT
        response = self._http.request(method, self._url + path, headers=headers, body=body, retry=retry)
        if response.status >= 300 and response.status != 304:
            raise TransferError("the transfer service refused", got=_words(response), where=f"{method} {path}")
        revision = response.headers.get(_REVISION)
        return json.loads(response.data or b"null"), f"&known={revision}" if revision else ""


def _failure(file: dict[str, Any], where: str) -> StorageError | TransferError:
    reason = str(file["reason"])
    if file["error_class"] == "checksum":
        return ChecksumError("the copy's bytes are not those of the source", got=reason, where=where)
    if file["error_class"] == "space":
        return NoSpaceError("the storage element is full", got=reason, where=where)
    return TransferError("the third-party copy failed", got=reason, where=where)


def _words(response: urllib3.BaseHTTPResponse) -> str:
    text = response.data.decode("utf-8", "replace")
    with contextlib.suppress(ValueError, AttributeError):
        text = str(json.loads(text).get("message", text))
    return f"HTTP status {response.status}: {text[:300]}"
