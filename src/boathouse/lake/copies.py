"""Third-party copies on a user's behalf: the facility's transfer service lets a storage element fetch a file.

The interface is FTS3's REST (``POST /jobs``, ``GET`` and ``DELETE /jobs/<id>``), with this facility's additions
``?wait=`` and ``/jobs/<id>/why``. No byte passes through this machine.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import urllib3

from boathouse.errors import BoathouseError, ChecksumError, NoSpaceError, StorageError, TransferError
from boathouse.lake.http import PATIENT, Http

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
        self._lock = threading.Lock()
        self._identity: uuid.UUID | None = None

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
            TransferError: the element could not fetch it, and nothing of the attempt is left; this machine perhaps can.
            StorageError: the service may still write or clean the destination: nobody else must.
        """
        sid = str(uuid.uuid4())
        job_id = self._job_id(sid)
        file = _file(source, destination, size_bytes, adler32, token=self._token())
        params = _params(sid, overwrite=overwrite, verify=adler32 is not None)
        try:
            self._submit(file, params)
            ended = self._follow(job_id, moved, stop)
        except _RefusedError:
            raise
        except TransferError as error:
            self._end(job_id, destination, error, stop)
            raise
        if ended["file_state"] == "FINISHED":
            return
        # What failed and would be tried again is given up: nobody wants to watch that.
        failure = _failure(ended, f"{source} -> {destination}")
        self._end(job_id, destination, failure, stop)
        raise failure

    def _job_id(self, sid: str) -> str:
        """The id of the job with a seed, known before it is submitted: whatever gets lost, the job can be ended."""
        with self._lock:
            if self._identity is None:
                who, _ = self._call("GET", "/whoami")
                self._identity = uuid.uuid5(uuid.UUID(who["base_id"]), who["vos"][0])
            return str(uuid.uuid5(self._identity, sid))

    def _submit(self, file: dict[str, Any], params: dict[str, Any]) -> None:
        """Submit a job; a repetition finds the first one there.

        Raises:
            _RefusedError: there is no such job, and will not be.
            TransferError: there may be one.
        """
        response = self._send("POST", "/jobs", {"files": [file], "params": params})
        if 400 <= response.status < 500 and response.status != 409:
            raise _RefusedError("the transfer service refused", got=_words(response), where=f"{self._url}/jobs")
        if response.status >= 300 and response.status != 409:
            raise TransferError("the transfer service failed", got=_words(response), where=f"{self._url}/jobs")

    def _follow(self, job_id: str, moved: Callable[[int], None], stop: threading.Event) -> dict[str, Any]:
        """The job's file when it has ended, or was put back after a failure."""
        known = ""
        while True:
            job, revision = self._call("GET", f"/jobs/{job_id}?files={_FIELDS}&wait={_WAIT_S}{known}")
            if revision is None:
                raise TransferError("the transfer service does not tell of changes", expected=f"the header {_REVISION}")
            known = f"&known={revision}"
            file: dict[str, Any] = job["files"][0]
            moved(int(file["transferred"]))
            waiting = file["file_state"] in ("SUBMITTED", "ACTIVE")
            if not waiting or (file["file_state"] == "SUBMITTED" and file["reason"]):
                return file
            if stop.is_set():
                raise TransferError("stopped", where=job_id)

    def _end(self, job_id: str, destination: str, cause: BoathouseError, stop: threading.Event) -> None:
        """Cancel a job and wait until the service will touch the destination no more.

        Raises:
            StorageError: that cannot be made sure.
        """
        try:
            self._call("DELETE", f"/jobs/{job_id}")
            if not stop.is_set():
                self._wait_clean(job_id, destination)
        except TransferError as error:
            raise StorageError(
                "a failed copy may still occupy the destination", got=f"{cause.what}; {error.what}", where=destination
            ) from error

    def _wait_clean(self, job_id: str, destination: str) -> None:
        deadline = time.monotonic() + _CLEAN_S
        while True:
            job, _ = self._call("GET", f"/jobs/{job_id}/why")
            awaits = job["files"][0]["awaits"] if job is not None else None
            if awaits is None:
                return
            if time.monotonic() > deadline:
                raise StorageError("a failed copy still occupies the destination", got=awaits, where=destination)
            time.sleep(0.5)

    def _call(self, method: str, path: str) -> tuple[Any, str | None]:
        """A question about a job; its JSON, ``None`` if there is no such job, and the revision that it is of."""
        response = self._send(method, path)
        if response.status == 404 and path.startswith("/jobs/"):
            return None, None
        if response.status >= 300 and response.status != 304:
            raise TransferError("the transfer service refused", got=_words(response), where=f"{method} {path}")
        return json.loads(response.data or b"null"), response.headers.get(_REVISION)

    def _send(self, method: str, path: str, document: object = None) -> urllib3.BaseHTTPResponse:
        headers = {"Authorization": f"Bearer {self._token()}", "Content-Type": "application/json"}
        body = None if document is None else json.dumps(document).encode()
        return self._http.request(method, self._url + path, headers=headers, body=body, retry=PATIENT)


class _RefusedError(TransferError):
    """There is no job."""


def _file(source: str, destination: str, size_bytes: int, adler32: str | None, *, token: str) -> dict[str, Any]:
    return {
        "sources": [source],
        "destinations": [destination],
        "destination_tokens": [token],
        "filesize": size_bytes,
        "checksum": f"adler32:{adler32}" if adler32 else None,
        "activity": "User Import",
    }


def _params(sid: str, *, overwrite: bool, verify: bool) -> dict[str, Any]:
    return {
        "id_generator": "deterministic",
        "sid": sid,
        "overwrite": overwrite,
        "verify_checksum": "target" if verify else "none",
        "retry": -1,
        "max_time_in_queue": _QUEUE,
    }


def _failure(file: dict[str, Any], where: str) -> StorageError | TransferError:
    reason = str(file["reason"] or f"the copy is {file['file_state']}")
    match file.get("error_class"):
        case "checksum":
            return ChecksumError("the copy's bytes are not those of the source", got=reason, where=where)
        case "space":
            return NoSpaceError("the storage element is full", got=reason, where=where)
        case _:
            return TransferError("the third-party copy failed", got=reason, where=where)


def _words(response: urllib3.BaseHTTPResponse) -> str:
    text = response.data.decode("utf-8", "replace")
    with contextlib.suppress(ValueError, AttributeError):
        text = str(json.loads(text).get("message", text))
    return f"HTTP status {response.status}: {text[:300]}"
