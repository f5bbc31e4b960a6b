"""Rows as FTS3 shows them: all keys present though null, times in UTC without fraction and without ``Z``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from boathouse.apps.transfers.states import FileState
from boathouse.apps.transfers.store import CANCELED_BY_USER

Json = dict[str, Any]
ON_HOLD = "ON_HOLD"
"""FTS3's state of a file that waits for the end of a ban; stored as SUBMITTED."""


def timestamp(moment: datetime | None) -> str | None:
    """A time in FTS3's form."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")


def job(row: Mapping[str, Any]) -> Json:
    """A job without its files."""
    params = row["params"]
    return {
        "job_id": row["job_id"],
        "job_state": row["job_state"],
        "job_type": row["job_type"],
        "source_se": row["source_se"] or None,
        "dest_se": row["dest_se"] or None,
        "user_dn": row["owner"],
        "cred_id": row["client_id"],
        "vo_name": row["vo_name"],
        "reason": row["reason"],
        "submit_time": timestamp(row["submit_time"]),
        "job_finished": timestamp(row["job_finished"]),
        "priority": row["priority"],
        "job_metadata": row["job_metadata"] if row["job_metadata"] is not None else {},
        "max_time_in_queue": params.get("max_time_in_queue"),
        "overwrite_flag": "Y" if row["overwrite_flag"] else "N",
        "verify_checksum": params.get("verify_checksum"),
        "retry": params.get("retry"),
        "retry_delay": params.get("retry_delay"),
        "copy_pin_lifetime": params.get("copy_pin_lifetime"),
        "bring_online": params.get("bring_online"),
        "archive_timeout": params.get("archive_timeout"),
        "dst_file_report": params.get("dst_file_report"),
        "destination_spacetoken": params.get("destination_spacetoken"),
        "source_spacetoken": params.get("source_spacetoken"),
        "cancel_job": row["reason"] == CANCELED_BY_USER,
        "submit_host": None,
        "internal_job_params": None,
        "target_qos": None,
        "os_project_id": None,
        # Not of FTS3: how many files there are, and how they ended.
        "elements": row["elements"],
        "finished": row["finished"],
        "failed": row["failed"],
        "canceled": row["canceled"],
    }


def file(row: Mapping[str, Any], *, held: bool = False) -> Json:
    """A file, for one source.

    Args:
        row: of ``files``, and ``vo_name``.
        held: whether a ban keeps the file waiting: FTS3 has a state for that.
    """
    return {
        "file_id": row["file_id"],
        "file_index": row["file_index"],
        "job_id": row["job_id"],
        "vo_name": row["vo_name"],
        "file_state": ON_HOLD if held and row["file_state"] == FileState.SUBMITTED else row["file_state"],
        "source_surl": row["source_surl"],
        "dest_surl": row["dest_surl"],
        "source_se": _element(row["source_surl"]),
        "dest_se": _element(row["dest_surl"]),
        "file_metadata": row["file_metadata"],
        "reason": row["reason"],
        "recoverable": None,
        "error_class": row["error_class"],
        "filesize": row["filesize"],
        "user_filesize": row["user_filesize"],
        "transferred": row["transferred"],
        "checksum": row["checksum"],
        "start_time": timestamp(row["start_time"]),
        "finish_time": timestamp(row["finish_time"]),
        "staging_start": None,
        "staging_finished": None,
        "staging_host": None,
        "archive_start_time": None,
        "archive_finish_time": None,
        "tx_duration": row["tx_duration"],
        "throughput": row["throughput"],
        "retry": row["spent"] if row["file_state"] == FileState.SUBMITTED else max(row["spent"] - 1, 0),
        "priority": row["priority"],
        "activity": row["activity"],
        "selection_strategy": row["selection_strategy"],
        "transfer_host": None,
        "pid": None,
        "log_file": None,
        "log_debug": None,
        "bringonline_token": None,
        "internal_file_params": None,
        "hashed_id": None,
        "dest_surl_uuid": None,
        "staging_metadata": None,
        "archive_metadata": None,
        "scitag": None,
        "src_token_id": None,
        "dst_token_id": None,
        "file_state_initial": None,
    }


def unclean(row: Mapping[str, Any]) -> Json:
    """A file whose destination may hold something that is to be removed."""
    return {
        "job_id": row["job_id"],
        "file_id": row["file_id"],
        "file_state": row["file_state"],
        "user_dn": row["owner"],
        "vo_name": row["vo_name"],
        "dest_surl": row["dest_surl"],
        "dest_se": _element(row["dest_surl"]),
        "since": timestamp(row["finish_time"]),
        "next_try": timestamp(row["clean_at"]),
        "tried_until": timestamp(row["clean_until"]),
        "reason": row["reason"],
    }


def retry(row: Mapping[str, Any]) -> Json:
    """An attempt that failed and was followed by another, as in FTS3's log of retries."""
    return {
        "file_id": row["file_id"],
        "attempt": row["attempt"],
        "datetime": timestamp(row["ended"]),
        "reason": row["reason"],
        "transfer_host": None,
        "log_file": None,
    }


def optimizer(row: Mapping[str, Any]) -> Json:
    """How many copies a link may run."""
    return {
        "source_se": _https(row["source_host"]),
        "dest_se": _https(row["dest_host"]),
        "active": row["active"],
        "ema": row["ema"],
        "datetime": timestamp(row["updated"]),
        "nostreams": 1,
    }


def evolution(row: Mapping[str, Any]) -> Json:
    """A decision of the optimizer."""
    same = ("active", "throughput", "success", "rationale", "diff", "actual_active", "queue_size", "ema")
    return {
        "source_se": _https(row["source_host"]),
        "dest_se": _https(row["dest_host"]),
        "datetime": timestamp(row["at"]),
        **{name: row[name] for name in (*same, "filesize_avg", "filesize_stddev")},
    }


def _https(host: str) -> str:
    """An element as FTS3 names one: which scheme its clients use is not known of a link."""
    return f"https://{host}"


def _element(surl: str) -> str:
    return "/".join(surl.split("/")[:3])
