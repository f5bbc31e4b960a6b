"""Rucio's way to the transfer service: FTS3's REST interface, always with a token, TLS always verified."""

from __future__ import annotations

import functools
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import requests
from rucio.common.constants import FTS_STATE
from rucio.common.exception import DuplicateFileTransferSubmission, TransferToolTimeout, TransferToolWrongAnswer
from rucio.common.utils import APIEncoder
from rucio.core import transfer as transfer_core
from rucio.core.rse import determine_audience_for_rse, determine_scope_for_rse
from rucio.transfertool.fts3 import FTS3ApiTransferStatusReport, FTS3Transfertool, bulk_group_transfers
from rucio.transfertool.transfertool import TransferToolBuilder

from boathouse_rucio_site import tokens
from boathouse_rucio_site.errors import TokenError

NAME = "boathouse"
"""Name of the transfer tool in ``[conveyor] transfertool``."""
_ENDED = frozenset({FTS_STATE.FINISHED, FTS_STATE.FAILED, FTS_STATE.CANCELED, FTS_STATE.NOT_USED})
_NOT_THE_JOBS_FAULT = frozenset({401, 404, 405, 408, 429})
"""The token, the address, the time, the load: no file of the job would do better by itself."""
_EXCERPT = 500
"""Characters of a refusal that are noted."""
ANSWER_S = (5.0, 20.0)
"""Time for the service to take a connection and to answer."""
MEMO_S = 30.0
"""For so long an RSE's audience and scope are remembered."""


def audience_for_rse(rse_id: str) -> str:
    """Replaces ``determine_audience_for_rse``, with a memory."""
    return str(_remember(determine_audience_for_rse, rse_id, int(time.monotonic() / MEMO_S)))


def scope_for_rse(rse_id: str, scopes: Iterable[str], extra_scopes: Iterable[str] | None = None) -> str:
    """Replaces ``determine_scope_for_rse``, with a memory."""
    return _remember_scope(rse_id, tuple(scopes), tuple(extra_scopes or ()), int(time.monotonic() / MEMO_S))


@functools.lru_cache(maxsize=1000)
def _remember(function: Callable[[str], str], rse_id: str, period: int) -> str:
    del period
    return function(rse_id)


@functools.lru_cache(maxsize=4000)
def _remember_scope(rse_id: str, scopes: tuple[str, ...], extra_scopes: tuple[str, ...], period: int) -> str:
    del period
    return str(determine_scope_for_rse(rse_id, list(scopes), list(extra_scopes)))


def forget() -> None:
    """Drop what is remembered of RSEs."""
    _remember.cache_clear()
    _remember_scope.cache_clear()


class JobRefusedError(TransferToolWrongAnswer):
    """The service will not take a job as it is."""


