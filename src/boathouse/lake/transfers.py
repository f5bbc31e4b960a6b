"""The jobs of the transfer service: which there are, how they are, why, and their end.

The interface is FTS3's REST (``GET`` and ``DELETE /jobs/<id>``), with this facility's ``?wait=`` and
``/jobs/<id>/why``. Documents are passed on as the service gives them.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode

from boathouse.errors import TransferError
from boathouse.lake.http import PATIENT, Http

Job = dict[str, Any]
ENDED = frozenset({"FINISHED", "FINISHEDDIRTY", "FAILED", "CANCELED"})
"""States that a job does not leave."""
_FIELDS = "file_id,file_state,reason,error_class,transferred,filesize,user_filesize,source_surl,dest_surl,retry"
_REVISION = "X-Boathouse-Revision"
_WAIT_S = 2
"""How long one question waits for a change; progress within a copy is no change."""


class Transfers:
    """The transfer service's jobs as one user sees them, or its operator. One object serves many threads.

    Args:
        http: connections whose ``failure`` is :class:`~boathouse.errors.TransferError`.
        url: of the service.
        token: gives the current bearer token, with the service's audience and the scope ``fts``.
    """

    def __init__(self, http: Http, url: str, token: Callable[[], str]) -> None:
        self._http = http
        self._url = url.rstrip("/")
        self._token = token

    def jobs(self, **filters: str | int | None) -> list[Job]:
        """Jobs, newest first: those that have not ended, unless filters say otherwise.

        Args:
            filters: of ``GET /jobs``: ``state_in``, ``vo_name``, ``source_se``, ``dest_se``, ``user_dn``,
                ``time_window`` (``hours:minutes``), ``limit``. Those that are ``None`` are left out.
        """
        query = urlencode({name: value for name, value in filters.items() if value is not None})
        found: list[Job] = self._call("GET", f"/jobs?{query}")
        return found

    def job(self, job_id: str) -> Job:
        """A job with its ``files``.

        Raises:
            TransferError: there is none of this id, or it is somebody else's.
        """
        found: Job = self._call("GET", f"/jobs/{job_id}?files={_FIELDS}")
        return found

    def why(self, job_id: str) -> Job:
        """What was tried, what each side answered, what is awaited, the verdict.

        Raises:
            TransferError: there is none of this id, or it is somebody else's.
        """
        found: Job = self._call("GET", f"/jobs/{job_id}/why")
        return found

    def unclean(self) -> list[Job]:
        """Files whose copy has ended and whose destination may still hold something partial, the longest first.

        Each has ``job_id``, ``dest_surl``, ``since``, ``next_try``, ``tried_until`` (UTC) and ``reason``.
        """
        found: list[Job] = self._call("GET", "/unclean")
        return found

    def cancel(self, job_id: str) -> Job:
        """End a job; one that has ended stays as it is. Returns it.

        Raises:
            TransferError: there is none of this id, or it is somebody else's.
        """
        ended: Job = self._call("DELETE", f"/jobs/{job_id}")
        return ended

    def watch(self, job_ids: Sequence[str], report: Callable[[list[Job]], None], *, timeout_s: float) -> list[Job]:
        """Tell of jobs until all have ended.

        Args:
            job_ids: the jobs.
            report: told of all jobs with their files, at every change and every two seconds.
            timeout_s: how long.

        Returns:
            The jobs at their end.

        Raises:
            TransferError: one of them cannot be seen, or they have not ended in time.
        """
        deadline = time.monotonic() + timeout_s
        known = ""
        while True:
            path = f"/jobs/{','.join(job_ids)}?files={_FIELDS}&wait={_WAIT_S}{known}"
            response = self._send("GET", path)
            jobs = self._document(response, f"GET {path}")
            jobs = jobs if isinstance(jobs, list) else [jobs]
            unseen = [job for job in jobs if not job["http_status"].startswith("200")]
            if unseen:
                raise TransferError("no such job", got=unseen[0]["http_message"], remedy="boathouse transfer list")
            known = f"&known={response.headers.get(_REVISION, '')}"
            report(jobs)
            if all(job["job_state"] in ENDED for job in jobs):
                return jobs
            if time.monotonic() > deadline:
                going = [job["job_id"] for job in jobs if job["job_state"] not in ENDED]
                raise TransferError(
                    f"{len(going)} of {len(jobs)} jobs have not ended in time", got=", ".join(going[:5])
                )

    def _call(self, method: str, path: str) -> Any:
        return self._document(self._send(method, path), f"{method} {path}")

    def _document(self, response: Any, where: str) -> Any:
        text = response.data.decode("utf-8", "replace")
        if response.status < 300 or response.status == 304:
            return json.loads(text)
        with contextlib.suppress(ValueError, AttributeError):
            document = json.loads(text)
            text = str(document.get("message") or document.get("http_message") or text)
        if response.status in (403, 404) and "/jobs/" in where:
            raise TransferError("no such job of yours", got=text[:300], remedy="boathouse transfer list")
        raise TransferError(
            "the transfer service refused", got=f"HTTP status {response.status}: {text[:300]}", where=where[:300]
        )

    def _send(self, method: str, path: str) -> Any:
        headers = {"Authorization": f"Bearer {self._token()}"}
        return self._http.request(method, self._url + path, headers=headers, retry=PATIENT)
