from __future__ import annotations

import threading

import pytest

from boathouse.analysis.tokens import TokenFile
from boathouse.errors import AuthError


def test_the_file_is_private_and_goes_away() -> None:
    with TokenFile(lambda: "first") as token:
        assert token.path.read_text() == "first"
        assert token.path.stat().st_mode & 0o777 == 0o600
        assert token.path.parent.stat().st_mode & 0o777 == 0o700
    assert not token.path.parent.exists()


def test_a_new_token_replaces_the_old_one() -> None:
    tokens = iter(["first", "second"])
    asked_again = threading.Event()

    def supplier() -> str:
        token = next(tokens, None)
        if token is None:
            asked_again.set()
        return token or "second"

    with TokenFile(supplier, look_every_s=0.01) as token:
        assert asked_again.wait(10)
        assert token.path.read_text() == "second"
        assert [path.name for path in token.path.parent.iterdir()] == ["token"]


def test_an_outage_keeps_the_old_token(caplog: pytest.LogCaptureFixture) -> None:
    failed = threading.Event()
    answers = iter(["first"])

    def supplier() -> str:
        for answer in answers:
            return answer
        failed.set()
        raise AuthError("the issuer is down")

    with TokenFile(supplier, look_every_s=0.01) as token:
        assert failed.wait(10)
        assert token.path.read_text() == "first"
    assert "the issuer is down" in caplog.text


def test_no_token_at_all_is_an_error() -> None:
    def supplier() -> str:
        raise AuthError("nobody is logged in")

    with pytest.raises(AuthError), TokenFile(supplier):
        pass
