"""Being logged in: a directory with a refresh token, a fresh access token, and an agent that keeps it fresh.

::

    session.json    whose issuer and which client, what was asked for       0600
    refresh_token   spent and replaced at each renewal                      0600
    access_token    for BEARER_TOKEN_FILE: no newline, replaced atomically  0600
    access.json     when it ends, what the issuer granted                   0600
    lock            held during a renewal
    agent.lock      held by the agent, with its pid
    agent.log       what the agent did
    rucio/          configuration of the stock client
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from boathouse import atomic
from boathouse.errors import AuthError, BoathouseError, ServiceError
from boathouse.lake.http import Http
from boathouse.lake.tokens import Issuer, Tokens, audiences
from boathouse.plan.model import Endpoints, LoginEndpoint
from boathouse.wlcg.verify import kid_of

log = logging.getLogger(__name__)

_LOGIN = "boathouse login"
_MARGIN_S = 60.0
"""A token with less life left is renewed before it is used."""


@dataclass(frozen=True)
class Record:
    """What a session must know without its facility's address file."""

    facility: str
    issuer: str
    client_id: str
    ca_bundle: str
    audience: tuple[str, ...]
    state: str = ""
    """State directory of the facility on this machine; empty if only its addresses were given."""
    issuer_ca: str = ""
    """CAs that verify the issuer; empty for those of ``ca_bundle``."""

    def belongs_to(self, state: Path) -> bool:
        """Whether this is a login to the facility of a state directory, which need not exist any more."""
        place = state.resolve()
        return self.state == str(place) or Path(self.ca_bundle).resolve().is_relative_to(place)


@dataclass(frozen=True)
class Access:
    """The current access token's life and rights."""

    expires_at: float
    issued_at: float
    scope: str


