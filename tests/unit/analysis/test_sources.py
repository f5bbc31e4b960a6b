from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from XRootD.client.responses import XRootDStatus

from boathouse.analysis.sources import (
    Access,
    HttpsSource,
    RootSource,
    _groups,
    _pieces,
    _raise_for,
    _with_login,
    source_for,
)
from boathouse.errors import AuthError, BoathouseError, StorageError

URL = "root://127.0.1.11:1094//lake/cms/x.root"
OPENING = "[ERROR] Server responded with an error:"


@given(st.integers(0, 10_000_000), st.integers(1, 9_000_000))
def test_pieces_of_a_vector_read_cover_the_range(start: int, length: int) -> None:
    pieces = _pieces((start, start + length))
    assert pieces[0][0] == start
    assert sum(size for _, size in pieces) == length
    assert all(0 < size <= 2_097_136 for _, size in pieces)


@given(st.lists(st.tuples(st.integers(0, 10**8), st.integers(1, 3 * 10**6)), max_size=40), st.none() | st.just(32_768))
def test_groups_keep_every_range_in_order(pairs: list[tuple[int, int]], gap: int | None) -> None:
    ranges = sorted({(start, start + size) for start, size in pairs})
    groups = _groups(ranges, gap)
    assert [each for group in groups for each in group] == ranges
    if gap is not None:
        assert all(b[0] - a[1] <= gap for group in groups for a, b in itertools.pairwise(group))


def test_a_new_token_makes_a_new_connection() -> None:
    url = "root://cache:1094//roots://element:1095//lake/cms/x.root"
    first, second = _with_login(url, "token-1"), _with_login(url, "token-2")
    assert first != second
    assert first.endswith("@cache:1094//roots://element:1095//lake/cms/x.root")
    assert _with_login(first, "token-2") == second
    login = first.removeprefix("root://").partition("@")[0]
    assert len(login) == 8
    assert login.isalnum()


def test_readers_by_scheme() -> None:
    assert source_for("root://x//y") is RootSource
    assert source_for("https://x/y") is HttpsSource
    assert source_for("/data/y.root") is None


def test_the_token_itself_is_in_no_variable(tmp_path) -> None:
    (tmp_path / "token").write_text("secret\n")
    access = Access(str(tmp_path / "token"), "/ca.pem")
    assert access.token() == "secret"
    assert "secret" not in "".join(access.environment().values())
    assert access.environment()["BEARER_TOKEN_FILE"] == str(tmp_path / "token")


REFUSED, MISSING, FAILED = "the storage refused the token", "the storage has no such file", "the storage failed"


@pytest.mark.parametrize(
    ("code", "number", "message", "expected"),
    [
        (
            *(400, 3010, f"{OPENING} [3010] Unable to open /lake/cms/x y.root; permission denied\n"),
            (AuthError, REFUSED, "permission denied"),
        ),
        (
            *(204, 0, "[FATAL] Auth failed: No protocols left to try"),
            (AuthError, REFUSED, "Auth failed: No protocols left to try"),
        ),
        (
            *(400, 3011, f"{OPENING} [3011] Unable to open /lake/cms/x.root; no such file or directory\n"),
            (StorageError, MISSING, "no such file or directory"),
        ),
        (
            *(400, 3010, f"{OPENING} [3010] Unable to open /lake/cms/x.root; permission denied; token expired\n"),
            (AuthError, REFUSED, "permission denied; token expired"),
        ),
        (400, 3014, f"{OPENING} [3014] [FATAL] Connection error\n", (StorageError, FAILED, "Connection error")),
        (110, 11, "[FATAL] TLS error: no certificate", (StorageError, FAILED, "TLS error: no certificate")),
        (101, 0, "", (StorageError, FAILED, "no reason given")),
    ],
)
def test_what_the_xrootd_client_says_becomes_an_error_for_people(
    code: int, number: int, message: str, expected: tuple[type[BoathouseError], str, str]
) -> None:
    with pytest.raises(BoathouseError) as caught:
        _raise_for(XRootDStatus({"ok": False, "code": code, "errno": number, "message": message}), URL)
    assert (type(caught.value), caught.value.what, caught.value.got) == expected
    assert caught.value.where == URL
    assert str(caught.value.remedy).startswith("boathouse ")


def test_a_long_reason_is_cut() -> None:
    with pytest.raises(StorageError) as caught:
        _raise_for(XRootDStatus({"ok": False, "code": 1, "errno": 0, "message": "[ERROR] " + "word " * 200}), URL)
    assert len(str(caught.value.got)) <= 120
