"""The installer's decisions; that it installs is shown by the tests that run on what it installed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from boathouse.errors import HostError

CHECKOUT = Path(__file__).parents[3]
sys.path.insert(0, str(CHECKOUT))

from install import host, index, launchers  # noqa: E402 - the installer is no part of the package
from install.environments import FOR_TESTS, LOCKED, WHEELS, digest_of_files  # noqa: E402
from install.record import Stamps, write_json  # noqa: E402


def _home(checkout: Path, **environment: str) -> Path:
    (checkout / "install").mkdir(parents=True)
    script = checkout / "install" / "home"
    script.write_bytes((CHECKOUT / "install" / "home").read_bytes())
    env = {"PATH": os.environ["PATH"], "HOME": "/home/someone", **environment}
    done = subprocess.run(["sh", script], env=env, capture_output=True, text=True, check=True)
    return Path(done.stdout.removesuffix("\n"))


@pytest.mark.parametrize("name", ["boathouse", "boathouse fresh", "lake (2)", "Grüße", "-"])
def test_the_home_of_a_checkout_holds_no_character_that_services_trip_over(name: str, tmp_path: Path) -> None:
    checkout = tmp_path / name
    home = _home(checkout)
    own = str(home).removeprefix(str(checkout))
    assert all(letter.isalnum() or letter in "/._-" for letter in own), home
    assert own.isascii()
    if os.geteuid() == 0 or name != "boathouse":
        assert home.name.endswith(hashlib.sha256(os.fsencode(checkout)).hexdigest()[:8])
        assert "boathouse" in home.parts[:-1] or "boathouse" in str(home)


def test_two_checkouts_have_two_homes(tmp_path: Path) -> None:
    assert _home(tmp_path / "a b") != _home(tmp_path / "a-b")


def test_boathouse_home_wins(tmp_path: Path) -> None:
    assert _home(tmp_path / "x", BOATHOUSE_HOME="/some where") == Path("/some where")


def test_pip_configuration_is_read_as_pip_reads_it() -> None:
    listing = (
        "global.index-url='https://mirror.example/simple'\n"
        "global.extra-index-url='https://a.example/simple https://b.example/simple'\n"
        "install.index-url='https://other.example/simple'\n"
        ":env:.cert='/etc/ca.pem'\n"
        "list.format='columns'\n"
        "nonsense\n"
    )
    assert index.parse_pip_config(listing) == {
        "index-url": "https://other.example/simple",
        "extra-index-url": "https://a.example/simple https://b.example/simple",
        "cert": "/etc/ca.pem",
    }


def test_uv_looks_where_pip_would() -> None:
    variables = index.uv_environment(
        {
            "index-url": "https://m.example/simple",
            "find-links": "/wheels /more",
            "extra-index-url": "https://x.example/",
        },
        {},
    )
    assert variables == {
        "UV_DEFAULT_INDEX": "https://m.example/simple",
        "UV_FIND_LINKS": "/wheels,/more",
        "UV_INDEX": "https://x.example/",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }


def test_what_the_caller_set_for_uv_stays() -> None:
    assert index.uv_environment({"index-url": "https://m.example/"}, {"UV_DEFAULT_INDEX": "https://own.example/"}) == {}


def test_misleading_variables_do_not_reach_pip_and_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONPATH", "VIRTUAL_ENV", "PIP_TARGET", "UV_PYTHON"):
        monkeypatch.setenv(name, "/elsewhere")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    environment = host.clean_environment()
    assert environment["HTTPS_PROXY"] == "http://proxy.example:3128"
    assert not {"PYTHONPATH", "VIRTUAL_ENV", "PIP_TARGET", "UV_PYTHON"} & set(environment)


def test_a_program_that_fails_is_one_error_with_what_it_said() -> None:
    with pytest.raises(HostError) as caught:
        host.run(["sh", "-c", "echo first; echo the reason >&2; exit 3"], doing="do it", remedy="try again")
    assert caught.value.what == "cannot do it"
    assert caught.value.got == "the reason"
    assert caught.value.remedy == "try again"


def test_a_program_that_is_not_there_is_one_error() -> None:
    with pytest.raises(HostError, match="cannot do it"):
        host.run(["/nonexistent/program"], doing="do it")


def test_no_network_is_told_as_such() -> None:
    with pytest.raises(HostError) as caught:
        host.run(["sh", "-c", "echo 'error: Failed to fetch: dns error' >&2; exit 1"], doing="fill main")
    assert caught.value.what == "cannot fill main: the network does not answer"
    assert "HTTPS_PROXY" in str(caught.value.remedy)


def test_too_little_disk_says_how_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "NEEDED_BYTES", 10**18)
    with pytest.raises(HostError) as caught:
        host.check_disk(tmp_path)
    assert caught.value.expected == "1000.0 PB free"
    assert caught.value.where == str(tmp_path)


def test_a_home_that_cannot_be_made_is_one_error() -> None:
    with pytest.raises(HostError, match="cannot create the directory"):
        host.make_home(Path("/proc/boathouse/home"))


def test_a_home_that_the_services_cannot_enter_is_refused(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(HostError, match="may not enter") as caught:
        host._check_open(closed, closed / "home")
    assert str(closed) in str(caught.value.got)


def test_stamps_survive_and_a_broken_file_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "stamps.json"
    Stamps(path).put("main", "1")
    assert Stamps(path).holds("main", "1")
    assert not Stamps(path).holds("main", "2")
    stamps = Stamps(path)
    stamps.drop("main")
    assert not Stamps(path).holds("main", "1")
    path.write_text("{")
    assert not Stamps(path).holds("main", "1")


def test_a_record_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "install.json"
    write_json(path, {"a": 1})
    write_json(path, {"a": 2})
    assert [one.name for one in tmp_path.iterdir()] == ["install.json"]


def test_the_digest_of_sources_follows_content_and_names() -> None:
    first = digest_of_files([CHECKOUT / "install"])
    assert first == digest_of_files([CHECKOUT / "install"])
    assert first != digest_of_files([CHECKOUT / "install" / "host.py"])


def test_every_environment_is_locked_with_hashes() -> None:
    for name in ("uv", "build", "peers-build", *LOCKED, *FOR_TESTS):
        lines = (CHECKOUT / "locks" / f"{name}.txt").read_text().splitlines()
        packages = [line for line in lines if line and not line.startswith((" ", "#"))]
        assert packages
        assert all("==" in line and line.endswith("\\") for line in packages), name


def test_every_wheel_goes_into_a_locked_environment() -> None:
    assert {wheel.environment for wheel in WHEELS} <= set(LOCKED)


def _probe(**environment: str) -> subprocess.CompletedProcess[str]:
    script = CHECKOUT / "install" / "python"
    env = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run(["sh", script], env=env, capture_output=True, text=True, check=False)


def test_an_interpreter_is_found_and_is_fit() -> None:
    found = _probe()
    assert found.returncode == 0, found.stderr
    said = subprocess.run(
        [found.stdout.strip(), "-c", "import sys, venv, ensurepip; print(sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() in {"(3, 11)", "(3, 12)", "(3, 13)"}


def test_an_interpreter_that_one_asks_for_but_does_not_fit_is_passed_over(tmp_path: Path) -> None:
    unfit = tmp_path / "python"
    unfit.write_text("#!/bin/sh\necho is too old\nexit 1\n")
    unfit.chmod(0o755)
    found = _probe(PYTHON=str(unfit))
    assert found.returncode == 0
    assert found.stdout.strip() != str(unfit)


def test_the_makefile_names_every_target_of_the_readme() -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    targets = {line.split()[0] for line in done.stdout.splitlines()}
    assert {"install", "demo", "test", "bench", "lint", "docs", "down", "clean", "distclean"} <= targets


def test_continuous_integration_runs_the_test_command() -> None:
    script = CHECKOUT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[-1] == "exec make test"


def test_the_installer_needs_the_standard_library_only() -> None:
    code = "import install.__main__, sys; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    foreign = set(done.stdout.split()) - set(sys.stdlib_module_names) - {"install", "boathouse", "__main__"}
    assert foreign == set()


def test_launchers_work_from_paths_with_spaces(tmp_path: Path) -> None:
    clients = tmp_path / "stock clients"
    clients.mkdir()
    for name in ("python", "rucio", "rucio-admin"):
        (clients / name).write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
        (clients / name).chmod(0o755)
    directory = launchers.write(tmp_path, clients / "python", clients)
    env = {"PATH": os.environ["PATH"]}
    said = subprocess.run([directory / "rucio", "a b"], env=env, capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["-E", "-s", str(clients / "rucio"), "a b"]
    said = subprocess.run([directory / "boathouse", "ls"], env=env, capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["-I", "-m", "boathouse.cli", "ls"]
    assert not (directory / "python").exists()


def test_missing_packages_without_rights_are_one_message_with_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "apt-get").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(HostError) as caught:
        host.install_packages(["curl", "ca-certificates"])
    assert caught.value.expected == "curl, ca-certificates"
    assert caught.value.remedy == "sudo apt-get install --yes --no-install-recommends curl ca-certificates"


def test_on_a_system_without_apt_the_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="packages of the operating system are missing") as caught:
        host.install_packages(["curl"])
    assert caught.value.got == "a system without apt-get"
