"""Which XRootD is taken: the machine's own only if it is new enough and complete."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from install import xrootd

from boathouse.xrootd_versions import unsafe

CHECKOUT = Path(__file__).resolve().parents[3]
PLUGINS = ["AccSciTokens-6", "Http-6", "HttpTPC-6", "Secztn-6", "Pss-6", "Pfc-6", "BlacklistDecision-6"]


@pytest.fixture
def machine(tmp_path):
    """A machine's programs and plug-ins, as files: ``make(version, leave_out)``."""

    def make(version: str, leave_out: str = "", utilities: bytes = b"sd_listen_fds") -> str:
        binaries, libraries = tmp_path / "usr/bin", tmp_path / "usr/lib/x86_64-linux-gnu"
        binaries.mkdir(parents=True)
        libraries.mkdir(parents=True)
        for name in ("xrootd", "xrdfs", "xrdcp", "xrdadler32"):
            (binaries / name).write_text(f"#!/bin/sh\necho {version} >&2\n")
            (binaries / name).chmod(0o755)
        for plugin in PLUGINS:
            (libraries / f"libXrd{plugin}.so").touch()
        (libraries / "libXrdUtils.so.6").write_bytes(utilities)
        for path in tmp_path.glob(f"usr/**/*{leave_out}*" if leave_out else "none"):
            path.unlink()
        return str(binaries)

    return make


def test_a_new_and_complete_one_is_taken(machine):
    path = machine("v5.9.3")
    choice, reason = xrootd.own(path)
    assert choice == xrootd.Choice("system", path, "5.9.3", reason)


@pytest.mark.parametrize("version", ["v5.5.3", "v5.8.1", "v5.9.2", "5.9.2-1+b1", "nonsense"])
def test_an_unsafe_one_is_refused_with_the_reason(machine, version):
    choice, reason = xrootd.own(machine(version))
    assert choice is None
    assert reason == f"this machine's own is unfit: {unsafe(version)}"


@pytest.mark.parametrize("part", ["AccSciTokens", "HttpTPC", "Pfc", "xrdadler32"])
def test_an_incomplete_one_is_refused(machine, part):
    choice, reason = xrootd.own(machine("v6.2.0", leave_out=part))
    assert choice is None
    assert part in reason


def test_one_that_cannot_be_given_sockets_is_refused(machine):
    choice, reason = xrootd.own(machine("v6.2.0", utilities=b""))
    assert choice is None
    assert "every interface" in reason


def test_none(tmp_path):
    assert xrootd.own(str(tmp_path)) == (None, "this machine has none")


def test_a_tree_is_used_again_without_the_network(tmp_path):
    tree = tmp_path / "6.2.0-forky-00000000"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin" / "xrootd").write_text("#!/bin/sh\necho v6.2.0\n")
    (tree / "bin" / "xrootd").chmod(0o755)
    (tree / "packages.json").write_text(json.dumps({"why": "none", "suite": "forky", "version": "6.2.0-2"}))
    command = [sys.executable, "-B", str(CHECKOUT / "install/xrootd.py"), "--into", str(tmp_path)]
    environment = {"PATH": str(tmp_path / "nothing")}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    choice = json.loads(result.stdout)
    assert (choice["xrootd_kind"], choice["xrootd_version"]) == ("tree", "6.2.0")
    assert choice["xrootd_bin"] == str(tree / "bin")
    assert choice["xrootd_why"] == "none; Debian forky has 6.2.0-2"