class Session:
    """One user's login to one facility.

    Args:
        endpoints: of the facility.
        directory: where the session lies; by default :func:`default_directory`.
        state: state directory of the facility, noted at login so that the session can be found without its endpoints.
        login: another issuer at which the user logs in; the facility's own if None.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        directory: Path | None = None,
        *,
        state: Path | None = None,
        login: LoginEndpoint | None = None,
    ) -> None:
        self.directory = directory or default_directory(endpoints)
        self.record = Record(
            facility=endpoints.facility,
            issuer=login.issuer if login else endpoints.issuer,
            client_id=login.client_id if login else endpoints.client_id,
            ca_bundle=endpoints.ca_bundle,
            audience=audiences(endpoints),
            state="" if state is None else str(state.resolve()),
            issuer_ca=login.ca_file if login else "",
        )

    @classmethod
    def at(cls, directory: Path) -> Session:
        """The session that lies in a directory.

        Raises:
            AuthError: there is none.
        """
        try:
            document = json.loads((directory / "session.json").read_text(encoding="utf-8"))
            record = Record(**document | {"audience": tuple(document["audience"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise AuthError("nobody is logged in", where=str(directory), remedy=_LOGIN) from error
        session = cls.__new__(cls)
        session.directory, session.record = directory, record
        return session

    @classmethod
    def current(cls, endpoints: Endpoints, directory: Path | None = None) -> Session:
        """The session in a directory, at the issuer where its login was; one at the facility's own if there is none.

        Args:
            endpoints: of the facility.
            directory: of the session; by default :func:`default_directory`.
        """
        place = directory or default_directory(endpoints)
        try:
            issuer = cls.at(place).record.issuer
        except AuthError:
            issuer = endpoints.issuer
        login = next((login for login in endpoints.logins if login.issuer == issuer), None)
        return cls(endpoints, place, login=login)

    # -- files ---------------------------------------------------------------------------------------------------

    @property
    def token_file(self) -> Path:
        """For ``BEARER_TOKEN_FILE``."""
        return self.directory / "access_token"

    @property
    def exists(self) -> bool:
        """Whether somebody is logged in here."""
        return (self.directory / "refresh_token").is_file()

    @property
    def access(self) -> Access | None:
        """Life and rights of the access token; ``None`` if there is none."""
        try:
            return Access(**json.loads((self.directory / "access.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def issuer(self) -> Issuer:
        """The session's issuer."""
        return self._issuer(patient=True)

    def _issuer(self, *, patient: bool) -> Issuer:
        return Issuer(self.record.issuer, Http(self.record.issuer_ca or self.record.ca_bundle), patient=patient)

    def require(self) -> None:
        """Make sure that somebody is logged in.

        Raises:
            AuthError: nobody is.
        """
        if not self.exists:
            raise AuthError(f"nobody is logged in to {self.record.facility}", where=str(self.directory), remedy=_LOGIN)

    # -- life ----------------------------------------------------------------------------------------------------

    def begin(self, tokens: Tokens) -> None:
        """Keep the tokens of a login and start the agent.

        Raises:
            AuthError: the issuer gave no refresh token.
        """
        if tokens.refresh is None:
            raise AuthError("the issuer gave no refresh token", expected="scope offline_access", got=tokens.scope)
        self.stop_agent()
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        atomic.write(self.directory / "session.json", json.dumps(asdict(self.record), indent=2).encode())
        with self._locked():
            self._keep(tokens)
        self.start_agent()

    def token(self) -> str:
        """The access token, renewed here and now if it is about to end.

        Raises:
            AuthError: nobody is logged in, or the session is dead.
            ServiceError: the token has ended and the issuer does not answer.
        """
        access = self.access
        margin_s = min(_MARGIN_S, (access.expires_at - access.issued_at) / 3) if access is not None else _MARGIN_S
        if access is None or access.expires_at - time.time() < margin_s:
            try:
                self.renew(margin_s, patient=access is None or access.expires_at < time.time())
            except ServiceError:
                # An outage of the issuer matters only once the token has really ended.
                if access is None or access.expires_at < time.time():
                    raise
        try:
            return self.token_file.read_text(encoding="utf-8")
        except OSError as error:
            raise AuthError("nobody is logged in", where=str(self.directory), remedy=_LOGIN) from error

    def renew(self, needed_s: float, *, patient: bool = True) -> Access:
        """Renew the tokens unless the current one lives long enough; one process at a time.

        Args:
            needed_s: how long, in seconds.
            patient: whether to wait for an issuer that is coming back; others wait meanwhile.

        Raises:
            AuthError: the session is dead; ``boathouse login`` begins another.
            ServiceError: the issuer does not answer.
        """
        self.require()
        with self._locked():
            access = self.access
            if access is not None and access.expires_at - time.time() >= needed_s and self.token_file.is_file():
                return access
            refresh = (self.directory / "refresh_token").read_text(encoding="utf-8")
            issuer = self._issuer(patient=patient)
            tokens = issuer.refresh(self.record.client_id, refresh, audience=self.record.audience)
            return self._keep(tokens)

    def withdrawn(self) -> bool:
        """Whether the access token's key was withdrawn, so that nobody takes the token any more.

        Raises:
            BoathouseError: it cannot be told now.
        """
        kid = kid_of(self.token_file.read_text(encoding="utf-8"))
        return not self._issuer(patient=False).publishes(kid or "")

    def narrowed(self, *, audience: tuple[str, ...], scope: str | None) -> Tokens:
        """A token for less: other audiences, fewer scopes. The session itself stays as it is.

        Raises:
            AuthError: the request goes beyond what the user may.
        """
        self.require()
        with self._locked():
            refresh = (self.directory / "refresh_token").read_text(encoding="utf-8")
            try:
                tokens = self.issuer().refresh(self.record.client_id, refresh, audience=audience, scope=scope)
            except AuthError as error:
                if error.got != "invalid_scope":
                    raise
                raise AuthError(
                    "your groups do not open this",
                    expected="a part of what your login may",
                    got=scope,
                    where=self.record.issuer,
                    remedy="boathouse token --json, to see what you may ask for",
                ) from error
            if tokens.refresh is not None:
                atomic.write(self.directory / "refresh_token", tokens.refresh.encode())
            return tokens

    def end(self) -> bool:
        """Log out: stop the agent, revoke the refresh token, remove the files.

        The issuer is asked once, without patience: this works on a machine whose facility is down, or gone.

        Returns:
            Whether the issuer was told; if not, the refresh token lives on until it expires.
        """
        self.stop_agent()
        told = True
        if self.exists:
            refresh = (self.directory / "refresh_token").read_text(encoding="utf-8")
            try:
                self._issuer(patient=False).revoke(self.record.client_id, refresh)
            except (BoathouseError, ssl.SSLError) as error:
                log.info("the issuer was not told of the logout: %s", error)
                told = False
        if self.directory.is_dir():
            shutil.rmtree(self.directory)
        return told

    def _keep(self, tokens: Tokens) -> Access:
        if tokens.refresh is not None:
            atomic.write(self.directory / "refresh_token", tokens.refresh.encode())
        access = Access(expires_at=tokens.expires_at, issued_at=time.time(), scope=tokens.scope)
        atomic.write(self.token_file, tokens.access.encode())
        atomic.write(self.directory / "access.json", json.dumps(asdict(access)).encode())
        return access

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.directory / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    # -- agent ---------------------------------------------------------------------------------------------------

    def start_agent(self) -> None:
        """Start the process that keeps the token fresh; it finds out by itself if there is one already."""
        with (self.directory / "agent.log").open("ab") as log:
            os.fchmod(log.fileno(), 0o600)
            subprocess.run(
                [sys.executable, "-m", "boathouse.lake.agent", str(self.directory)],
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )

    def agent_pid(self) -> int | None:
        """The agent's process, if it lives."""
        try:
            with (self.directory / "agent.lock").open("r") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return int(lock.read() or 0) or None
        except (OSError, ValueError):
            return None
        return None

    def stop_agent(self) -> None:
        """Stop the agent and wait until it has gone."""
        deadline = time.monotonic() + 10.0
        while (pid := self.agent_pid()) is not None and time.monotonic() < deadline:
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                return
            time.sleep(0.05)


