from __future__ import annotations

import uuid
from typing import Any

import pytest

from boathouse.apps.transfers.states import JobType
from boathouse.apps.transfers.submission import LONGEST_QUEUE_S, Submission, deterministic_id, parse, priority
from boathouse.errors import InputError

FILE = {
    "sources": ["davs://a/lake/f"],
    "destinations": ["davs://b/lake/f"],
    "source_tokens": ["s.s.s"],
    "destination_tokens": ["d.d.d"],
    "metadata": {"request_id": "1"},
    "filesize": 3,
    "checksum": "ADLER32:00000001",
    "selection_strategy": "orderly",
    "activity": "User Subscriptions",
}
HTTPS_OF = {"a:1094": "a:443", "b:4": "b:1", "door:5": "door:2"}


def submitted(file: dict[str, Any] | None = None, **params: object) -> Submission:
    return parse(
        {"files": [{**FILE, **(file or {})}], "params": params},
        files_per_job=10,
        doors={"b:1": "door:2"},
        https_of=HTTPS_OF,
    )


def test_a_job_as_rucio_sends_it() -> None:
    job = submitted(
        verify_checksum="both", overwrite=True, priority=4, job_metadata={"issuer": "rucio"}, bring_online=None
    )
    assert (job.job_type, job.overwrite, job.verify, job.priority) == (JobType.N, True, True, 4)
    (transfer,) = job.transfers
    assert transfer.sources[0].url == "https://a/lake/f"
    assert transfer.destination.token == "d.d.d"
    assert transfer.metadata == {"request_id": "1"}


def test_defaults_are_those_of_fts3() -> None:
    job = parse(
        {"files": [{"sources": ["davs://a/f"], "destinations": ["davs://b/f"], "destination_tokens": ["t"]}]},
        files_per_job=1,
        doors={},
        https_of={},
    )
    assert (job.overwrite, job.verify, job.priority, job.attempts, job.queue_s) == (False, False, 3, None, None)
    assert job.transfers[0].sources[0].token is None


def test_alternative_sources_make_another_type_of_job() -> None:
    assert submitted({"sources": ["davs://a/f", "davs://c/f"], "source_tokens": ["t", None]}).job_type is JobType.R


@pytest.mark.parametrize(("retry", "attempts"), [(None, None), (0, None), (-1, 1), (1, 2), (3, 4), (10**6, 101)])
def test_retry_as_fts3_counts_it(retry: int | None, attempts: int | None) -> None:
    assert submitted(retry=retry).attempts == attempts


@pytest.mark.parametrize(
    ("text", "seconds"), [(None, None), (0, None), (2, 7200), ("30s", 30), ("5m", 300), ("1h", 3600)]
)
def test_time_in_the_queue_is_in_hours_unless_it_says_otherwise(text: object, seconds: float | None) -> None:
    assert submitted(max_time_in_queue=text).queue_s == seconds


@pytest.mark.parametrize(("wanted", "given_"), [(None, 3), (0, 1), (1, 1), ("4", 4), (99, 5), (-7, 1)])
def test_priorities_outside_the_range_are_taken_as_its_ends(wanted: object, given_: int) -> None:
    assert priority(wanted) == given_


@pytest.mark.parametrize("value", [True, 1.5, "high", [], {}, "--5", "-", "9" * 5000, "²"])
def test_what_is_no_priority(value: object) -> None:
    with pytest.raises(InputError):
        priority(value)


def test_a_fault_names_its_place_and_never_a_token() -> None:
    with pytest.raises(InputError, match=r"files\[0\]: destination_tokens") as caught:
        submitted({"destination_tokens": ["secret token"]})
    assert "secret token" not in str(caught.value)


@pytest.mark.parametrize("value", ["none", False, None])
def test_checksums_are_not_compared_on_request(value: object) -> None:
    assert not submitted(verify_checksum=value).verify


def test_a_deterministic_id() -> None:
    base = uuid.uuid4()
    assert deterministic_id(base, "cms", "sid") == uuid.uuid5(uuid.uuid5(base, "cms"), "sid")
    assert submitted(id_generator="deterministic", sid="1").sid == "1"
    for params in ({"id_generator": "deterministic"}, {"id_generator": "other"}):
        with pytest.raises(InputError):
            submitted(**params)


def test_a_destination_with_a_door_is_copied_to_there_and_shown_as_it_was_named() -> None:
    (transfer,) = submitted({"destinations": ["davs://b:1/lake/f"], "sources": ["davs://b:1/lake/other"]}).transfers
    assert (transfer.destination.surl, transfer.destination.url) == ("davs://b:1/lake/f", "https://door:2/lake/f")
    assert transfer.sources[0].url == "https://b:1/lake/other"


def test_a_root_url_is_copied_over_https_and_shown_as_it_was_named() -> None:
    (transfer,) = submitted({"destinations": ["root://B:4//lake/f"], "sources": ["root://a//lake/f"]}).transfers
    assert (transfer.destination.surl, transfer.destination.url) == ("root://B:4//lake/f", "https://door:2/lake/f")
    assert transfer.sources[0].url == "https://a/lake/f"


@pytest.mark.parametrize("other", ["davs://door:2/lake/f", "root://b:4//lake/f", "roots://door:5//lake/f"])
def test_an_element_and_its_door_are_one_destination_in_either_protocol(other: str) -> None:
    files = [{**FILE, "destinations": [url]} for url in ("davs://b:1/lake/f", other)]
    with pytest.raises(InputError, match="same destination twice"):
        parse({"files": files}, files_per_job=10, doors={"b:1": "door:2"}, https_of=HTTPS_OF)


@pytest.mark.parametrize(
    "file",
    [
        {"destinations": ["davs://b/lake/f?v=2"]},
        {"sources": ["davs://b:1/lake/f%3F"]},
        {"sources": ["davs://b:1/lake/f?authz=Bearer%20x&sig=1"]},
        {"destinations": ["davs://b:1/lake/f?sig=1"]},
        {"sources": [f"davs://a/{number}" for number in range(17)], "source_tokens": None},
        {"destination_tokens": ["x" * 8193]},
        {"metadata": {"note": "x" * 20_000}},
    ],
)
def test_what_would_harm_others_is_refused(file: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        submitted(file)


def test_a_source_elsewhere_may_have_a_query() -> None:
    (transfer,) = submitted({"sources": ["https://a/lake/f?X-Sign=a%2Fb"]}).transfers
    assert transfer.sources[0].url == "https://a/lake/f?X-Sign=a%2Fb"


def test_no_wait_is_longer_than_a_calendar() -> None:
    assert submitted(max_time_in_queue="999999999h").queue_s == LONGEST_QUEUE_S
