"""What root does where another user may put links: it acts with that user's rights, in one thread alone."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from boathouse.errors import StateError
from boathouse.plan.model import Secret
from boathouse.run.local import files, secrets
from boathouse.run.local import state as states
from boathouse.run.local.account import Account

IS_ROOT = os.geteuid() == 0
_USER = pwd.getpwnam("nobody") if IS_ROOT else pwd.getpwuid(os.geteuid())
USER = Account(_USER.pw_name, _USER.pw_uid, _USER.pw_gid, switch=IS_ROOT)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory that the services' user can reach, which pytest's own is not when root runs it."""
    path = Path(tempfile.mkdtemp(prefix="bh-", dir="/var/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def state(tmp_path: Path) -> states.State:
    made = states.create_or_open(tmp_path / "state", "laptop", USER)
    files.prepare_state(made)
    return made


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    path = tmp_path / "precious"
    path.write_text("root's")
    path.chmod(0o600)
    return path


def test_the_services_own_the_directories_and_not_the_one_above(state: states.State) -> None:
    assert state.path.stat().st_uid == os.geteuid()
    assert (state.path / "state.json").stat().st_uid == os.geteuid()
    for path in (state.layout.logs, state.layout.config, state.layout.secrets, state.path / "markers"):
        assert (path.stat().st_uid, stat.S_IMODE(path.stat().st_mode)) == (USER.uid, 0o700)


def test_a_state_directory_that_the_services_owned_is_taken_back(state: states.State) -> None:
    os.chown(state.path, USER.uid, USER.gid)
    (state.path / "lock").touch()
    os.chown(state.path / "lock", USER.uid, USER.gid)
    with states.locked(states.open_existing(state.path, USER)):
        assert state.path.stat().st_uid == os.geteuid()
        assert stat.S_IMODE((state.path / "lock").stat().st_mode) == 0o600


def test_no_link_is_followed_to_a_log(state: states.State, precious: Path) -> None:
    log = state.layout.logs / "rucio.make-catalogue.log"
    log.symlink_to(precious)
    with pytest.raises(StateError, match="cannot write a log") as caught:
        files.open_log(log, USER)
    assert caught.value.where == str(log)
    assert precious.read_text() == "root's"


def test_a_log_is_for_its_owner_only(state: states.State) -> None:
    log = state.layout.logs / "postgres.log"
    log.touch(0o644)
    USER.own(log)
    with files.open_log(log, USER) as handle:
        handle.write(b"x")
    assert (log.stat().st_uid, stat.S_IMODE(log.stat().st_mode)) == (USER.uid, 0o600)


def test_a_link_in_place_of_a_file_is_replaced_and_its_target_left_alone(state: states.State, precious: Path) -> None:
    path = state.layout.run / "applied.json"
    path.symlink_to(precious)
    states.write_atomically(path, "new", USER, mode=0o600)
    assert not path.is_symlink()
    assert path.stat().st_uid == USER.uid
    assert precious.read_text() == "root's"


def test_links_to_what_the_services_may_not_use_are_refused_by_name(state: states.State, tmp_path: Path) -> None:
    """Neither is a file made in root's directory, nor does root's secret get into a configuration."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    (state.layout.config / "rucio").symlink_to(closed)
    hidden = tmp_path / "hidden"
    hidden.write_text("root's password")
    hidden.chmod(0o600 if IS_ROOT else 0o000)
    (state.layout.secrets / "password").symlink_to(hidden)
    refusal = StateError if IS_ROOT else PermissionError
    with pytest.raises(refusal, match="rucio") as caught:
        states.write_atomically(state.layout.config / "rucio" / "rucio.cfg", "x", USER, mode=0o600)
    assert not list(closed.iterdir())
    with pytest.raises(refusal, match="password") as caught:
        secrets.ensure([Secret("password")], state.layout.secrets, USER)
    if isinstance(caught.value, StateError):
        assert caught.value.remedy


def test_a_link_in_place_of_a_directory_of_the_facility_is_refused(state: states.State, tmp_path: Path) -> None:
    state.layout.logs.rmdir()
    state.layout.logs.symlink_to(tmp_path)
    owner = tmp_path.stat().st_uid
    with pytest.raises(StateError, match="not a directory"):
        files.prepare_state(state)
    assert tmp_path.stat().st_uid == owner


def test_only_the_acting_thread_loses_its_rights_and_gets_them_back() -> None:
    before = _rights()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(_rights).result()
        with USER.acting(), USER.acting():
            inside = _rights()
            assert pool.submit(_rights).result() == before
    assert _rights() == before
    if IS_ROOT:
        assert f"Uid:\t0\t0\t0\t{USER.uid}" in inside
        assert f"Gid:\t0\t0\t0\t{USER.gid}" in inside


def _rights() -> str:
    lines = Path("/proc/thread-self/status").read_text().splitlines()
    return "\n".join(line for line in lines if line.startswith(("Uid:", "Gid:", "Groups:", "CapEff:")))


def test_the_lock_is_no_link_and_nobody_else_can_open_it(state: states.State, precious: Path) -> None:
    with states.locked(state):
        assert stat.S_IMODE((state.path / "lock").stat().st_mode) == 0o600
    (state.path / "lock").unlink()
    (state.path / "lock").symlink_to(precious)
    with pytest.raises(StateError, match="cannot open the lock"), states.locked(state):
        pass
    assert precious.read_text() == "root's"


@pytest.mark.parametrize("trap", ["link", "writable", "foreign"])
def test_a_run_directory_that_others_could_have_prepared_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trap: str
) -> None:
    base = tmp_path / "boathouse-1003"
    if trap == "link":
        base.symlink_to("/dev/shm")
    elif trap == "writable":
        base.mkdir()
        base.chmod(0o777)
    else:
        # Only root can make a directory of somebody else's; for others, one of root's is such.
        base = base if IS_ROOT else Path("/run")
        if IS_ROOT:
            base.mkdir()
            os.chown(base, USER.uid, USER.gid)
    monkeypatch.setattr(states, "_user_run_directory", lambda _: base)
    me = pwd.getpwuid(os.geteuid())
    account = Account(me.pw_name, me.pw_uid, me.pw_gid, switch=False)
    with pytest.raises(StateError, match="not safe to use") as caught:
        states.create_or_open(tmp_path / "my lake", "laptop", account)
    assert caught.value.where == str(base)
