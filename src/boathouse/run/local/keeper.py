"""The keeper: what a running facility needs done from time to time, and that Supervisor does not do.

It puts the issuers' keys where storage, caches and services look for them, keeps the caches' service tokens fresh, and
what these show to lakes of others, renews certificates before they end, measures how full storage is, and stops the
writers when the disk is nearly full.
Run by the facility as ``python -m boathouse.run.local.keeper --config FILE``; its report is the unit's probe.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boathouse.errors import BoathouseError
from boathouse.plan.model import Certificate
from boathouse.run import pki
from boathouse.run.local.account import service_account
from boathouse.run.local.credentials import CONNECTED, Credential, CredentialKeeper
from boathouse.run.local.space import Accountant
from boathouse.run.local.state import open_existing, write_atomically
from boathouse.run.local.supervise import RUNNING_STATES, Supervisor
from boathouse.run.local.trusted import TrustedIssuer, TrustedKeys
from boathouse.units import format_bytes
from boathouse.wlcg import keycache
from boathouse.wlcg.clientcred import ClientCredentials
from boathouse.wlcg.verify import kid_of

_log = logging.getLogger("keeper")

_PERIOD_S = 1.0
_OTHERS_S = 5.0
"""How long the first report waits for what others' issuers give, which caches want when they start."""
_SLOW_EVERY = 10
"""Certificates and disk are looked at every so many periods."""

_RESUME_FACTOR = 1.1
"""Writers go on when this much more than the reserve is free, so that they do not flap."""


@dataclass(frozen=True)
class ServiceToken:
    """A token that a service reads from a file."""

    path: Path
    client_id: str
    secret: Path
    audience: str
    scope: str


@dataclass(frozen=True)
class Settings:
    """The keeper's configuration file."""

    state: Path
    report: Path
    issuer: str
    jwks: Path | None
    """The keys of the facility's own issuer, if it runs one."""
    ca: Path
    key_caches: tuple[Path, ...]
    tokens: tuple[ServiceToken, ...]
    disk_reserve_bytes: int
    writers: tuple[str, ...]
    """Units that are stopped when the disk is nearly full."""
    space: Path
    """Where to tell how full storage elements are."""
    elements: Mapping[str, tuple[Path, int]]
    """Directory and capacity in bytes of each storage element, by RSE."""
    trusted: tuple[TrustedIssuer, ...] = ()
    credentials: tuple[Credential, ...] = ()

    @classmethod
    def load(cls, path: Path) -> Settings:
        """Read the file that the driver of the keeper rendered."""
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            state=Path(raw["state"]),
            report=Path(raw["report"]),
            issuer=raw["issuer"],
            jwks=Path(raw["jwks"]) if raw["jwks"] else None,
            ca=Path(raw["ca"]),
            key_caches=tuple(Path(item) for item in raw["key_caches"]),
            tokens=tuple(
                ServiceToken(
                    Path(item["path"]), item["client_id"], Path(item["secret"]), item["audience"], item["scope"]
                )
                for item in raw["tokens"]
            ),
            disk_reserve_bytes=int(raw["disk_reserve_bytes"]),
            writers=tuple(raw["writers"]),
            space=Path(raw["space"]),
            elements={rse: (Path(one["directory"]), one["capacity_bytes"]) for rse, one in raw["elements"].items()},
            trusted=tuple(TrustedIssuer.load(item) for item in raw["trusted"]),
            credentials=tuple(Credential.load(item) for item in raw["credentials"]),
        )


