"""JupyterHub with its GenericOAuthenticator: a real hub, a login through the pages, the token that the hub keeps."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
import urllib3

from boathouse.plan.service import Programs
from boathouse.testing.scratch import free_port
from boathouse.testing.wait import wait_for

from .conftest import STORAGE, Browser, Issuer
from .test_registration import registered

API_TOKEN = "key-of-a-service-of-the-test"
CONFIG = """\
import os
from jupyterhub.proxy import Proxy
from oauthenticator.generic import GenericOAuthenticator

class NoProxy(Proxy):
    '''The browser of this test speaks with the hub itself: nothing is spawned that a proxy would lead to.'''
    should_start = False
    routes = {{}}

    async def add_route(self, routespec, target, data):
        self.routes[routespec] = {{"routespec": routespec, "target": target, "data": data}}

    async def delete_route(self, routespec):
        self.routes.pop(routespec, None)

    async def get_all_routes(self):
        return self.routes

c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{port}/hub/"
c.JupyterHub.bind_url = "http://localhost:{port}/"
c.JupyterHub.db_url = "sqlite:///{home}/hub.sqlite"
c.JupyterHub.cookie_secret_file = "{home}/cookie"
c.JupyterHub.authenticator_class = GenericOAuthenticator
c.GenericOAuthenticator.client_id = "{client_id}"
c.GenericOAuthenticator.client_secret = os.environ["CLIENT_SECRET"]
c.GenericOAuthenticator.oauth_callback_url = "{callback}"
c.GenericOAuthenticator.authorize_url = "{issuer}/authorize"
c.GenericOAuthenticator.token_url = "{issuer}/token"
c.GenericOAuthenticator.userdata_url = "{issuer}/userinfo"
c.GenericOAuthenticator.username_claim = "preferred_username"
c.GenericOAuthenticator.scope = {scope}
c.GenericOAuthenticator.extra_authorize_params = {{"audience": "rucio {storage}"}}
c.GenericOAuthenticator.manage_groups = True
c.GenericOAuthenticator.auth_state_groups_key = lambda state: state["oauth_user"].get("wlcg.groups", [])
c.GenericOAuthenticator.allowed_groups = {{"/escape/magic"}}
c.GenericOAuthenticator.enable_auth_state = True
c.JupyterHub.services = [{{"name": "test", "api_token": os.environ["API_TOKEN"]}}]
c.JupyterHub.load_roles = [
    {{"name": "test", "services": ["test"], "scopes": ["read:users", "admin:auth_state", "read:groups"]}}
]
"""
SCOPE = ["openid", "profile", "offline_access", "wlcg.groups", "storage.read:/"]


@dataclass
class Hub:
    """A running hub."""

    issuer: Issuer
    url: str
    http: urllib3.PoolManager
    secret: str
    """Of its client."""

    def open(self, person: Browser, cookies: dict[str, str]) -> tuple[int, str]:
        """Log in as the person who is signed in with the issuer; status and text of the page at the end."""
        url = f"{self.url}/hub/oauth_login?next=%2Fhub%2Fhome"
        for _ in range(12):
            if url.startswith(self.issuer.url):
                answer = person.get(url.removeprefix(self.issuer.url))
                if answer.status == 200:
                    answer = person.submit(url.removeprefix(self.issuer.url), decision="allow")
                location = answer.headers.get("Location")
                status, text = answer.status, answer.text
            else:
                header = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
                response = self.http.request("GET", url, headers=header, redirect=False)
                for line in response.headers.getlist("Set-Cookie"):
                    cookies.update({name: morsel.value for name, morsel in SimpleCookie(line).items()})
                location, status, text = response.headers.get("Location"), response.status, response.data.decode()
            if not location:
                return status, text
            url = urljoin(url, location)
        msg = f"too many redirects, at last to {url}"
        raise AssertionError(msg)

    def user(self, name: str) -> dict[str, Any]:
        """What the hub knows of a person."""
        headers = {"Authorization": f"token {API_TOKEN}"}
        answer = self.http.request("GET", f"{self.url}/hub/api/users/{name}", headers=headers)
        assert answer.status == 200, answer.data
        return dict(json.loads(answer.data))


@pytest.fixture(scope="module")
def hub(programs: Programs, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    home, port = tmp_path_factory.mktemp("hub"), free_port()
    url = f"http://localhost:{port}"
    callback = f"{url}/hub/oauth_callback"
    grants = ["authorization_code", "refresh_token"]
    client = registered(
        issuer, client_name="hub of a test", redirect_uris=[callback], grant_types=grants, scope=" ".join(SCOPE)
    )
    values = {"port": port, "home": home, "client_id": client["client_id"], "callback": callback, "issuer": issuer.url}
    (home / "config.py").write_text(CONFIG.format(**values, scope=SCOPE, storage=STORAGE))
    peers = programs.python.parents[2] / "peers" / "bin"
    environment = {
        "PATH": f"{peers}:{os.defpath}",
        "HOME": str(home),
        "SSL_CERT_FILE": str(issuer.ca),
        "JUPYTERHUB_CRYPT_KEY": "00" * 32,
        "CLIENT_SECRET": client["client_secret"],
        "API_TOKEN": API_TOKEN,
    }
    http = urllib3.PoolManager(retries=False, timeout=90)
    log = home / "hub.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [str(peers / "jupyterhub"), "--config", str(home / "config.py")],
            env=environment,
            cwd=home,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            wait_for("the hub", lambda: _answers(http, f"{url}/hub/health", process, log), timeout_s=180)
            yield Hub(issuer, url, http, client["client_secret"])
        finally:
            process.terminate()
            process.wait(120)


def _answers(http: urllib3.PoolManager, url: str, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    try:
        return http.request("GET", url).status == 200
    except urllib3.exceptions.HTTPError:
        return False


def test_a_login_gives_the_hub_a_token_of_the_person(hub: Hub, issuer: Issuer) -> None:
    status, page = hub.open(issuer.browser("alice"), {})
    assert status == 200, page
    assert "alice" in page
    user = hub.user("alice")
    assert set(user["groups"]) == {"/escape", "/escape/cms", "/escape/magic"}
    state = user["auth_state"]
    claims = issuer.verify(state["access_token"], STORAGE)
    assert claims.covers("storage.read:/lake/magic/run1")
    assert not claims.covers("storage.read:/lake/user.bob")
    assert claims.aud == ("rucio", STORAGE)
    assert state["oauth_user"]["name"] == "Alice Adler"
    again = issuer.post(
        "/token",
        grant_type="refresh_token",
        refresh_token=state["refresh_token"],
        client_id=claims.client_id,
        client_secret=hub.secret,
    )
    assert issuer.verify(again.json["access_token"], "rucio").sub == claims.sub


def test_who_is_in_no_allowed_group_stays_outside(hub: Hub, issuer: Issuer) -> None:
    cookies: dict[str, str] = {}
    status, page = hub.open(issuer.browser("bob"), cookies)
    assert status == 403, page
    header = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
    home = hub.http.request("GET", f"{hub.url}/hub/home", headers=header, redirect=False)
    assert home.status == 302, "still nobody to the hub"


def test_a_code_of_somebody_elses_browser_is_not_taken(hub: Hub, issuer: Issuer) -> None:
    """The hub binds the state to the browser that began."""
    begun = hub.http.request("GET", f"{hub.url}/hub/oauth_login", redirect=False)
    there = urlsplit(begun.headers["Location"])
    answer = issuer.browser("alice").submit(f"{there.path}?{there.query}", decision="allow")
    assert answer.status == 302
    taken = hub.http.request("GET", answer.location, redirect=False)
    assert taken.status in (400, 403)
