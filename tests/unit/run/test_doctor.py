"""Doctor finds what is wrong and names the command that mends it; one broken thing hides no other."""

from __future__ import annotations

import errno
import json
import os
import pwd
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from boathouse import xrootd_versions
from boathouse.errors import HostError
from boathouse.plan.model import Certificate
from boathouse.run import pki
from boathouse.run.doctor import Finding, Patient, Verdict, examine, facility, installation, machine
from boathouse.run.doctor.finding import ask_version
from boathouse.run.local import state as states
from boathouse.run.local.account import Account
from boathouse.services import confine

_ME = pwd.getpwuid(os.geteuid())
ME = Account(_ME.pw_name, _ME.pw_uid, _ME.pw_gid, switch=False)


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    (tmp_path / "home").mkdir()
    return Patient(tmp_path / "home", tmp_path / "state")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's directories belong to whoever runs it, and need not be open to the services' user."""
    monkeypatch.setattr(facility, "service_account", lambda: ME)


def _only(findings: Iterator[Finding]) -> Finding:
    (finding,) = findings
    return finding


def test_without_an_installation_the_rest_is_examined_still(patient: Patient) -> None:
    findings = {finding.name: finding for finding in examine(patient)}
    assert findings["environments"].verdict is Verdict.fail
    assert findings["environments"].remedy == "make install"
    assert {"python", "disk", "memory", "clock", "loopback", "facility"} <= set(findings)
    assert findings["facility"].verdict is Verdict.ok


def test_every_check_says_what_it_looks_at_and_fails_with_a_remedy(patient: Patient) -> None:
    for check in (*installation.CHECKS, *machine.CHECKS, *facility.CHECKS):
        assert check.__doc__
    assert all(finding.remedy for finding in examine(patient) if finding.verdict is not Verdict.ok)


@pytest.mark.parametrize(("version", "verdict"), [(1, Verdict.warn), (2, Verdict.ok), (7, Verdict.ok)])
def test_a_kernel_that_confines(
    patient: Patient, monkeypatch: pytest.MonkeyPatch, version: int, verdict: Verdict
) -> None:
    monkeypatch.setattr(confine, "version", lambda: version)
    assert _only(machine.confinement(patient)).verdict is verdict


def test_a_kernel_that_does_not_confine(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    def version() -> int:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(confine, "version", version)
    finding = _only(machine.confinement(patient))
    assert finding.verdict is Verdict.warn
    assert "Operation not supported" in finding.detail


def test_a_file_from_the_future_means_a_wrong_clock(patient: Patient) -> None:
    record = patient.home / "install.json"
    record.touch()
    assert _only(machine.clock(patient)).verdict is Verdict.ok
    ahead = time.time() + 7200
    os.utime(record, (ahead, ahead))
    found = _only(machine.clock(patient))
    assert found.verdict is Verdict.fail
    assert "2 h 0 min in the future" in found.detail or "1 h 59 min in the future" in found.detail


@pytest.mark.parametrize(
    ("needed", "little", "verdict"), [(0, 0, Verdict.ok), (0, 2**62, Verdict.warn), (2**62, 2**62, Verdict.fail)]
)
def test_disk(needed: int, little: int, verdict: Verdict, patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_NEEDED_DISK_BYTES", needed)
    monkeypatch.setattr(machine, "_LITTLE_DISK_BYTES", little)
    assert _only(machine.disk(patient)).verdict is verdict


def test_a_variable_that_names_a_lost_certificate_file_is_told(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in machine._CA_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert _only(machine.trusted_authorities(patient)).verdict is Verdict.ok
    monkeypatch.setenv("SSL_CERT_FILE", str(patient.home / "lost.pem"))
    found = _only(machine.trusted_authorities(patient))
    assert (found.verdict, found.remedy) == (Verdict.warn, "unset SSL_CERT_FILE")


@pytest.mark.usefixtures("here")
def test_a_secret_that_others_may_read_is_told(patient: Patient) -> None:
    layout = states.create_or_open(patient.state, "laptop", ME).layout
    layout.secrets.mkdir()
    layout.pki.mkdir()
    secret = layout.secrets / "password-alice"
    secret.touch(mode=0o600)
    assert _only(facility.secrets(patient)).verdict is Verdict.ok
    secret.chmod(0o644)
    found = _only(facility.secrets(patient))
    assert (found.verdict, found.remedy) == (Verdict.fail, f"chmod 600 '{secret}'")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("lifetime_s", "verdict"), [(86400.0, Verdict.ok), (-1.0, Verdict.fail)])
def test_certificates(lifetime_s: float, verdict: Verdict, patient: Patient) -> None:
    layout = states.create_or_open(patient.state, "laptop", ME).layout
    layout.pki.mkdir()
    assert _only(facility.certificates(patient)).detail == "none yet"
    pki.ensure_authority(layout.pki, "laptop", ME.own)
    pki.ensure_certificate(layout.pki, Certificate("rucio", ("127.0.0.1",)), lifetime_s, ME.own)
    found = _only(facility.certificates(patient))
    assert found.verdict is verdict
    assert "rucio" in found.detail


@pytest.mark.usefixtures("here")
def test_a_state_directory_of_a_newer_boathouse_is_told(patient: Patient) -> None:
    patient.state.mkdir()
    (patient.state / "state.json").write_text('{"version": 99, "id": "x", "facility": "laptop"}')
    found = {finding.name: finding for finding in examine(patient)}["state"]
    assert found.verdict is Verdict.fail
    assert "another version" in found.detail


@pytest.mark.parametrize("command", [["/nonexistent/xrootd", "-v"], ["sh", "-c", "echo no library; exit 127"]])
def test_a_program_that_does_not_run(command: list[str]) -> None:
    with pytest.raises(HostError, match="does not run"):
        ask_version(command)


@pytest.mark.parametrize("said", ["v5.5.3", "5.9.2", "no idea"])
def test_a_storage_server_that_is_unsafe_fails_with_the_reason(said: str) -> None:
    found = installation.judge_xrootd(said, {"xrootd_version": "5.5.3"})
    assert found.verdict is Verdict.fail
    assert found.detail == xrootd_versions.unsafe(said)


def test_a_storage_server_of_the_machine_is_told_with_its_place_and_why() -> None:
    record = {"xrootd_version": "6.2.0", "xrootd_kind": "system", "xrootd_bin": "/usr/bin", "xrootd_why": "new enough"}
    for version in ("6.2.0", "6.2.1"):
        found = installation.judge_xrootd(f"v{version}", record)
        assert (found.verdict, found.detail) == (Verdict.ok, f"{version}, the machine's own in /usr/bin: new enough")


def test_a_storage_server_of_a_tree_is_told_with_its_suite_its_packages_and_why(tmp_path: Path) -> None:
    packages = tmp_path / "packages.json"
    packages.write_text(json.dumps({"packages": [{"package": "xrootd-server"}, {"package": "davix"}]}))
    record = {
        "xrootd_version": "6.2.0",
        "xrootd_kind": "tree",
        "xrootd_suite": "forky",
        "xrootd_packages": str(packages),
        "xrootd_why": "this machine has none",
    }
    found = installation.judge_xrootd("v6.2.0", record)
    assert found.verdict is Verdict.ok
    assert found.detail == f"6.2.0, 2 verified packages of Debian forky, listed in {packages}: this machine has none"
    packages.unlink()
    with pytest.raises(HostError, match="record of the packages is gone"):
        installation.judge_xrootd("v6.2.0", record)


def test_a_storage_server_that_is_not_the_one_that_was_installed_fails() -> None:
    found = installation.judge_xrootd("v6.2.1", {"xrootd_version": "6.2.0"})
    assert (found.verdict, found.detail) == (Verdict.fail, "v6.2.1 runs, 6.2.0 was installed")


def test_an_installation_whose_checkout_is_gone_is_told(patient: Patient) -> None:
    other = patient.home.parent / "other"
    other.mkdir()
    (other / "install.json").write_text(json.dumps({"checkout": str(patient.home)}))
    assert _only(installation.leftovers(patient)).verdict is Verdict.ok
    (other / "install.json").write_text(json.dumps({"checkout": str(patient.home / "gone")}))
    found = _only(installation.leftovers(patient))
    assert (found.verdict, found.remedy) == (Verdict.warn, f"rm -r '{other}'")
