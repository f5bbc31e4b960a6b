"""Why a job is as it is: what was tried, what each side answered, what is awaited, whose fault it is, what to do.

The verdict on a file names the class of the error (:mod:`boathouse.apps.transfers.failures`) and its layer: whether the
trouble is with a *token*, the *network*, a *storage* element, its *capacity*, the data management's own *policy*, or
this *service*.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from boathouse.apps.transfers.failures import ErrorClass, Side
from boathouse.apps.transfers.policy import Policy
from boathouse.apps.transfers.states import FileState
from boathouse.apps.transfers.views import Json, timestamp

Row = Mapping[str, Any]
_REASON = re.compile(r"(SOURCE|DESTINATION|TRANSFER) \[(\w+)\] (.*)", re.DOTALL)
POLICY = "policy"
"""Class of a verdict that is no failure: somebody decided so."""


class Layer(StrEnum):
    """Where the trouble is."""

    token = "token"  # noqa: S105 - the name of a layer
    network = "network"
    storage = "storage"
    capacity = "capacity"
    policy = "policy"
    service = "service"


_LAYERS = {
    ErrorClass.auth: Layer.token,
    ErrorClass.source: Layer.storage,
    ErrorClass.destination: Layer.storage,
    ErrorClass.exists: Layer.policy,
    ErrorClass.network: Layer.network,
    ErrorClass.checksum: Layer.storage,
    ErrorClass.space: Layer.capacity,
    ErrorClass.timeout: Layer.network,
    ErrorClass.internal: Layer.service,
}
_SAYS = {
    ErrorClass.auth: "{host} refused the token for the {side}, or it ran out and could not be renewed",
    ErrorClass.source: "{host} could not give the file",
    ErrorClass.destination: "{host} failed while it took the file",
    ErrorClass.exists: "another file lies at the destination, and the job may not replace it",
    ErrorClass.network: "{host} could not be reached",
    ErrorClass.checksum: "the bytes are not the expected ones",
    ErrorClass.space: "{host} is full",
    ErrorClass.timeout: "nothing moved for too long: the network between the two, or one of them, hangs",
    ErrorClass.internal: "a fault of the transfer service",
}
_DO = {
    ErrorClass.auth: "submit again with a token that names {name} as audience, allows {scope} on the path, and lives; "
    "for a store of the facility file, see its user, secret_file and region",
    ErrorClass.source: "see whether the file is at the source; if not, let the catalogue forget the replica",
    ErrorClass.destination: "see the storage element's log then, and whether its disk is full; try again later",
    ErrorClass.exists: "compare the two files; remove the one that is there, or submit again with overwrite",
    ErrorClass.network: "see whether {host} runs, and whether its name, port and firewall let the other side in",
    ErrorClass.checksum: "compare the source with the catalogue; a source that is wrong itself must be declared bad",
    ErrorClass.space: "make room at {host}, or copy to another element",
    ErrorClass.timeout: "look at the load of both elements and the network between them; submit again",
    ErrorClass.internal: "report it with the lines of the service's log that name the file",
}


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a file."""

    kind: str
    """Class of the error, or ``policy``."""
    layer: Layer
    side: Side | None
    host: str | None
    cause: str
    """Word for word, as it was said."""
    says: str
    do: str
    over: bool = False
    """Whether the file was copied all the same, later."""

    def as_dict(self) -> Json:
        """For the API."""
        return {
            "class": self.kind,
            "layer": self.layer,
            "side": self.side,
            "host": self.host,
            "says": self.says,
            "cause": self.cause,
            "do": self.do,
            "over": self.over,
        }


def why(
    job_row: Row,
    file_rows: Sequence[Row],
    tries: Mapping[int, Sequence[Row]],
    unreachable: Mapping[str, Row],
    policy: Policy | None = None,
) -> Json:
    """The causal chain of a job.

    Args:
        job_row: as the API shows the job.
        file_rows: of its files.
        tries: attempts by file.
        unreachable: storage elements that could not be reached, by host.
        policy: what the operator decided.
    """
    now, rules = datetime.now(UTC), policy or Policy()
    verdicts = [verdict(row, tries.get(row["file_id"], ()), unreachable, rules) for row in file_rows]
    worst = Counter((each.kind, each.host) for each in verdicts if each is not None and not each.over).most_common(1)
    first = next((each for each in verdicts if each and worst and (each.kind, each.host) == worst[0][0]), None)
    return {
        "job_id": job_row["job_id"],
        "job_state": job_row["job_state"],
        "reason": job_row["reason"],
        "classes": dict(Counter(each.kind for each in verdicts if each is not None and not each.over)),
        "verdict": first.as_dict() if first else None,
        "files": [
            {
                "file_id": row["file_id"],
                "file_state": row["file_state"],
                "source": row["source_surl"],
                "destination": row["dest_surl"],
                "reason": row["reason"],
                "error_class": row["error_class"],
                "awaits": awaits(row, unreachable, now, rules),
                "verdict": found.as_dict() if found else None,
                "attempts": [_attempt(each) for each in tries.get(row["file_id"], ())],
            }
            for row, found in zip(file_rows, verdicts, strict=True)
        ],
    }