def default_directory(endpoints: Endpoints) -> Path:
    """``~/.local/state/boathouse/sessions/<facility>-<hash of its issuer>``, or what ``BOATHOUSE_SESSION`` says.

    Where that is a login to another facility, whose token is nothing to this one, it does not count.
    """
    digest = hashlib.sha256(endpoints.issuer.encode()).hexdigest()[:8]
    usual = _home() / f"{endpoints.facility}-{digest}"
    chosen = os.environ.get("BOATHOUSE_SESSION")
    if not chosen:
        return usual
    try:
        other = Session.at(Path(chosen)).record.ca_bundle != endpoints.ca_bundle
    except AuthError:
        other = False
    return usual if other else Path(chosen)


def sessions_of(state: Path, *, every: bool = False) -> tuple[Session, ...]:
    """Logins of this user to the facility of a state directory, whether or not the facility is still there.

    Args:
        state: the state directory; it need not exist any more.
        every: whether those in other places than ``BOATHOUSE_SESSION`` count, where that is set.
    """
    chosen = os.environ.get("BOATHOUSE_SESSION")
    places = [Path(chosen)] if chosen else []
    if every or not chosen:
        places += sorted(_home().glob("*"))
    found: list[Session] = []
    for directory in places:
        try:
            session = Session.at(directory)
        except AuthError:
            # No session, or half of one that was killed while it was being made: it has no agent.
            continue
        if session.record.belongs_to(state) and session.directory not in [other.directory for other in found]:
            found.append(session)
    return tuple(found)


def end_sessions_of(state: Path) -> int:
    """End every login of this user to the facility of a state directory: agents stopped, files removed.

    To be called while the issuer still answers, so that it is told; it works without it all the same.

    Args:
        state: the state directory; it need not exist any more.

    Returns:
        How many there were.
    """
    ended = sessions_of(state, every=True)
    for session in ended:
        session.end()
    return len(ended)


def _home() -> Path:
    """Where the sessions of this user lie."""
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return base / "boathouse" / "sessions"
