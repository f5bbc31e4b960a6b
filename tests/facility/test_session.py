"""Logging in and out: device code, narrowed tokens, the agent, what a session leaves behind."""

from __future__ import annotations

import base64
import json
import os
import pty
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from boathouse.errors import AuthError
from boathouse.lake.approve import approve
from boathouse.lake.http import Http
from boathouse.lake.session import Session
from boathouse.lake.tokens import LOGIN_SCOPE, DeviceCode
from boathouse.testing.box import Box
from boathouse.testing.wait import wait_for


@pytest.fixture
def session(lake_box: Box, tmp_path: Path) -> Session:
    """A session of bob's in a directory of its own, with a space in its name."""
    return Session(lake_box.endpoints, tmp_path / "my session")


def environment(lake_box: Box, session: Session) -> dict[str, str]:
    return {**lake_box.environment(), "BOATHOUSE_SESSION": str(session.directory)}


def cli(lake_box: Box, session: Session, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "boathouse.cli", *arguments],
        env=environment(lake_box, session),
        capture_output=True,
        text=True,
        check=check,
        timeout=300,
    )


def login(lake_box: Box, session: Session) -> None:
    password = lake_box.local.plan.layout.secret("password-bob")
    cli(lake_box, session, "login", "--user", "bob", "--password-file", str(password))