def _attempt(row: Row) -> Json:
    return {
        "attempt": row["attempt"],
        "started": timestamp(row["started"]),
        "ended": timestamp(row["ended"]),
        "outcome": row["outcome"],
        "error_class": row["error_class"],
        "reason": row["reason"],
        "steps": row["steps"],
    }


def awaits(row: Row, unreachable: Mapping[str, Row], now: datetime, policy: Policy | None = None) -> str | None:
    """What a file waits for, in words; None if it waits for nothing."""
    if row["busy"] and row["file_state"] != FileState.ACTIVE:
        return f"the removal of what an aborted copy may have left, at {timestamp(row['clean_at']) or 'this moment'}"
    if row["file_state"] == FileState.ACTIVE:
        return f"the end of the copy, {row['transferred']} bytes so far"
    if row["file_state"] != FileState.SUBMITTED:
        return None
    return _before_its_start(row, unreachable, now, policy or Policy())


def _before_its_start(row: Row, unreachable: Mapping[str, Row], now: datetime, policy: Policy) -> str:
    if ban := policy.ban(row["source_host"], row["dest_host"], row["vo_name"]):
        return f"the end of a ban: {ban.words}"
    for host in (row["dest_host"], row["source_host"]):
        if host in unreachable:
            trouble = unreachable[host]
            return f"{host} to be reachable, tried again at {timestamp(trouble['paused_until'])}: {trouble['reason']}"
    if row["not_before"] > now:
        return f"its next attempt at {timestamp(row['not_before'])}"
    return f"a free slot from {row['source_host']} to {row['dest_host']}"


def verdict(row: Row, tries: Sequence[Row], unreachable: Mapping[str, Row], policy: Policy) -> Verdict | None:
    """What is wrong with a file; None if nothing is.

    Args:
        row: of ``files`` with ``vo_name``.
        tries: its attempts, in order.
        unreachable: storage elements that could not be reached.
        policy: what the operator decided.
    """
    if row["file_state"] == FileState.CANCELED:
        return _decided(row["reason"] or "canceled", "submit again if it is still wanted")
    if row["file_state"] == FileState.SUBMITTED and (found := _kept_waiting(row, unreachable, policy)):
        return found
    failures = [each for each in tries if each["error_class"]]
    last = failures[-1] if failures else row if row["error_class"] else None
    if last is None:
        return None
    match = _REASON.match(last["reason"] or "")
    side = Side(match[1]) if match else Side.TRANSFER
    host = {Side.SOURCE: row["source_host"], Side.DESTINATION: row["dest_host"]}.get(side)
    cause = match[3] if match else str(last["reason"])
    over = row["file_state"] == FileState.FINISHED
    return _failed(ErrorClass(last["error_class"]), side, host, cause, over=over)


def _kept_waiting(row: Row, unreachable: Mapping[str, Row], policy: Policy) -> Verdict | None:
    if ban := policy.ban(row["source_host"], row["dest_host"], row["vo_name"]):
        return _decided(ban.words, "wait for the end of the ban, or ask the operator")
    for host, side in ((row["dest_host"], Side.DESTINATION), (row["source_host"], Side.SOURCE)):
        if host in unreachable:
            match = _REASON.match(unreachable[host]["reason"])
            return _failed(ErrorClass.network, side, host, match[3] if match else unreachable[host]["reason"])
    return None


def _decided(cause: str, do: str) -> Verdict:
    return Verdict(POLICY, Layer.policy, None, None, cause, "somebody decided so", do)


def _failed(kind: ErrorClass, side: Side, host: str | None, cause: str, *, over: bool = False) -> Verdict:
    named = host or "one of the two elements"
    words = {
        "host": named,
        "side": side.lower(),
        "name": named.rpartition(":")[0] or named,
        "scope": "storage.read" if side is Side.SOURCE else "storage.modify",
    }
    return Verdict(kind, _LAYERS[kind], side, host, cause, _SAYS[kind].format(**words), _DO[kind].format(**words), over)
