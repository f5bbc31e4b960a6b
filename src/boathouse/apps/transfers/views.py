"""Rows as FTS3 shows them: all keys present though null, times in UTC without fraction and without ``Z``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, NamedTuple

from boathouse.apps.transfers.states import FileState
from boathouse.apps.transfers.store import CANCELED_BY_USER

Json = dict[str, Any]
Row = Mapping[str, Any]
ON_HOLD = "ON_HOLD"
"""FTS3's state of a file that waits for the end of a ban; stored as SUBMITTED."""


def timestamp(moment: datetime | None) -> str | None:
    """A time in FTS3's form."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")


def job(row: Row) -> Json:
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


def _element(surl: str) -> str:
    return "/".join(surl.split("/")[:3])


class _Field(NamedTuple):
    """A field of a file: the columns that it is made of, and how."""

    columns: tuple[str, ...]
    of: Callable[[Row], Any]


def _as(column: str, shown: Callable[[Any], Any] | None = None) -> _Field:
    return _Field((column,), itemgetter(column) if shown is None else lambda row: shown(row[column]))


def _retries(row: Row) -> int:
    spent: int = row["spent"]
    return spent if row["file_state"] == FileState.SUBMITTED else max(spent - 1, 0)


_NULL = _Field((), lambda _: None)
_FILE = {
    **{name: _as(name) for name in ("file_id", "file_index", "job_id", "vo_name", "file_state")},
    **{name: _as(name) for name in ("source_surl", "dest_surl")},
    "source_se": _as("source_surl", _element),
    "dest_se": _as("dest_surl", _element),
    **{name: _as(name) for name in ("file_metadata", "reason")},
    "recoverable": _NULL,
    **{name: _as(name) for name in ("error_class", "filesize", "user_filesize", "transferred", "checksum")},
    "start_time": _as("start_time", timestamp),
    "finish_time": _as("finish_time", timestamp),
    **dict.fromkeys(("staging_start", "staging_finished", "staging_host"), _NULL),
    **dict.fromkeys(("archive_start_time", "archive_finish_time"), _NULL),
    **{name: _as(name) for name in ("tx_duration", "throughput")},
    "retry": _Field(("spent", "file_state"), _retries),
    **{name: _as(name) for name in ("priority", "activity", "selection_strategy")},
    **dict.fromkeys(("transfer_host", "pid", "log_file", "log_debug", "bringonline_token"), _NULL),
    **dict.fromkeys(("internal_file_params", "hashed_id", "dest_surl_uuid"), _NULL),
    **dict.fromkeys(("staging_metadata", "archive_metadata", "scitag"), _NULL),
    **dict.fromkeys(("src_token_id", "dst_token_id", "file_state_initial"), _NULL),
}
FILE_FIELDS = tuple(_FILE)
"""All fields of a file."""
_HELD_BY = ("source_host", "dest_host", "vo_name")
"""The columns that tell whether a ban keeps a file waiting."""


def file_columns(fields: Iterable[str]) -> frozenset[str]:
    """The columns that some fields of a file are made of, those that bans look at included.

    Args:
        fields: of :data:`FILE_FIELDS`.
    """
    return frozenset(_HELD_BY).union(*(_FILE[field].columns for field in fields))


def file(row: Row, *, held: bool = False, fields: Iterable[str] = FILE_FIELDS) -> Json:
    """A file, for one source.

    Args:
        row: of ``files``, and ``vo_name``.
        held: whether a ban keeps the file waiting: FTS3 has a state for that.
        fields: which of :data:`FILE_FIELDS` are shown.
    """
    shown = {name: _FILE[name].of(row) for name in fields}
    if held and shown.get("file_state") == FileState.SUBMITTED:
        shown["file_state"] = ON_HOLD
    return shown


def unclean(row: Row) -> Json:
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


def retry(row: Row) -> Json:
    """An attempt that failed and was followed by another, as in FTS3's log of retries."""
    return {
        "file_id": row["file_id"],
        "attempt": row["attempt"],
        "datetime": timestamp(row["ended"]),
        "reason": row["reason"],
        "transfer_host": None,
        "log_file": None,
    }


def optimizer(row: Row) -> Json:
    """How many copies a link may run."""
    return {
        "source_se": _https(row["source_host"]),
        "dest_se": _https(row["dest_host"]),
        "active": row["active"],
        "ema": row["ema"],
        "datetime": timestamp(row["updated"]),
        "nostreams": 1,
    }


def evolution(row: Row) -> Json:
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
