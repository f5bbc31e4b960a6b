"""URLs and answers of storage, and of transfer jobs, without a network."""

from __future__ import annotations

import hashlib

import pytest
from boathouse_rucio_site import davs, get_algorithms, tokens
from boathouse_rucio_site.transfertool import _ended
from rucio.common import exception

ATTRIBUTES = {"scheme": "davs", "hostname": "127.0.1.11", "port": 8443, "prefix": "/lake/"}


class Response:
    def __init__(self, status_code: int) -> None:
        self.status_code = status_code
        self.url = "https://127.0.1.11:8443/lake/cms/f"
        self.request = type("Request", (), {"method": "DELETE"})


class Session:
    """Answers what it is told to, and remembers what was asked."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.asked: list[tuple[str, str]] = []

    def request(self, method: str, url: str, **_: object) -> Response:
        self.asked.append((method, url))
        return Response(self.statuses.pop(0))

    def close(self) -> None: ...


class Source:
    def forget(self, _: str) -> None: ...


@pytest.fixture
def protocol(monkeypatch):
    monkeypatch.setattr(tokens, "source", Source)
    made = davs.Default.__new__(davs.Default)
    made.attributes = {**ATTRIBUTES, "extended_attributes": {"remove_empty_directories": True}}
    made.auth_token = "token"
    made.connect()
    return made


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("davs://127.0.1.11:8443/lake/cms/f", "https://127.0.1.11:8443/lake/cms/f"),
        ("https://127.0.1.11:8443/lake/cms/f", "https://127.0.1.11:8443/lake/cms/f"),
        ("cms/f", "https://127.0.1.11:8443/lake/cms/f"),
        ("/cms/f", "https://127.0.1.11:8443/lake/cms/f"),
        ("", "https://127.0.1.11:8443/lake/"),
    ],
)
def test_urls(protocol, given, expected):
    assert protocol.path2pfn(given) == expected


@pytest.mark.parametrize(
    "given",
    [
        "davs://127.0.1.11:8443/lake/user/bob/../../magic/f",
        "https://127.0.1.11:8443/lake/user/bob/./f",
        "https://127.0.1.11:8443/lake/user/bob/%2e%2E/magic/f",
        "https://127.0.1.11:8443/lake/user/bob/%252e%252e/magic/f",
        "https://127.0.1.11:8443/lake/user/bob/..%2fmagic/f",
        "https://127.0.1.11:8443/lake/user/bob/..%5Cmagic/f",
        "https://127.0.1.11:8443/lake/user/bob/%252525252e/f",
        "user/bob/16/8e/a/../../../../../magic/f",
        "..",
    ],
)
def test_a_path_that_leads_elsewhere_is_never_sent(protocol, given):
    """``requests`` resolves dot segments, and would delete the file of somebody else."""
    protocol.session = session = Session(200, 200)
    for action in (protocol.delete, protocol.exists):
        with pytest.raises(exception.InvalidObject, match="dot segments"):
            action(given)
    assert session.asked == []


def test_tls_is_verified_and_the_environment_cannot_change_it(protocol):
    assert protocol.session.verify is not False
    assert protocol.session.trust_env is False


def test_without_a_token_nothing_is_sent(protocol):
    protocol.auth_token = None
    with pytest.raises(exception.RSEAccessDenied, match="no token"):
        protocol.connect()


@pytest.mark.parametrize("status", [200, 202, 204])
def test_all_good_answers_to_delete(protocol, status):
    protocol.session = Session(status)
    protocol.delete("davs://127.0.1.11:8443/lake/cms/f")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, exception.SourceNotFound),
        (401, exception.RSEAccessDenied),
        (403, exception.RSEAccessDenied),
        (500, exception.ResourceTemporaryUnavailable),
        (503, exception.ResourceTemporaryUnavailable),
        (405, exception.RucioException),
        (301, exception.RucioException),
    ],
)
def test_bad_answers_to_delete(protocol, status, error):
    protocol.session = Session(status)
    with pytest.raises(error):
        protocol.delete("davs://127.0.1.11:8443/lake/cms/f")


def test_directories_are_removed_upwards_but_not_that_of_the_scope(protocol):
    protocol.session = session = Session(200, 200, 200, 200)
    protocol.delete("davs://127.0.1.11:8443/lake/cms/ab/cd/f")
    protocol.close()
    base = "https://127.0.1.11:8443/lake/cms/ab"
    assert session.asked == [("DELETE", f"{base}/cd/f"), ("DELETE", f"{base}/cd"), ("DELETE", base)]


def test_a_directory_with_content_ends_the_removal(protocol):
    protocol.session = session = Session(200, 409)
    protocol.delete("davs://127.0.1.11:8443/lake/cms/ab/cd/f")
    protocol.close()
    assert len(session.asked) == 2


def test_directories_of_other_storage_are_left_alone(protocol):
    """Elsewhere DELETE on a directory removes what is in it."""
    protocol.attributes["extended_attributes"] = None
    protocol.session = session = Session(204)
    protocol.delete("davs://127.0.1.11:8443/lake/cms/ab/cd/f")
    protocol.close()
    assert len(session.asked) == 1


def test_a_new_replica_on_a_non_deterministic_rse_lies_where_it_would_on_another():
    path = get_algorithms()["non_deterministic_pfn"]["boathouse"]("dataset", "cms", "example.root")
    digest = hashlib.md5(b"cms:example.root").hexdigest()
    assert path == f"/cms/{digest[:2]}/{digest[2:4]}/example.root"


@pytest.mark.parametrize("name", ["../f", "a/../f", "a//f", "a/", "/f", "./f", "%2e%2e/f", "a%2f..%2ff", ""])
def test_no_path_is_made_of_a_name_that_leads_elsewhere(name):
    with pytest.raises(exception.InvalidObject):
        get_algorithms()["non_deterministic_pfn"]["boathouse"]("dataset", "cms", name)


def entry(state: str, source: str = "a") -> dict[str, str]:
    return {"file_state": state, "source_surl": source}


@pytest.mark.parametrize(
    ("states", "ended"),
    [
        (["ACTIVE"], None),
        (["SUBMITTED", "NOT_USED"], None),
        (["FAILED", "ACTIVE"], None),
        (["FINISHED"], "FINISHED"),
        (["FAILED", "FINISHED", "NOT_USED"], "FINISHED"),
        (["FINISHED", "NOT_USED"], "FINISHED"),
        (["FAILED", "FAILED"], "FAILED"),
        (["CANCELED"], "CANCELED"),
        (["NOT_USED", "NOT_USED"], "NOT_USED"),
    ],
)
def test_how_a_file_of_several_sources_ended(states, ended):
    found = _ended([entry(state) for state in states])
    assert (found and found["file_state"]) == ended
