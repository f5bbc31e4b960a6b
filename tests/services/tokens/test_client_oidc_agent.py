"""``oidc-agent``, as Debian ships it: it registers itself, logs in by device code and hands out tokens."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from boathouse.testing.wait import wait_for

from .conftest import STORAGE, Issuer

SCOPE = "openid offline_access wlcg.groups storage.read:/ storage.modify:/"


def program(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is missing: run `install/run --tests`"
    return found


@dataclass
class Agent:
    """A running agent with its own directory and socket."""

    issuer: Issuer
    directory: Path
    socket: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.defpath,
            "HOME": str(self.directory),
            "OIDC_CONFIG_DIR": str(self.directory / "accounts"),
            "OIDC_SOCK": str(self.socket),
            "OIDC_ENCRYPTION_PW": "the password of a test",
        }

    def start(self, name: str, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [program(name), *arguments],
            env=self.environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, name: str, *arguments: str) -> str:
        with self.start(name, *arguments) as process:
            output, _ = process.communicate(timeout=180)
        assert process.returncode == 0, f"{name} {arguments}: {output}"
        return output

    def generate(self, account: str, login: str, *more: str) -> None:
        """Make an account configuration; the person approves in a browser meanwhile."""
        arguments: Sequence[str] = (
            account,
            *("--iss", self.issuer.url, "--cp", str(self.issuer.ca), "--flow", "device", "--scope", SCOPE),
            *("--pw-env", "--prompt", "none", "--no-url-call", "--confirm-default"),
            *more,
        )
        with self.start("oidc-gen", *arguments) as process:
            assert process.stdout
            said = ""
            for line in process.stdout:
                said += line
                if found := re.search(r"\b([A-Z]{4}-[A-Z]{4})\b", said):
                    break
            else:
                pytest.fail(f"oidc-gen shows no code: {said}")
            page = self.issuer.browser(login).submit(f"/device?user_code={found[1]}", decision="allow")
            assert page.status == 200, page.text
            output, _ = process.communicate(timeout=180)
        assert process.returncode == 0, said + output


@pytest.fixture(scope="module")
def agent(issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    directory = tmp_path_factory.mktemp("agent")
    (directory / "accounts").mkdir()
    made = Agent(issuer, directory, directory / "socket")
    with made.start("oidc-agent", "--console", "--socket-path", str(made.socket)) as process:
        try:
            wait_for("the agent's socket", made.socket.exists)
            yield made
        finally:
            process.terminate()
            process.communicate(timeout=60)


@pytest.fixture(scope="module")
def account(agent: Agent) -> str:
    agent.generate("lake", "bob")
    return "lake"


def test_it_registers_and_logs_in(agent: Agent, account: str) -> None:
    token = agent.run("oidc-token", account, "--aud", STORAGE).strip()
    claims = agent.issuer.verify(token, STORAGE)
    assert claims.covers("storage.modify:/lake/cms/file")
    assert not claims.covers("storage.read:/lake/magic")
    registered = "SELECT c.name, r.used_at IS NOT NULL FROM clients c JOIN registrations r USING (client_id) "
    ((name, used),) = agent.issuer.sql(registered + "WHERE client_id = %s", claims.client_id)
    assert name.startswith("oidc-agent:lake")
    assert used


def test_it_asks_for_narrower_tokens(agent: Agent, account: str) -> None:
    token = agent.run("oidc-token", account, "--aud", "rucio", "--scope", "openid storage.read:/lake/cms/run1").strip()
    assert agent.issuer.verify(token, "rucio").scope == ("openid", "storage.read:/lake/cms/run1")


def test_it_asks_for_a_group(agent: Agent, account: str) -> None:
    token = agent.run("oidc-token", account, "--aud", STORAGE, "--scope", "openid wlcg.groups:/escape/cms").strip()
    assert agent.issuer.verify(token, STORAGE).groups == ("/escape/cms", "/escape")


def test_it_refreshes_again_and_again(agent: Agent, account: str) -> None:
    tokens = {agent.run("oidc-token", account, "--force-new", "--aud", STORAGE).strip() for _ in range(3)}
    assert len(tokens) == 3
    for token in tokens:
        agent.issuer.verify(token, STORAGE)


def test_it_is_refused_what_a_person_may_not_have(agent: Agent, account: str) -> None:
    with agent.start("oidc-token", account, "--aud", STORAGE, "--scope", "storage.read:/lake/magic") as process:
        output, _ = process.communicate(timeout=180)
    assert process.returncode != 0
    assert "invalid_scope" in output


def test_it_deletes_its_registration(agent: Agent) -> None:
    agent.generate("short", "bob")
    ((client_id,),) = agent.issuer.sql("SELECT client_id FROM clients WHERE active AND name LIKE 'oidc-agent:short%%'")
    agent.run("oidc-gen", "--delete", "short", "--pw-env", "--confirm-yes")
    assert agent.issuer.sql("SELECT active FROM clients WHERE client_id = %s", client_id) == [(False,)]
