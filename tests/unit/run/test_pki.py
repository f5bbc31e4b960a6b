from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from boathouse.plan.model import Certificate
from boathouse.run import pki

DAY = 86400.0
WANTED = Certificate("se-cnaf", ("127.0.1.11",), ("localhost",))


def own(path: Path) -> None:
    assert path.exists()


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    pki.ensure_authority(tmp_path, "laptop", own)
    return tmp_path


def openssl(*arguments: str | Path) -> str:
    return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=True).stdout


def test_a_certificate_verifies_against_the_bundle_and_the_hashed_directory(authority: Path) -> None:
    assert pki.ensure_certificate(authority, WANTED, 90 * DAY, own)
    chain = authority / "se-cnaf.pem"
    assert "OK" in openssl("verify", "-CAfile", authority / "bundle.pem", chain)
    assert "OK" in openssl("verify", "-CApath", authority / "hashed", "-no-CAfile", chain)


@pytest.mark.parametrize("name", ["laptop", "Émile  Zola", "a" * 40])
def test_the_hashed_name_is_the_one_that_openssl_computes(tmp_path: Path, name: str) -> None:
    pki.ensure_authority(tmp_path, name, own)
    (link,) = (tmp_path / "hashed").iterdir()
    assert link.name == openssl("x509", "-hash", "-noout", "-in", tmp_path / "ca.pem").strip() + ".0"


def test_addresses_are_names_too_because_xrootd_reads_only_those(authority: Path) -> None:
    pki.ensure_certificate(authority, WANTED, 90 * DAY, own)
    shown = openssl("x509", "-noout", "-ext", "subjectAltName", "-in", authority / "se-cnaf.pem")
    for entry in ("DNS:localhost", "DNS:127.0.1.11", "IP Address:127.0.1.11"):
        assert entry in shown


def test_a_certificate_is_renewed_in_the_last_third_of_its_life_or_for_other_names(authority: Path) -> None:
    assert pki.ensure_certificate(authority, WANTED, 90 * DAY, own)
    assert not pki.ensure_certificate(authority, WANTED, 90 * DAY, own)
    moved = Certificate(WANTED.name, ("127.0.1.12",), WANTED.dns)
    assert pki.ensure_certificate(authority, moved, 90 * DAY, own)
    # One hour of backdating and 20 minutes of life: a quarter is left at once.
    assert pki.ensure_certificate(authority, Certificate("short", ("127.0.0.1",)), 1200, own)
    assert pki.ensure_certificate(authority, Certificate("short", ("127.0.0.1",)), 1200, own)


def test_keys_are_private(authority: Path) -> None:
    pki.ensure_certificate(authority, WANTED, 90 * DAY, own)
    assert {path.name for path in authority.glob("*.key") if path.stat().st_mode & 0o077} == set()


def test_a_second_start_keeps_the_authority(authority: Path) -> None:
    before = (authority / "ca.pem").read_bytes()
    pki.ensure_authority(authority, "laptop", own)
    assert (authority / "ca.pem").read_bytes() == before