class BoathouseTransfertool(FTS3Transfertool):
    """Rucio's FTS3 tool with four differences.

    A token goes with every request, cancelling and priority included. TLS is verified. Nothing is submitted for which
    a token is missing: those files stay queued, and none of their repetitions is used up. It tells
    a job that was refused from a service that is not well.
    """

    external_name = NAME
    required_rse_attrs = ("fts",)

    def __init__(
        self,
        external_host: str,
        *,
        group_bulk: int = 100,
        group_policy: str = "dest",
        bulk_multi_source: bool = False,
        max_time_in_queue: Mapping[str, int] | None = None,
        logger: Callable[..., None] = logging.log,
        **_: object,
    ) -> None:
        super().__init__(
            external_host,
            group_bulk=group_bulk,
            group_policy=group_policy,
            source_strategy="orderly",
            max_time_in_queue=dict(max_time_in_queue or {"default": 168}),
            logger=logger,
        )
        self._bulk_multi_source = bulk_multi_source
        self.token = tokens.source().get(urlsplit(external_host).hostname or "", "fts")
        self.headers["Authorization"] = f"Bearer {self.token}"
        self.cert, self.verify = None, True

    @classmethod
    def submission_builder_for_path(
        cls, transfer_path: list[Any], logger: Callable[..., None] = logging.log
    ) -> tuple[list[Any], TransferToolBuilder | None]:
        """The part of the path that one service can do, and how to make a tool for it."""
        del logger
        part: list[Any] = []
        host = ""
        for hop in transfer_path:
            servers = cls._pick_fts_servers(hop.src.rse, hop.dst.rse)
            if not servers:
                break
            host = servers[0]
            part.append(hop)
        return (part, TransferToolBuilder(cls, external_host=host)) if part else ([], None)

    def group_into_submit_jobs(self, transfer_paths: list[list[Any]]) -> list[dict[str, Any]]:
        """Jobs of files for which every token can be had; the other files stay queued.

        Raises:
            TransferToolTimeout: the service does not answer; all files stay queued.
        """
        self._require_service()
        ready = [path for path in transfer_paths if all(self._has_tokens(hop) for hop in path)]
        if not self._bulk_multi_source:
            return list(super().group_into_submit_jobs(ready))
        plain = [path for path in ready if len(path) > 1 or len(path[0].sources) == 1]
        several = [path for path in ready if not (len(path) > 1 or len(path[0].sources) == 1)]
        return [*super().group_into_submit_jobs(plain), *self._group_multi_source(several)]

    def submit(self, transfers: Sequence[Any], job_params: dict[str, str], timeout: float | None = None) -> str:
        """Submit a job; its id.

        Raises:
            DuplicateFileTransferSubmission: a file of it is being transferred already.
            JobRefusedError: the service will not take this job, which one of its files may cause.
            TransferToolTimeout: no answer in time.
            TransferToolWrongAnswer: no connection, or another answer.
        """
        files = [self._file_from_transfer(transfer, job_params) for transfer in transfers]
        url = f"{self.external_host}/jobs"
        body = json.dumps({"files": files, "params": job_params}, cls=APIEncoder)
        try:
            response = requests.post(url, data=body, headers=self.headers, timeout=timeout, allow_redirects=False)
        except requests.ReadTimeout as error:
            raise TransferToolTimeout(f"POST {url}: {error}") from error
        except requests.RequestException as error:
            raise TransferToolWrongAnswer(f"POST {url}: {error}") from error
        what = f"POST {url}: status {response.status_code}: {response.text[:_EXCERPT]}"
        if response.status_code == 409:
            raise DuplicateFileTransferSubmission(what)
        if 400 <= response.status_code < 500 and response.status_code not in _NOT_THE_JOBS_FAULT:
            raise JobRefusedError(what)
        try:
            return str(response.json()["job_id"])
        except (ValueError, KeyError, TypeError) as error:
            raise TransferToolWrongAnswer(what) from error

    def _require_service(self) -> None:
        """Ask the service how it is: a failed submission would use up one of the file's repetitions.

        FTS3 does not know this path, and answers 404: it is well, too.
        """
        url = f"{self.external_host}/health"
        try:
            response = requests.get(url, headers=self.headers, timeout=ANSWER_S, allow_redirects=False)
        except requests.RequestException as error:
            raise TransferToolTimeout(f"{self.external_host} does not answer: {error}") from error
        if response.status_code >= 500:
            raise TransferToolTimeout(f"{self.external_host} is not able to work: status {response.status_code}")

    def _group_multi_source(self, paths: list[list[Any]]) -> list[dict[str, Any]]:
        """As Rucio groups files with one source; FTS3 itself wants a job a file here, our service does not."""
        jobs = bulk_group_transfers(
            paths,
            max_time_in_queue=self.max_time_in_queue,
            bring_online=self.bring_online,
            default_lifetime=self.default_lifetime,
            logger=self.logger,
        )
        groups: dict[tuple[str, str], dict[str, Any]] = {}
        for job in jobs:
            key = (job["transfers"][0].dst.rse.name, repr(sorted(job["job_params"].items(), key=lambda item: item[0])))
            group = groups.setdefault(key, {"transfers": [], "job_params": job["job_params"]})
            group["transfers"] += job["transfers"]
        size = self.group_bulk
        return [
            {"transfers": group["transfers"][start : start + size], "job_params": group["job_params"]}
            for group in groups.values()
            for start in range(0, len(group["transfers"]), size)
        ]

    def bulk_query(
        self, requests_by_eid: dict[str, dict[str, dict[str, Any]]], timeout: float | None = None
    ) -> dict[str, Any]:
        """How files are: those that have ended, by job and request.

        Rucio's own reading of the answer ends with the first file of several sources that was copied, since FTS3 puts
        each such file into a job of its own.

        Raises:
            TransferToolWrongAnswer: the service did not answer, or not as FTS3 does.
        """
        fields = "file_state,dest_surl,finish_time,start_time,staging_start,staging_finished,reason,source_surl"
        url = f"{self.external_host}/jobs/{','.join(requests_by_eid)}?files={fields},file_metadata"
        try:
            response = requests.get(url, headers=self.headers, timeout=timeout, allow_redirects=False)
            document = response.json()
        except requests.RequestException as error:
            raise TransferToolWrongAnswer(f"GET {url}: {error}") from error
        if response.status_code not in {200, 207, 404}:
            raise TransferToolWrongAnswer(f"GET {url}: status {response.status_code}")
        jobs = document if isinstance(document, list) else [document]
        return {job["job_id"]: self._report(job, requests_by_eid.get(job["job_id"], {})) for job in jobs}

    def _report(self, job: dict[str, Any], wanted: Mapping[str, dict[str, Any]]) -> Any:
        """What Rucio's poller expects of a job: ``None`` if it is lost, an exception if it cannot be told."""
        if job["http_status"] == "404 Not Found":
            return None
        if job["http_status"] != "200 Ok":
            return TransferToolWrongAnswer(f"job {job['job_id']}: {job['http_status']}")
        files: dict[str, list[dict[str, Any]]] = {}
        for file in job["files"]:
            files.setdefault(file["file_metadata"]["request_id"], []).append(file)
        ended = {request_id: _ended(files[request_id]) for request_id in wanted.keys() & files.keys()}
        return {
            request_id: FTS3ApiTransferStatusReport(
                self.external_host,
                request_id=request_id,
                request=wanted[request_id],
                # Of a file that has ended, the state of the whole job says nothing more.
                job_response={**job, "job_state": file["file_state"]},
                file_response=file,
            )
            for request_id, file in ended.items()
            if file is not None
        }

    def _has_tokens(self, hop: Any) -> bool:
        wanted = [(source.rse.id, ["storage.read"]) for source in hop.sources]
        wanted.append((hop.dst.rse.id, ["storage.modify", "storage.read"]))
        try:
            for rse_id, scopes in wanted:
                # The very request that the stock code makes next, so that it is answered from the cache.
                tokens.source().get(audience_for_rse(rse_id), scope_for_rse(rse_id, scopes, ["offline_access"]))
        except TokenError as error:
            self.logger(logging.ERROR, "%s stays queued: %s", hop, error)
            return False
        return True

    def _file_from_transfer(self, transfer: Any, job_params: dict[str, str]) -> dict[str, Any]:
        file: dict[str, Any] = super()._file_from_transfer(transfer, job_params)
        if None in (*file["source_tokens"], *file["destination_tokens"]):
            raise TransferToolWrongAnswer(f"no token for {transfer}: not submitted")
        return file


def _ended(entries: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The entry that tells how a file ended, of one entry a source; ``None`` while it may still be copied."""
    for entry in entries:
        if entry["file_state"] == FTS_STATE.FINISHED:
            return entry
    if any(entry["file_state"] not in _ENDED for entry in entries):
        return None
    tried = [entry for entry in entries if entry["file_state"] != FTS_STATE.NOT_USED]
    return tried[-1] if tried else entries[-1]


TRANSFER_TOOLS = {**transfer_core.TRANSFERTOOL_CLASSES_BY_NAME, NAME: BoathouseTransfertool}
