"""The description of the issuer's surface: complete, true, and what a fuzzer finds that goes by it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from boathouse.apps.tokens.protocol.openapi import OPERATIONS, PATH
from boathouse.plan.service import Programs

from .conftest import SECRETS, Issuer, Start

EXAMPLES = "25"


@pytest.fixture(scope="module")
def issuer(start_issuer: Start) -> Issuer:
    """One of its own: it is flooded."""
    return start_issuer()


def test_everything_that_is_described_is_served(issuer: Issuer) -> None:
    document = issuer.request("GET", PATH).json
    there = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert set(OPERATIONS) <= there
    assert document["servers"] == [{"url": issuer.url}]


def test_everything_that_discovery_names_is_described(issuer: Issuer) -> None:
    paths = issuer.request("GET", PATH).json["paths"]
    named = issuer.request("GET", "/.well-known/openid-configuration").json
    for name, url in named.items():
        if name.endswith(("_endpoint", "_uri")) and name != "scim_endpoint":
            assert url.removeprefix(issuer.url) in paths, name


def test_schemathesis_finds_no_fault(programs: Programs, issuer: Issuer, tmp_path: Path) -> None:
    """Whatever the description allows or forbids: no 5xx, no status and no body that is not described."""
    peers = programs.python.parents[2] / "peers" / "bin"
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    done = subprocess.run(
        [
            *(str(peers / "st"), "run", issuer.url + PATH, "--checks", checks, "--tls-verify", str(issuer.ca)),
            *("--auth", f"rucio:{SECRETS['rucio']}", "--max-examples", EXAMPLES, "--seed", "1", "--no-color"),
            *("--phases", "examples,coverage,fuzzing", "--max-redirects", "0", "--continue-on-failure"),
            *("--generation-database", "none", "--suppress-health-check", "all", "--request-timeout", "90"),
            *("--warnings", "off", "--workers", "2"),
        ],
        cwd=tmp_path,
        env={"PATH": f"{peers}:{os.defpath}", "HOME": str(tmp_path), "REQUESTS_CA_BUNDLE": str(issuer.ca)},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    assert issuer.request("GET", "/health").status == 200