def runs(pid: int) -> bool:
    """Whether a process runs; one that has ended but was not yet waited for has no command line."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except FileNotFoundError:
        return False


def claims(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))))


def test_a_login_leaves_private_files_and_one_agent_until_logout(lake_box: Box, session: Session) -> None:
    login(lake_box, session)
    assert stat.S_IMODE(session.directory.stat().st_mode) == 0o700
    for name in ("access_token", "refresh_token", "access.json", "session.json"):
        assert stat.S_IMODE((session.directory / name).stat().st_mode) == 0o600
    assert not session.token_file.read_text().endswith("\n")
    pid = wait_for("the agent runs", session.agent_pid)
    second = subprocess.run(
        [sys.executable, "-m", "boathouse.lake.agent", str(session.directory), "--foreground"], timeout=120, check=False
    )
    assert second.returncode == 0
    assert session.agent_pid() == pid
    refresh = (session.directory / "refresh_token").read_text()
    cli(lake_box, session, "logout")
    assert not session.directory.exists()
    wait_for("the agent has gone", lambda: not runs(pid))
    with pytest.raises(AuthError) as caught:
        session.issuer().refresh(session.record.client_id, refresh)
    assert caught.value.got == "invalid_grant"
    refused = cli(lake_box, session, "token", check=False)
    assert refused.returncode == AuthError.exit_code
    assert "boathouse login" in refused.stderr


def test_who_is_logged_in_is_told_with_rights_and_groups(lake_box: Box, session: Session) -> None:
    refused = cli(lake_box, session, "whoami", check=False)
    assert (refused.returncode, "boathouse login" in refused.stderr) == (AuthError.exit_code, True)
    login(lake_box, session)
    told = json.loads(cli(lake_box, session, "whoami", "--json").stdout)
    assert told["login"] == "bob"
    assert told["groups"] == claims(session.token())["wlcg.groups"]
    assert told["scope"] == claims(session.token())["scope"]
    assert 0 < told["expires_in"] <= 3600
    words = cli(lake_box, session, "whoami").stdout
    assert re.search(r"/lake/user\.bob +read, create, modify", words)
    assert "an agent renews it" in words
    cli(lake_box, session, "logout")


def test_a_logout_works_while_the_issuer_is_down(lake_box: Box, session: Session) -> None:
    login(lake_box, session)
    pid = wait_for("the agent runs", session.agent_pid)
    supervisor = lake_box.local.runner._supervisor
    supervisor.stop_process("tokens")
    try:
        done = cli(lake_box, session, "logout")
    finally:
        supervisor.start_process("tokens")
        lake_box.wait_ready("tokens")
    assert "could not be told" in done.stderr
    assert not session.directory.exists()
    wait_for("the agent has gone", lambda: not runs(pid))


def test_ctrl_c_at_the_password_prompt_is_an_interruption(lake_box: Box, session: Session) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        # A test run in a shell's background ignores it, and so would its child.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        command = [sys.executable, "-m", "boathouse.cli", "login", "--user", "bob"]
        os.execve(sys.executable, command, environment(lake_box, session))
    shown = b""
    while b"Password of bob" not in shown:
        shown += os.read(terminal, 1024)
    os.write(terminal, b"\x03")
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 130


def test_the_issuer_narrows_what_is_asked_for(lake_box: Box, session: Session) -> None:
    login(lake_box, session)
    granted = claims(session.token())
    scopes = granted["scope"].split()
    assert "storage.read:/lake/cms" in scopes
    assert "storage.read:/" not in scopes
    assert not any("magic" in scope for scope in scopes), "bob is no member of the embargoed group"
    element = lake_box.endpoints.storage[0].audience
    text = cli(lake_box, session, "token", "--audience", element, "--scope", "storage.read:/lake/cms").stdout
    narrow = claims(text.strip())
    assert narrow["scope"] == "storage.read:/lake/cms"
    assert narrow["aud"] in (element, [element])
    # The session itself is as wide as before.
    session.renew(1e9)
    assert set(claims(session.token())["scope"].split()) == set(scopes)
    wider = cli(lake_box, session, "token", "--scope", "storage.read:/lake/magic", check=False)
    assert wider.returncode == AuthError.exit_code
    assert "your groups do not open this" in wider.stderr
    cli(lake_box, session, "logout")


def test_the_agent_renews_a_token_that_is_about_to_end(lake_box: Box, session: Session) -> None:
    login(lake_box, session)
    wait_for("the agent runs", session.agent_pid)
    before = session.token_file.read_text()
    session.stop_agent()
    access = session.access
    assert access is not None
    record = json.loads((session.directory / "access.json").read_text())
    (session.directory / "access.json").write_text(json.dumps(record | {"expires_at": access.issued_at + 1}))
    session.start_agent()
    wait_for("the token is another one", lambda: session.token_file.read_text() != before)
    # It is told a moment after the file is there.
    wait_for("it is told", lambda: "token renewed" in (session.directory / "agent.log").read_text())
    cli(lake_box, session, "logout")


def test_an_agent_whose_refresh_token_is_dead_says_so_and_ends(lake_box: Box, session: Session) -> None:
    login(lake_box, session)
    wait_for("the agent runs", session.agent_pid)
    session.stop_agent()
    (session.directory / "refresh_token").write_text("worthless")
    (session.directory / "access.json").unlink()
    session.start_agent()
    log = session.directory / "agent.log"
    wait_for("the agent gives up", lambda: "the session is over" in log.read_text())
    wait_for("the agent ends", lambda: session.agent_pid() is None)
    cli(lake_box, session, "logout")


def test_the_agent_outlives_an_outage_of_the_issuer(lake_box: Box, session: Session) -> None:
    login(lake_box, session)
    wait_for("the agent runs", session.agent_pid)
    session.stop_agent()
    access = session.access
    assert access is not None
    before = session.token_file.read_text()
    record = json.loads((session.directory / "access.json").read_text())
    ending = record | {"issued_at": access.issued_at - 3000, "expires_at": access.issued_at + 600}
    (session.directory / "access.json").write_text(json.dumps(ending))
    supervisor = lake_box.local.runner._supervisor
    supervisor.stop_process("tokens")
    try:
        # Nobody needs the issuer while the token lives.
        assert session.token() == before
        session.start_agent()
        log = session.directory / "agent.log"
        wait_for("the agent says that it waits", lambda: "cannot renew now" in log.read_text(), timeout_s=120)
        assert session.agent_pid() is not None
    finally:
        supervisor.start_process("tokens")
        lake_box.wait_ready("tokens")
    wait_for("the token is another one", lambda: session.token_file.read_text() != before, timeout_s=180)
    cli(lake_box, session, "logout")


def test_a_person_logs_in_with_the_code_that_is_shown(lake_box: Box, session: Session) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "boathouse.cli", "login", "--json"],
        env=environment(lake_box, session),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    shown = ""
    while "or open" not in shown:
        line = process.stderr.readline()
        assert line, shown
        shown += line
    url = shown.split("or open ")[1].strip()
    user_code = re.search(r"^    ([A-Z0-9-]+)$", shown, re.MULTILINE)
    assert user_code, shown
    code = DeviceCode(user_code[1], url, url, "", 1.0, 0.0)
    password = lake_box.local.plan.layout.secret("password-bob").read_text()
    approve(Http(lake_box.endpoints.ca_bundle), code, login="bob", password=password)
    out, errors = process.communicate(timeout=180)
    assert process.returncode == 0, errors
    assert json.loads(out)["account"] == "bob"
    cli(lake_box, session, "logout")


def test_a_wrong_password_is_refused(lake_box: Box, session: Session) -> None:
    issuer = session.issuer()
    code: DeviceCode = issuer.device_code("boathouse", scope=LOGIN_SCOPE, audience=["rucio"])
    with pytest.raises(AuthError, match="refused this login and password") as refused:
        approve(Http(lake_box.endpoints.ca_bundle), code, login="bob", password="wrong")
    assert refused.value.got == "wrong password or unknown user for bob"
    assert refused.value.where == issuer.url
    with pytest.raises(AuthError) as caught:
        issuer._tokens(
            {
                "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
                "client_id": "boathouse",
                "device_code": code.device_code,
            }
        )
    assert caught.value.got in ("authorization_pending", "slow_down")


def test_who_has_no_account_in_the_catalogue_is_told(lake_box: Box, session: Session, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("correct horse battery staple")
    added = lake_box.cli("iam", "user", "add", "walter", "--password-file", password)
    assert "no account for walter" in " ".join(added.stderr.split())
    try:
        told = cli(lake_box, session, "login", "--user", "walter", "--password-file", str(password))
        assert "to its storage alone" in told.stdout
        assert "no account for walter" in " ".join(told.stderr.split())
        assert session.token()
        cli(lake_box, session, "logout")
    finally:
        lake_box.cli("iam", "user", "remove", "walter")