class Keeper:
    """One round after another; a duty that fails is reported and tried again in the next round."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._state = open_existing(settings.state, service_account())
        self._supervisor = Supervisor(self._state, Path(sys.executable))
        self._clients = {
            token.path: ClientCredentials(
                settings.issuer,
                token.client_id,
                token.secret.read_text(encoding="utf-8").strip(),
                settings.ca,
                left=CONNECTED,
            )
            for token in settings.tokens
        }
        self._trusted = [TrustedKeys(one, settings.key_caches, self._state.account) for one in settings.trusted]
        self._credentials = [
            CredentialKeeper(one, settings.issuer, self._state.account) for one in settings.credentials
        ]
        self._accountant = Accountant(settings.space, settings.elements, self._state.account)
        self._seeded = b""
        self._kids: frozenset[str] = frozenset()
        self._round = 0
        self._paused: set[str] = set()
        self._faults: dict[str, str] = {}
        self._elsewhere: dict[str, str] = {}
        """Faults of others' issuers, which do not make this facility unfit."""
        self._asked_others = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop."""
        threading.Thread(target=self._accountant.run, args=(stop,), name="space", daemon=True).start()
        if self._credentials:
            # Others' issuers may take long to answer, or never do: the facility's own duties do not wait for them.
            threading.Thread(target=self._keep_credentials, args=(stop,), name="credentials", daemon=True).start()
            self._asked_others.wait(_OTHERS_S)
        while True:
            self._do("keys", self._seed_keys)
            for keys in self._trusted:
                self._do("trusted keys", keys.keep)
            self._do("tokens", self._refresh_tokens)
            if self._round % _SLOW_EVERY == 0:
                # On the first round the facility is still starting: certificates are fresh, and nobody writes yet.
                if self._round:
                    self._do("certificates", self._renew_certificates)
                self._do("disk", self._watch_disk)
            self._report()
            self._round += 1
            if stop.wait(_PERIOD_S):
                return

    def _keep_credentials(self, stop: threading.Event) -> None:
        while True:
            for credential in self._credentials:
                self._do(credential.duty, credential.keep, self._elsewhere)
            self._asked_others.set()
            if stop.wait(_PERIOD_S):
                return

    def _do(self, duty: str, work: Callable[[], None], faults: dict[str, str] | None = None) -> None:
        faults = self._faults if faults is None else faults
        try:
            work()
        except (BoathouseError, OSError, ValueError) as error:
            if faults.get(duty) != str(error):
                _log.warning("%s: %s", duty, error)
            faults[duty] = str(error)
        else:
            if faults.pop(duty, None):
                _log.info("%s: right again", duty)

    def _seed_keys(self) -> None:
        if self._settings.jwks is None:
            return
        text = self._settings.jwks.read_bytes()
        if text == self._seeded:
            return
        keys = json.loads(text)
        for directory in self._settings.key_caches:
            keycache.seed(directory, self._settings.issuer, keys)
        _log.info("gave %d keys of the issuer to %d key caches", len(keys["keys"]), len(self._settings.key_caches))
        self._seeded = text
        self._kids = frozenset(key["kid"] for key in keys["keys"])

    def _refresh_tokens(self) -> None:
        for token in self._settings.tokens:
            client = self._clients[token.path]
            text = client.token(token.audience, token.scope)
            if self._kids and kid_of(text) not in self._kids:
                # Its key was withdrawn: storage takes it no more. Or its key is so new that the next round knows it.
                client.forget(text)
                text = client.token(token.audience, token.scope)
            if not token.path.exists() or token.path.read_text(encoding="utf-8") != text:
                write_atomically(token.path, text, self._state.account, mode=0o600)

    def _renew_certificates(self) -> None:
        plan = json.loads((self._state.layout.config / "plan.json").read_text(encoding="utf-8"))
        for item in plan["certificates"]:
            wanted = Certificate(item["name"], tuple(item["addresses"]), tuple(item["dns"]))
            if pki.ensure_certificate(
                self._state.layout.pki, wanted, plan["certificate_lifetime_s"], self._state.account.own
            ):
                path = str(self._state.layout.certificate(wanted.name))
                users = [unit["name"] for unit in plan["units"] if path in json.dumps(unit)]
                _log.info("renewed the certificate %s; restarting %s", wanted.name, ", ".join(users))
                for name in users:
                    self._restart(name)

    def _restart(self, name: str) -> None:
        info = self._supervisor.processes().get(name)
        if info and info.state in RUNNING_STATES:
            self._supervisor.stop_process(name)
            self._supervisor.start_process(name)

    def _watch_disk(self) -> None:
        free = shutil.disk_usage(self._state.path).free
        reserve = self._settings.disk_reserve_bytes
        if free < reserve:
            for name, info in self._supervisor.processes().items():
                if name in self._settings.writers and info.state in RUNNING_STATES:
                    self._supervisor.stop_process(name)
                    self._paused.add(name)
        elif self._paused and free > reserve * _RESUME_FACTOR:
            for name in sorted(self._paused):
                self._supervisor.start_process(name)
            self._paused.clear()
        if self._paused or free < reserve:
            msg = (
                f"only {format_bytes(free)} of disk left, less than the reserve of {format_bytes(reserve)}; "
                f"stopped {', '.join(sorted(self._paused)) or 'nothing'} until there is room"
            )
            raise OSError(msg)

    def _report(self) -> None:
        faults = self._faults | ({"space": self._accountant.fault} if self._accountant.fault else {})
        told = (faults | self._elsewhere).items()
        detail = "; ".join(f"{duty}: {fault}" for duty, fault in sorted(told))
        document = {"ok": not faults, "detail": detail or "keys, tokens, certificates, disk", "pid": os.getpid()}
        write_atomically(self._settings.report, json.dumps(document), self._state.account, mode=0o600)


def main() -> None:
    """Run the keeper until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    Keeper(Settings.load(arguments.config)).run(stop)


if __name__ == "__main__":
    main()
