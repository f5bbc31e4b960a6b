"""The table of faults: each on real storage elements, behind proxies that misbehave where a server does not.

All files of the table are submitted at once to one service, each with hosts of its own, since a fault is a storage
element's: the table takes as long as its slowest line.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from boathouse.testing.pki import Authority
from boathouse.testing.proxy import Fault, Proxy, Then
from boathouse.testing.wait import wait_for

from .box import Box
from .equipment import DESTINATION, SOURCE, TRANSFERS

SIZE = 3_000_000
BIG = SIZE // 3
NOWHERE = "nowhere.invalid:1094"
READ, WRITE = "storage.read:/lake", "storage.read:/lake storage.modify:/lake"
ENDED = ("FINISHED", "FAILED", "CANCELED")
LIMITS = {
    # Markers come every 5 seconds: what moves slowly must be seen to move.
    "stall_s": 8.0,
    "answer_s": 30.0,
    "connect_s": 15.0,
    "retry_delay_s": 0.2,
    "pause_s": 1.0,
    "patience_s": 20.0,
    "clean_again_s": 1.0,
}

Tokens = Callable[[Box], str]


@dataclass(frozen=True)
class Case:
    """One line of the table: what is wrong, and what must be told of it."""

    fault: str
    tries: tuple[str | None, ...]
    """Error class of each attempt, in order; None for the one that succeeds. ``network`` may repeat."""
    reason: str = ""
    """Expression that the reason of the first attempt matches."""
    at_source: tuple[Fault, ...] | None = None
    """Faults of a proxy before the source; no proxy if None."""
    at_destination: tuple[Fault, ...] | None = None
    source_token: Tokens | None = None
    destination_token: Tokens | None = None
    source_host: str = ""
    destination_host: str = ""
    away: bool = False
    """Whether the proxies do not listen until some attempts have failed."""
    stranger: bool = False
    """Whether the proxies have a certificate that nobody trusts."""
    missing: bool = False
    there: int | None = None
    """Bytes of a half-written destination that an earlier attempt left."""
    params: dict[str, object] = field(default_factory=dict)

    @property
    def succeeds(self) -> bool:
        return self.tries[-1] is None


def signed(audience: str, scope: str, **claims: object) -> Tokens:
    return lambda box: box.issuer.token(audience, scope, **claims)  # type: ignore[arg-type]


def withdrawn(audience: str, scope: str) -> Tokens:
    """A token whose signature key is not the issuer's any more: how tokens are revoked that storage checks alone.

    Of a single one the service knows: see ``test_transfers_renewal.py``.
    """
    return lambda box: box.withdrawn_issuer.sign(
        {"iss": box.issuer.url, "sub": "rucio", "client_id": "rucio", "aud": audience, "scope": scope}
    )


def from_the_future(audience: str, scope: str) -> Tokens:
    """A token of an issuer whose clock is a quarter of an hour ahead."""

    def token(box: Box) -> str:
        start = int(time.time()) + 900
        return box.issuer.token(audience, scope, iat=start, nbf=start)

    return token


def cut(times: int | None = None) -> Fault:
    return Fault({"GET"}, times, after_bytes=BIG, then=Then.cut)


def answering(status: int, times: int | None, *methods: str) -> Fault:
    return Fault(methods, times, status)


CASES = (
    Case("source token expired", ("auth",), "SOURCE .*ended at", source_token=signed(SOURCE, READ, lifetime_s=-600)),
    Case(
        "destination token expired",
        ("auth",),
        "DESTINATION .*ended at",
        destination_token=signed(DESTINATION, WRITE, lifetime_s=-600),
    ),
    Case("source token of wrong scope", ("auth",), "SOURCE .*403", source_token=signed(SOURCE, READ + "/other")),
    Case(
        "destination token of wrong scope",
        ("auth",),
        "DESTINATION .*permission denied",
        destination_token=signed(DESTINATION, "storage.read:/lake storage.modify:/lake/other"),
    ),
    Case("source token of a withdrawn key", ("auth",), "SOURCE .*403", source_token=withdrawn(SOURCE, READ)),
    Case(
        "destination token of a withdrawn key",
        ("auth",),
        "DESTINATION .*40[13]",
        destination_token=withdrawn(DESTINATION, WRITE),
    ),
    Case("issuer's clock ahead, source", ("auth",), "SOURCE .*403", source_token=from_the_future(SOURCE, READ)),
    Case(
        "issuer's clock ahead, destination",
        ("auth",),
        "DESTINATION .*40[13]",
        destination_token=from_the_future(DESTINATION, WRITE),
    ),
    Case("source missing", ("source",), "SOURCE .*404", missing=True),
    Case("source dies in mid-transfer once", ("source", None), "SOURCE .*Failure when receiving data", (cut(1),)),
    Case("source dies in mid-transfer always", ("source",) * 3, "SOURCE", (cut(),)),
    Case(
        "source stalls once",
        ("timeout", None),
        "TRANSFER .*no more for 8 s",
        (Fault({"GET"}, 1, after_bytes=BIG, then=Then.stall),),
    ),
    Case(
        "bytes change on the way once",
        ("checksum", None),
        "checksum",
        (Fault({"GET"}, 1, after_bytes=9, then=Then.flip),),
    ),
    Case(
        "bytes change on the way always",
        ("checksum",) * 3,
        "checksum",
        (Fault({"GET"}, after_bytes=9, then=Then.flip),),
    ),
    Case("source unavailable for a while", ("network", None), "SOURCE .*503", (answering(503, 4),)),
    Case("source's server fails for a while", ("source", "source", None), "SOURCE .*500", (answering(500, 2),)),
    Case("source's server fails", ("source",) * 3, "SOURCE .*500", (answering(500, None),)),
    Case("source refuses connections for a while", ("network", None), "SOURCE", (), away=True),
    Case("source's certificate is a stranger's", ("source",) * 3, "SOURCE .*(SSL|TLS|certificate)", (), stranger=True),
    Case("source's name is not known", ("network",), "SOURCE .*resolve", source_host=NOWHERE),
    Case("source slow", (None,), "", (Fault({"GET"}, bytes_per_s=SIZE // 11),)),
    Case(
        "destination unavailable for a while",
        ("network", None),
        "DESTINATION .*503",
        at_destination=(answering(503, 3),),
    ),
    Case(
        "destination's server fails for a while",
        ("destination", "destination", None),
        "DESTINATION .*500",
        at_destination=(answering(500, 2, "COPY"),),
    ),
    Case(
        "destination's server fails",
        ("destination",) * 3,
        "DESTINATION .*500",
        at_destination=(answering(500, None, "COPY"),),
    ),
    Case("destination refuses connections for a while", ("network", None), "DESTINATION", at_destination=(), away=True),
    Case(
        "destination's certificate is a stranger's",
        ("destination",) * 3,
        "DESTINATION .*TLS",
        at_destination=(),
        stranger=True,
    ),
    Case("destination's name is not known", ("network",), "DESTINATION .*cannot be reached", destination_host=NOWHERE),
    Case(
        "destination slow",
        (None,),
        at_source=(Fault({"GET"}, bytes_per_s=SIZE // 7),),
        at_destination=(Fault({"COPY"}, bytes_per_s=200),),
    ),
    Case(
        "destination's answer breaks off",
        ("destination", None),
        "DESTINATION",
        at_destination=(Fault({"COPY"}, 1, then=Then.cut),),
    ),
    Case(
        "destination cannot be checked for a while",
        ("network", None),
        "DESTINATION .*503",
        at_destination=(answering(503, 1, "HEAD"),),
    ),
    Case("half-written destination", (None,), there=BIG),
    Case(
        "half-written destination that may not be replaced",
        ("exists",),
        "DESTINATION .*file exists",
        there=BIG,
        params={"overwrite": False},
    ),
    Case(
        "source dies and the partial file cannot be removed for a while",
        ("source",),
        "SOURCE",
        (cut(),),
        (answering(503, 2, "DELETE"),),
        params={"retry": -1},
    ),
    Case("destination full", ("space",) * 3, "DESTINATION .*no space left on device", destination_host="full"),
    Case(
        # XRootD 6.2.0 does not say here that there is no space.
        "destination full in mid-transfer",
        ("destination",) * 3,
        "DESTINATION .*filesystem write failure",
        destination_host="small",
    ),
    Case(
        "destination slow to take what is sent",
        (None,),
        at_destination=(answering(405, None, "COPY"), Fault({"PUT"}, taken_per_s=SIZE // 9)),
    ),
)


@dataclass
class Line:
    """What became of a line of the table."""

    path: str
    data: bytes
    job_id: str
    source: Proxy | None
    destination: Proxy | None
    why: dict[str, Any] = field(default_factory=dict)


class Table:
    """All lines, submitted to one service and carried to their ends."""

    def __init__(self, box: Box, strange: Authority) -> None:
        self._box = box
        self._proxies = {
            (case.fault, side): box.proxy(storage, strange if case.stranger else None)
            for case in CASES
            for side, storage, faults in (
                ("source", box.source, case.at_source),
                ("destination", box.destination, case.at_destination),
            )
            if faults is not None
        }
        hosts = [proxy.host for proxy in self._proxies.values()]
        known = [box.source.host, box.destination.host, box.full.host, box.small.host, NOWHERE, *hosts]
        self.service = box.service("faults", limits=LIMITS, destinations=known, operators=["operator"])
        self.lines: dict[str, Line] = {}

    def run(self) -> None:
        """Submit everything, and wait until everything has ended and is clean."""
        for case in CASES:
            for side, faults in (("source", case.at_source), ("destination", case.at_destination)):
                if faults is not None:
                    self._proxies[case.fault, side].inject(*faults)
                    if not case.away:
                        self._proxies[case.fault, side].start()
            self.lines[case.fault] = self._submit(case)
        for case in CASES:
            if case.away:
                line = self.lines[case.fault]
                wait_for("some attempts", lambda line=line: len(self._why(line)["attempts"]) >= 2)
                for proxy in (line.source, line.destination):
                    if proxy:
                        proxy.start()
        for line in self.lines.values():
            wait_for(f"{line.path} ended", lambda line=line: self._why(line)["file_state"] in ENDED, timeout_s=180)
        wait_for("all is clean", lambda: not self.service.rows("SELECT 1 FROM files WHERE busy"), timeout_s=120)
        for line in self.lines.values():
            line.why = self._why(line)

    def stop(self) -> None:
        """End the service and the proxies."""
        self.service.stop()
        for proxy in self._proxies.values():
            proxy.stop()

    def _why(self, line: Line) -> dict[str, Any]:
        (file,) = self.service.why(line.job_id)
        return file

    def _submit(self, case: Case) -> Line:
        box = self._box
        data = os.urandom(SIZE)
        path = "/lake/cms/faults/" + re.sub(r"\W+", "-", case.fault)
        if not case.missing:
            box.put(path, data)
        if case.there is not None:
            box.put(path, data[: case.there], box.destination)
        source = self._proxies.get((case.fault, "source"))
        destination = self._proxies.get((case.fault, "destination"))
        source_host = case.source_host or (source.host if source else box.source.host)
        destination_host = case.destination_host or (destination.host if destination else box.destination.host)
        tokens: dict[str, Any] = {}
        if case.source_token:
            tokens["source_tokens"] = [case.source_token(box)]
        if case.destination_token:
            tokens["destination_token"] = case.destination_token(box)
        if element := {"full": box.full, "small": box.small}.get(destination_host):
            destination_host = element.host
            tokens["destination_token"] = box.issuer.token(element.address, WRITE)
        file = box.file(path, data, sources=[f"davs://{source_host}{path}"], **tokens)
        file["destinations"] = [f"davs://{destination_host}{path}"]
        return Line(path, data, self.service.submit(file, **case.params), source, destination)


@pytest.fixture(scope="module")
def table(box: Box, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    box.start_full()
    box.start_small(f"{SIZE // 2}")
    made = Table(box, Authority(tmp_path_factory.mktemp("stranger")))
    made.service.start()
    try:
        made.run()
        yield made
    finally:
        made.stop()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.fault.replace(" ", "-"))
def test_a_fault_ends_as_the_table_says(box: Box, table: Table, case: Case) -> None:
    line = table.lines[case.fault]
    why = line.why
    classes = [attempt["error_class"] for attempt in why["attempts"]]
    told = [each for number, each in enumerate(classes) if each != "network" or each not in classes[:number]]
    assert tuple(told) == case.tries, why
    assert why["file_state"] == ("FINISHED" if case.succeeds else "FAILED"), why
    if case.reason:
        assert re.search(case.reason, why["attempts"][0]["reason"]), why["attempts"][0]["reason"]
    holds = box.destination.holds(line.path)
    if case.there is not None and not case.succeeds:
        assert holds == line.data[: case.there], "a file that was there stays"
    else:
        assert holds == (line.data if case.succeeds else None)
    assert not box.full.has(line.path)
    assert not box.small.has(line.path)
    if line.source and case.succeeds:
        assert line.source.seen.whole["GET"] <= len([each for each in classes if each in ("checksum", None)])


def test_after_all_faults_nothing_was_copied_twice_at_once(table: Table) -> None:
    overlaps = """
        SELECT f.dest_url FROM attempts a JOIN files f USING (file_id), attempts b JOIN files g USING (file_id)
        WHERE f.dest_url = g.dest_url AND (a.file_id, a.attempt) < (b.file_id, b.attempt)
          AND a.started < b.ended AND b.started < a.ended"""
    assert table.service.rows(overlaps) == []
    assert table.service.rows("SELECT 1 FROM tokens") == []


def test_after_all_faults_storage_holds_what_finished_and_nothing_else(box: Box, table: Table) -> None:
    kept = {line.path for case in CASES if case.succeeds or case.there for line in [table.lines[case.fault]]}
    directory: Path = box.destination.path("/lake/cms/faults")
    assert {f"/lake/cms/faults/{path.name}" for path in directory.iterdir()} == kept


def test_what_cannot_be_removed_is_listed_until_it_is(box: Box, table: Table) -> None:
    line = table.lines["source dies and the partial file cannot be removed for a while"]
    assert line.source
    assert line.destination
    line.source.inject(cut())
    line.destination.inject(answering(503, None, "DELETE"))
    path, data = f"{line.path}-2", os.urandom(SIZE)
    box.put(path, data)
    file = box.file(path, data, sources=[line.source.davs + path])
    job_id = table.service.submit({**file, "destinations": [line.destination.davs + path]}, retry=-1)
    assert table.service.finished(job_id)["job_state"] == "FAILED"
    others = {name: box.issuer.token(TRANSFERS, "fts", subject=name) for name in ("operator", "mallory")}

    def unclean(who: str | None = None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = table.service.request("GET", "/unclean", token=who and others[who]).body
        return found

    (first,) = unclean()
    wait_for("a removal was tried", lambda: unclean()[0]["next_try"] > first["next_try"])
    (told,) = unclean()
    assert (told["job_id"], told["dest_surl"], told["file_state"]) == (job_id, line.destination.davs + path, "FAILED")
    assert told["since"] < told["tried_until"]
    assert [each["job_id"] for each in unclean("operator")] == [job_id]
    assert unclean("mallory") == []
    line.destination.inject()
    wait_for("it is removed", lambda: not unclean())
    assert box.destination.holds(path) is None


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.fault.replace(" ", "-"))
def test_c4_the_verdict_names_the_class_of_the_fault(table: Table, case: Case) -> None:
    verdict = table.lines[case.fault].why["verdict"]
    failed = [each for each in case.tries if each is not None]
    if not failed:
        assert verdict is None
        return
    assert verdict["class"] == failed[-1]
    assert verdict["over"] is case.succeeds
    assert verdict["do"]
    last = [attempt for attempt in table.lines[case.fault].why["attempts"] if attempt["error_class"]][-1]
    assert verdict["cause"] in last["reason"]
    if "ended at" not in verdict["cause"]:
        assert any(step["answered"] for step in last["steps"]), "what each side answered is told"


LAYERS = {
    "source token expired": "token",
    "destination token of wrong scope": "token",
    "source token of a withdrawn key": "token",
    "source missing": "storage",
    "source's server fails": "storage",
    "destination's server fails": "storage",
    "bytes change on the way always": "storage",
    "source stalls once": "network",
    "source's name is not known": "network",
    "destination refuses connections for a while": "network",
    "destination full": "capacity",
    "destination full in mid-transfer": "storage",
    "half-written destination that may not be replaced": "policy",
}


@pytest.mark.parametrize("fault", LAYERS)
def test_a36_the_verdict_says_whether_network_storage_or_data_management_is_at_fault(table: Table, fault: str) -> None:
    verdict = table.lines[fault].why["verdict"]
    assert verdict["layer"] == LAYERS[fault]
    if verdict["side"] in ("SOURCE", "DESTINATION"):
        assert verdict["host"], "the element at fault is named"
