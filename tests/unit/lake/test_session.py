from __future__ import annotations

import json
import subprocess
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from boathouse import atomic
from boathouse.errors import AuthError
from boathouse.lake.agent import due_at, keep_fresh
from boathouse.lake.environment import exports, rucio_config, variables
from boathouse.lake.session import Session, default_directory, end_sessions_of, sessions_of
from boathouse.lake.tokens import Tokens
from boathouse.plan.model import Endpoints, LoginEndpoint

ENDPOINTS = Endpoints(
    facility="laptop",
    vo="escape",
    issuer="https://localhost:1",
    catalogue="https://localhost:2",
    transfers="https://127.0.0.2:3",
    ca_bundle="/a dir/it's/bundle.pem",
)


def test_two_facilities_of_one_name_have_two_sessions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("BOATHOUSE_SESSION", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    other = Endpoints(**{**ENDPOINTS.__dict__, "issuer": "https://localhost:9"})
    assert default_directory(ENDPOINTS) != default_directory(other)
    assert default_directory(ENDPOINTS).parent == tmp_path / "boathouse" / "sessions"
    monkeypatch.setenv("BOATHOUSE_SESSION", "/elsewhere")
    assert default_directory(ENDPOINTS) == Path("/elsewhere")


def test_a_login_to_another_facility_is_none_to_this_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """After `eval "$(boathouse env)"` of the one, `--state` may still name the other."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("BOATHOUSE_SESSION", str(tmp_path / "of-laptop"))
    (tmp_path / "of-laptop").mkdir()
    atomic.write(tmp_path / "of-laptop" / "session.json", json.dumps(asdict(Session(ENDPOINTS).record)).encode())
    assert default_directory(ENDPOINTS) == tmp_path / "of-laptop"
    other = replace(ENDPOINTS, ca_bundle="/another/bundle.pem")
    assert default_directory(other).parent == tmp_path / "boathouse" / "sessions"


def test_a_session_renews_where_its_login_was(tmp_path: Path) -> None:
    community = LoginEndpoint("community", "https://aai.example", "a client", "/aai.pem")
    endpoints = replace(ENDPOINTS, logins=(community,))
    assert Session.current(endpoints, tmp_path).record.issuer == ENDPOINTS.issuer, "nobody is logged in yet"
    made = Session(endpoints, tmp_path, login=community)
    atomic.write(tmp_path / "session.json", json.dumps(asdict(made.record)).encode())
    found = Session.current(endpoints, tmp_path).record
    assert (found.issuer, found.client_id, found.issuer_ca) == ("https://aai.example", "a client", "/aai.pem")
    assert Session.current(ENDPOINTS, tmp_path).record.issuer == ENDPOINTS.issuer, "it is trusted no more"


def test_nobody_logged_in_is_said_with_the_remedy(tmp_path: Path) -> None:
    session = Session(ENDPOINTS, tmp_path / "none")
    for call in (session.require, session.token, lambda: Session.at(tmp_path)):
        with pytest.raises(AuthError) as caught:
            call()
        assert caught.value.remedy == "boathouse login"
    assert session.agent_pid() is None
    assert session.access is None


def test_a_token_is_renewed_with_a_third_of_its_life_left() -> None:
    now = time.time()
    assert due_at(now, now + 3600) == now + 2400


def test_exports_survive_a_shell(tmp_path: Path) -> None:
    session = Session(ENDPOINTS, tmp_path / "it's a $HOME `dir`")
    values = variables(ENDPOINTS, session, rucio_home=session.directory / "rucio", account="alice", path=[Path("/a b")])
    script = exports(values) + '\nprintf "%s\\n" "$BEARER_TOKEN_FILE" "$SSL_CERT_FILE" "${BEARER_TOKEN-unset}" "$PATH"'
    shown = subprocess.run(
        ["/bin/sh", "-c", script], env={"BEARER_TOKEN": "x"}, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert shown[:3] == [str(session.token_file), ENDPOINTS.ca_bundle, "unset"]
    assert shown[3].startswith("/a b:")


def test_the_stock_client_shares_no_token_file_between_facilities(tmp_path: Path) -> None:
    text = rucio_config(ENDPOINTS, Session(ENDPOINTS, tmp_path), "alice")
    assert f"auth_token_file_path = {tmp_path}/rucio/token" in text
    assert "auth_type = oidc" in text


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Session:
    """A login to a facility that is not there any more, as its agent left it."""
    monkeypatch.delenv("BOATHOUSE_SESSION", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    return written(tmp_path / "state")


def written(state: Path) -> Session:
    session = Session(replace(ENDPOINTS, issuer=f"https://localhost:1/{state.name}"), state=state)
    session.directory.mkdir(parents=True)
    atomic.write(session.directory / "session.json", json.dumps(asdict(session.record)).encode())
    session._keep(Tokens("access", time.time() + 3600, "openid", "refresh"))
    return session


def test_logins_end_without_their_facility_and_only_those_of_it(begun: Session, tmp_path: Path) -> None:
    other = written(tmp_path / "other")
    (begun.directory.parent / "half").mkdir()
    (tmp_path / "link").symlink_to("state")
    for spelling in ("state", "link", "other/../state"):
        assert [session.directory for session in sessions_of(tmp_path / spelling)] == [begun.directory]
    assert end_sessions_of(tmp_path / "state") == 1
    assert (begun.directory.exists(), other.exists) == (False, True)
    assert end_sessions_of(tmp_path / "state") == 0


def test_a_chosen_session_is_the_one_to_log_out_but_purging_ends_all(
    begun: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BOATHOUSE_SESSION", str(tmp_path / "chosen"))
    chosen = written(tmp_path / "state")
    assert [session.directory for session in sessions_of(tmp_path / "state")] == [chosen.directory]
    assert sessions_of(tmp_path / "elsewhere") == ()
    assert end_sessions_of(tmp_path / "state") == 2


def test_the_agent_ends_when_the_facility_is_gone(begun: Session) -> None:
    assert keep_fresh(begun, threading.Event(), gone_s=0.0) == 0
    assert begun.exists
