"""SciTokens' two libraries, which storage uses: the one in Python, and the one in C++ by its ``scitokens-verify``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from boathouse.plan.service import Programs
from boathouse.wlcg.keycache import seed

from .conftest import STORAGE, Issuer

PYTHON = """\
import json, sys
import scitokens

issuer, audience, *asked = sys.argv[1:]
token = scitokens.SciToken.deserialize(sys.stdin.read())
enforcer = scitokens.Enforcer(issuer, audience.split())
# The library refuses claims that it is not told about, and does not know those of the WLCG profile.
enforcer.add_validator("wlcg.ver", lambda value: value.partition(".")[0] == "1")
enforcer.add_validator("client_id", lambda value: True)
allowed = {}
for wish in asked:
    name, _, path = wish.partition(":")
    allowed[wish] = enforcer.test(token, name, path)
validator = scitokens.Validator()
required = ("iss", "sub", "aud", "exp", "nbf", "iat", "jti", "scope", "wlcg.ver")
for name in (*required, "client_id"):
    validator.add_validator(name, lambda value: True)
valid = validator.validate(token, critical_claims=list(required))
print(json.dumps({"claims": dict(token.claims()), "allowed": allowed, "valid": valid}))
"""


def environment(issuer: Issuer, cache: Path) -> dict[str, str]:
    """Both libraries keep keys in a cache of the user; the one in Python fetches them itself."""
    return {
        "PATH": os.defpath,
        "HOME": str(cache),
        "XDG_CACHE_HOME": str(cache),
        "SSL_CERT_FILE": str(issuer.ca),
    }


@pytest.fixture
def token(issuer: Issuer) -> str:
    reply = issuer.device_login("bob", scope="openid storage.read:/ storage.modify:/", audience=f"{STORAGE} rucio")
    return str(reply["access_token"])


def python(
    programs: Programs, issuer: Issuer, cache: Path, token: str, audience: str, *asked: str
) -> subprocess.CompletedProcess[str]:
    peers = programs.python.parents[2] / "peers" / "bin" / "python"
    assert peers.exists(), f"{peers} is missing: run `install/run --tests`"
    return subprocess.run(
        [str(peers), "-c", PYTHON, issuer.url, audience, *asked],
        env=environment(issuer, cache),
        input=token,
        text=True,
        capture_output=True,
        timeout=180,
        check=False,
    )


def test_python_enforces_what_the_token_allows(programs: Programs, issuer: Issuer, tmp_path: Path, token: str) -> None:
    wishes = {
        "storage.read:/lake/cms/file": True,
        "storage.modify:/lake/user.bob/file": True,
        "storage.read:/lake/magic/file": False,
        "storage.read:/lake/cmsx": False,
        "storage.read:/": False,
        "storage.stage:/lake/cms": False,
    }
    done = python(programs, issuer, tmp_path, token, STORAGE, *wishes)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["allowed"] == wishes
    assert found["valid"] is True
    assert found["claims"]["iss"] == issuer.url


def test_python_refuses_another_audience_and_a_changed_token(
    programs: Programs, issuer: Issuer, tmp_path: Path, token: str
) -> None:
    wish = "storage.read:/lake/cms/file"
    done = python(programs, issuer, tmp_path, token, "127.0.1.12", wish)
    assert json.loads(done.stdout)["allowed"] == {wish: False}, done.stderr
    head, payload, signature = token.split(".")
    changed = ".".join((head, payload, signature[:-6] + ("AAAAAA" if signature[-6:] != "AAAAAA" else "BBBBBB")))
    done = python(programs, issuer, tmp_path, changed, STORAGE)
    assert done.returncode != 0
    assert "Signature verification failed" in done.stderr


def verify(issuer: Issuer, cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """It has the keys as storage has them: put into its cache, for it believes the host's CAs alone."""
    seed(cache, issuer.url, json.loads((issuer.keys / "jwks.json").read_text()))
    program = shutil.which("scitokens-verify")
    assert program, "scitokens-verify is missing: run `install/run --tests`"
    return subprocess.run(
        [program, *arguments],
        env=environment(issuer, cache),
        text=True,
        capture_output=True,
        timeout=180,
        check=False,
    )


def test_cpp_verifies_in_the_wlcg_profile(issuer: Issuer, tmp_path: Path, token: str) -> None:
    done = verify(issuer, tmp_path, "--profile", "wlcg", token)
    assert done.returncode == 0, done.stderr
    assert "Token deserialization successful" in done.stdout + done.stderr


def test_cpp_refuses_what_is_not_genuine(issuer: Issuer, tmp_path: Path, token: str) -> None:
    head, payload, _ = token.split(".")
    for wrong in (f"{head}.{payload}.{'A' * 86}", f"{head}.{payload}.", "nonsense"):
        done = verify(issuer, tmp_path, "--profile", "wlcg", wrong)
        assert done.returncode != 0, done.stdout
