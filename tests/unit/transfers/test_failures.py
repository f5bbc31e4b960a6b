from __future__ import annotations

import re

import pytest

from boathouse.apps.transfers import failures
from boathouse.apps.transfers.failures import ErrorClass, Failure, Side, of_copy, of_status

S, D, T = Side.SOURCE, Side.DESTINATION, Side.TRANSFER
E = ErrorClass
HOSTS = {"source_host": "a:1", "destination_host": "b:1"}

# What destinations say of a copy, who is at fault, of which class, whether it is tried again. The first ones are
# XRootD 6.2.0 word for word.
SAID = [
    (
        404,
        "failure: HTTP response code said error: remote host returned '404 Not Found' while fetching file size, …",
        (S, E.source, False),
    ),
    (
        403,
        "failure: HTTP response code said error: remote host returned '403 Forbidden' while fetching file size",
        (S, E.auth, False),
    ),
    (500, "failure: remote host returned '500 Internal Server Error' while fetching file size", (S, E.source, True)),
    (503, "failure: remote host returned '503 Service Unavailable'", (S, E.network, True)),
    (403, "failure: Unable to create /lake/y; permission denied, local=/lake/y", (D, E.auth, False)),
    (
        500,
        "failure: Could not connect to server: internal server failure, local=/lake/y",
        (S, E.network, True),
    ),
    (500, "failure: Could not resolve hostname", (S, E.network, True)),
    (
        412,
        "failure: Mismatch between client-provided and remote server checksums: client = (adler=00000001)",
        (T, E.checksum, True),
    ),
    (202, "failure: Transferred a partial file", (S, E.source, True)),
    (202, "failure: Unable to write /lake/y; no space left on device", (D, E.space, True)),
    (
        202,
        "failure: Error when interacting with local filesystem: Unknown filesystem write failure.",
        (D, E.destination, True),
    ),
    (202, "failure: Timeout was reached", (T, E.timeout, True)),
    (202, "failure: SSL peer certificate or SSH remote key was not OK", (S, E.source, True)),
    (202, "failure: rejected PUT: something unheard of", (T, E.destination, True)),
    (202, "", (T, E.destination, True)),
    (401, "", (D, E.auth, False)),
    (500, "", (D, E.destination, True)),
    (503, "", (D, E.network, True)),
    (507, "", (D, E.space, True)),
    (504, "", (D, E.timeout, True)),
    (301, "moved", (D, E.destination, True)),
]


@pytest.mark.parametrize(("status", "text", "expected"), SAID)
def test_what_a_destination_says_of_a_copy(status: int, text: str, expected: tuple[Side, ErrorClass, bool]) -> None:
    failure = of_copy(status, text, **HOSTS)
    assert (failure.side, failure.kind, failure.again) == expected
    assert text in failure.cause


@pytest.mark.parametrize("name", ["quota", "tls", "checksum", "timeout", "no such file", "remote host returned '404'"])
def test_words_in_names_of_files_mean_nothing(name: str) -> None:
    path = f"/lake/cms/{name.replace(' ', '_')}.root"
    text = f"failure: Unable to create {path}; permission denied, local={path}, remote=https://h{path}"
    failure = of_copy(403, text, **HOSTS)
    assert (failure.side, failure.kind) == (D, E.auth)


def test_the_host_that_cannot_be_reached_is_named() -> None:
    assert of_copy(500, "failure: Could not connect to server", **HOSTS).host == "a:1"
    assert of_copy(503, "", **HOSTS).host == "b:1"


@pytest.mark.parametrize(
    ("side", "status", "kind", "again"),
    [
        (S, 404, E.source, False),
        (S, 500, E.source, True),
        (S, 401, E.auth, False),
        (D, 404, E.destination, True),
        (D, 400, E.destination, True),
        (D, 418, E.destination, True),
        (D, 599, E.destination, True),
        (D, 429, E.network, True),
        (D, 408, E.timeout, True),
    ],
)
def test_what_an_answer_to_us_means(side: Side, status: int, kind: ErrorClass, *, again: bool) -> None:
    failure = of_status(side, status, "text", "h")
    assert (failure.side, failure.kind, failure.again) == (side, kind, again)


def test_a_reason_is_one_bounded_line_with_the_cause_in_it() -> None:
    reason = Failure(S, E.auth, "first\n second" + "x" * 5000).because("third").reason
    assert reason.startswith("SOURCE [auth] first second")
    assert "\n" not in reason
    assert len(reason) == failures.LONGEST_REASON


def test_the_table_of_classes_is_complete_and_true() -> None:
    told = dict(re.findall(r"^``(\w+)``\s+(yes|no) ", failures.__doc__ or "", re.MULTILINE))
    assert told == {kind: "yes" if kind.retryable else "no" for kind in ErrorClass}


@pytest.mark.parametrize("scheme", ["https", "davs", "http"])
def test_a_reason_holds_no_query_of_a_url(scheme: str) -> None:
    """Signed URLs open a file for whoever reads them."""
    said = f"could not connect; remote={scheme}://h:1/f?X-Amz-Signature=SECRET&a=b while reading"
    reason = Failure(S, E.network, said).reason
    assert reason == f"SOURCE [network] could not connect; remote={scheme}://h:1/f?… while reading"
