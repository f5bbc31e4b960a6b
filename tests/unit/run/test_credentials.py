"""What caches show to a lake of somebody else's: for the cache's eyes only, renewed, never a token of our own."""

from __future__ import annotations

from pathlib import Path

import pytest

from boathouse.errors import InputError
from boathouse.run.local.account import Account
from boathouse.run.local.credentials import Credential, CredentialKeeper
from boathouse.testing.issuer import KeyIssuer

ME = Account("me", 0, 0, switch=False)
OWN = "https://localhost:1500"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "token"


@pytest.fixture
def shown(tmp_path: Path) -> tuple[Path, ...]:
    return tmp_path / "a", tmp_path / "b"


@pytest.fixture
def keeper(source: Path, shown: tuple[Path, ...]) -> CredentialKeeper:
    raw = {"federation": "aaa", "paths": list(map(str, shown)), "file": str(source)}
    return CredentialKeeper(Credential.load(raw), OWN, ME)


def test_a76_every_cache_gets_the_token_of_the_file_and_the_next_one(
    keeper: CredentialKeeper, source: Path, shown: tuple[Path, ...]
) -> None:
    issuer = KeyIssuer("https://aaa.example")
    for _ in range(2):
        token = issuer.sign({"sub": "lake"})
        source.write_text(f"{token}\n")
        keeper.keep()
        assert [(path.read_text(), path.stat().st_mode & 0o777) for path in shown] == [(token, 0o600)] * 2
    inode = shown[0].stat().st_ino
    keeper.keep()
    assert shown[0].stat().st_ino == inode, "written only when it is another one"


def test_a_credential_that_is_no_jwt_is_taken_as_it_is(
    keeper: CredentialKeeper, source: Path, shown: tuple[Path, ...]
) -> None:
    source.write_text("opaque")
    keeper.keep()
    assert shown[0].read_text() == "opaque"


def test_a76_a_proxy_is_its_chain_and_its_key(source: Path, shown: tuple[Path, ...]) -> None:
    raw = {"federation": "aaa", "paths": list(map(str, shown)), "file": str(source), "proxy": True}
    keeper = CredentialKeeper(Credential.load(raw), OWN, ME)
    one, key = "-----BEGIN CERTIFICATE-----\n", "-----BEGIN RSA PRIVATE KEY-----\n"
    for text in (f"{one}{key}", f"{one}{one}", "token"):
        source.write_text(text)
        with pytest.raises(InputError):
            keeper.keep()
    source.write_text(f"{one}{key}{one}")
    keeper.keep()
    assert shown[0].read_text() == f"{one}{key}{one}"


@pytest.mark.parametrize("text", [None, "", "two words", b"\xff", "own"])
def test_a76_what_cannot_be_shown_leaves_the_last_one(
    keeper: CredentialKeeper, source: Path, shown: tuple[Path, ...], text: str | bytes | None
) -> None:
    """One of the facility's own tokens among it: a federation could read the lake with it."""
    source.write_text("good")
    keeper.keep()
    source.unlink()
    if text == "own":
        text = KeyIssuer(OWN).sign({"sub": "alice"})
    if text is not None:
        source.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as caught:
        keeper.keep()
    assert shown[0].read_text() == "good"
    assert not isinstance(text, str) or not text or text not in str(caught.value)
    assert keeper.duty == "credential of aaa"
