"""Tokens that count no more although they have not ended: the issuer's list, followed without asking it per request.

The issuer describes the list (``boathouse.apps.tokens.trail.feed``). A thread waits there for its next entry, so that
what is revoked is refused here within moments, and a check is a look into a dictionary. While the issuer does not
answer, the list that is known stays, and other tokens are taken: what a lost entry would have refused ends within a
token's life.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import jwt
import requests

from boathouse_rucio_site.errors import TokenError
from boathouse_rucio_site.issuer import Issuer, Issuers, read_secrets

ENDPOINT = "boathouse_denials_endpoint"
"""Its name in the issuer's metadata; other issuers have none."""
WAIT_S = 25
"""How long the issuer is asked to wait for news."""
FIRST_S = 2.0
"""How long the first requests wait for the first answer of the issuer."""
RETRY_S = (0.5, 5.0)
"""Shortest and longest pause after a failure."""
ABSENT_S = 300.0
"""Pause after an answer that will not change soon: the issuer has no list, or does not show it."""

_log = logging.getLogger(__name__)

Entry = Mapping[str, Any]


class AbsentError(TokenError):
    """The issuer has no list, or does not show it to this client."""


class Denials:
    """What one issuer denies. Thread-safe; empty until something is added.

    Attributes:
        settled: set after the first answer, or once it is clear that none can be had.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.settled = threading.Event()
        self._clock = clock
        self._denied: dict[tuple[str, str], tuple[int, int]] = {}

    def __len__(self) -> int:
        """How many entries there are; waits for the first answer of the issuer, though not for long."""
        self.settled.wait(FIRST_S)
        return len(self._denied)

    def add(self, entries: list[Entry]) -> None:
        """Take over entries, and forget those that no living token can meet."""
        now = self._clock()
        denied = {entry: times for entry, times in self._denied.items() if times[1] > now}
        for entry in entries:
            denied[str(entry["kind"]), str(entry["key"])] = (int(entry["issued_until"]), int(entry["expires_at"]))
        self._denied = denied

    def holds(self, claims: Mapping[str, Any], kid: str | None) -> bool:
        """Whether a token is denied, by its claims and the name of its key."""
        denied = self._denied
        sub, client_id = str(claims.get("sub", "")), str(claims.get("client_id", ""))
        stated = claims.get("iat")
        issued_at = stated if isinstance(stated, int | float) else 0
        met = (
            ("token", str(claims.get("jti", ""))),
            ("subject", sub),
            ("client", client_id),
            ("client", sub),
            ("grant", f"{sub} {client_id}"),
            ("key", kid or ""),
        )
        return any(issued_at <= denied[entry][0] for entry in met if entry in denied)


class Follower:
    """Follows an issuer's list in a thread.

    Args:
        issuer: whose list.
        credentials: name and secret of a client there.
        denials: where entries go.
        heard: called after new entries were added, with their kinds.
    """

    def __init__(
        self,
        issuer: Issuer,
        credentials: tuple[str, str],
        denials: Denials,
        heard: Callable[[frozenset[str]], None] = lambda _: None,
    ) -> None:
        self._issuer = issuer
        self._session = requests.Session()
        self._session.auth = credentials
        self._denials = denials
        self._heard = heard
        self._version = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="denials", daemon=True)

    def start(self) -> None:
        """Begin, in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more questions."""
        self._stop.set()

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                self._once()
            except TokenError as error:
                pause = ABSENT_S if isinstance(error, AbsentError) else min(RETRY_S[0] * 2**failures, RETRY_S[1])
                if not failures:
                    _log.warning("the list of denied tokens stays as it is, next try in %.1f s: %s", pause, error)
                failures = min(failures + 1, 10)
                self._denials.settled.set()
                self._stop.wait(pause)
            else:
                if failures:
                    _log.warning("the list of denied tokens is followed again")
                failures = 0
                self._denials.settled.set()

    def _once(self) -> None:
        endpoint = self._issuer.optional_endpoint(ENDPOINT)
        if endpoint is None:
            raise AbsentError(f"{self._issuer.url} has no list of denied tokens")
        # The first answer is wanted at once.
        wait = WAIT_S if self._denials.settled.is_set() else 0
        try:
            response = self._session.get(
                endpoint,
                params={"after": self._version, "wait": wait},
                timeout=(5.0, WAIT_S + 10.0),
                allow_redirects=False,
            )
            if response.status_code in (401, 403, 404):
                raise AbsentError(f"GET {endpoint}: status {response.status_code}")
            response.raise_for_status()
            document = response.json()
            entries = list(document["denied"])
            self._denials.add(entries)
            self._version = int(document["version"])
        except (requests.RequestException, KeyError, TypeError, ValueError) as error:
            raise TokenError(f"GET {endpoint}: {error}") from error
        if entries:
            _log.info("%d more tokens, clients, people or keys are denied", len(entries))
            self._heard(frozenset(str(entry["kind"]) for entry in entries))


class Lists:
    """The lists of all issuers of ``idpsecrets.json``, by URL; empty until :meth:`follow`."""

    def __init__(self) -> None:
        self._lists: dict[str, Denials] = {}

    def follow(self, trusted: Issuers, heard: Callable[[str, frozenset[str]], None] = lambda *_: None) -> None:
        """Follow the lists of issuers at which this server has a client, from now on.

        Args:
            trusted: the issuers.
            heard: called after new entries were added, with the issuer's URL and their kinds.
        """
        for entry in read_secrets(trusted.path).values():
            issuer = trusted.get(str(entry["issuer"]))
            if issuer.url in self._lists:
                continue
            denials = self._lists[issuer.url] = Denials()

            def told(kinds: frozenset[str], issuer: Issuer = issuer) -> None:
                if "key" in kinds:
                    issuer.refresh()
                heard(issuer.url, kinds)

            credentials = (str(entry["client_id"]), str(entry["client_secret"]))
            Follower(issuer, credentials, denials, told).start()

    def hold(self, token: str) -> bool:
        """Whether a token is denied by its issuer, if the token is genuine: its signature is checked elsewhere."""
        if not token or not any(map(len, self._lists.values())):
            return False
        try:
            header = jwt.get_unverified_header(token)
            claims = jwt.decode(token, options={"verify_signature": False})
        except jwt.PyJWTError:
            return False
        denials = self._lists.get(str(claims.get("iss")))
        return denials is not None and denials.holds(claims, header.get("kid"))


lists = Lists()
"""Those of this process."""
