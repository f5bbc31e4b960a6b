"""What the lake does while its issuer changes keys, withdraws them, switches people off, and is away.

One facility whose tokens live for a minute and a half, so that an outage can be longer; the tests stand in the order in
which they are cheapest: what the withdrawal of keys leaves to storage is looked at during the outage.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import pytest
import urllib3
import yaml
from joserfc import jws

from boathouse.apps.tokens.signing.keys import KeyRing
from boathouse.cli.demo import Demo
from boathouse.cli.main import build
from boathouse.errors import AuthError, ServiceError
from boathouse.lake.lake import Lake
from boathouse.lake.names import Did
from boathouse.lake.session import Session
from boathouse.run.local.supervise import Supervisor
from boathouse.testing.box import Box, box
from boathouse.testing.small import small
from boathouse.testing.wait import wait_for
from boathouse.wlcg.verify import kid_of

LIFE_S = 90
SOURCE, DESTINATION = "CNAF-STORM", "DESY-DCACHE"
SITES = {
    "CNAF": {"storage": {SOURCE: {"qos": "FAST"}}, "caches": {"CNAF-XCACHE": {"upstreams": [SOURCE]}}},
    "DESY": {"storage": {DESTINATION: {"qos": "SAFE"}}},
}
CHECKERS = ("rucio", "transfers", "storage", "cache")
TOLD = ("rucio", "transfers")
"""Those who hear of what is revoked."""
REMEMBERED_S = 65
"""XRootD remembers for a minute that a token was good; the keeper takes a key out of its cache within moments."""
UNITS = ("rucio", "transfers", "rucio-daemons")


@dataclass(frozen=True)
class File:
    """A file, at storage over https and through the cache."""

    did: Did
    url: str
    cached: str


class Sailor:
    """A person in the lake, with what they do there.

    Args:
        running: the facility.
        name: of the person.
    """

    def __init__(self, running: Box, name: str) -> None:
        self.running = running
        self.lake = running.login(name)
        self.session = Session.at(Path(running.environment(name)["BOATHOUSE_SESSION"]))
        self._environment = running.env(name)
        self._numbers = itertools.count()
        self._name = name

    def new_token(self) -> str:
        """One that nobody has seen."""
        self.session.renew(1e9)
        return self.session.token_file.read_text()

    def long_token(self) -> str:
        """The same for an hour, as whoever has the signature key makes it."""
        claims = jws.extract_compact(self.new_token().encode()).payload
        longer = {**json.loads(claims), "exp": int(time.time()) + 3600, "jti": str(uuid.uuid4())}
        return KeyRing(self.running.local.plan.layout.data / "tokens" / "keys", "ES256").active().sign(longer)

    def has_a_token_of(self, kids: Collection[str]) -> bool:
        """Whether a new token is signed by one of these keys."""
        return kid_of(self.new_token()) in kids

    def put(self, lake: Lake | None = None) -> Did:
        path = self.running.work / f"{self._name}-{next(self._numbers)}.dat"
        path.write_bytes(os.urandom(20_000))
        (result,) = (lake or self.lake).put([path], scope="cms", rse_expression=SOURCE)
        return result.did

    def put_and_copy(self, lake: Lake | None = None) -> None:
        lake = lake or self.lake
        (rule,) = lake.rules.add([self.put(lake)], DESTINATION, account=self._name)
        lake.rules.wait(rule, timeout_s=180)

    def new_file(self) -> File:
        did = self.put()
        (direct,), (cached,) = (self.lake.files(did, prefer=place) for place in ("replica", "cache"))
        url = next(url for url in direct.urls if url.startswith(("https", "davs")))
        through = next(url for url in cached.urls if url.startswith("root"))
        return File(did, re.sub(r"^davs:", "https:", url), through)

    def read_through_cache(self, url: str, token: str | None = None) -> bool:
        """Whether the stock client may, with a token or with that of the session."""
        program = self.running.local.runner.programs.xrootd_bin / "xrdcp"
        environment = dict(self._environment)
        if token is not None:
            environment["BEARER_TOKEN"] = token
            del environment["BEARER_TOKEN_FILE"]
        command = [str(program), "-f", "-N", url, "/dev/null"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0 or token is not None, done.stderr
        assert done.returncode == 0 or re.search(r"[Aa]uth|denied", done.stderr), done.stderr
        return done.returncode == 0

    def read_at_storage(self, url: str) -> None:
        assert _accepts(self.running, "storage", url, self.lake.token())

    def who_takes(self, file: File, token: str) -> dict[str, bool]:
        """Which services take a token of somebody who may read a file."""
        direct = {name: _accepts(self.running, name, file.url, token) for name in ("rucio", "transfers", "storage")}
        return {**direct, "cache": self.read_through_cache(file.cached, token)}

    def refused(self, names: tuple[str, ...], file: File, token: str) -> bool:
        return not any(_accepts(self.running, name, file.url, token) for name in names)


def _accepts(running: Box, name: str, file: str, token: str) -> bool:
    bearer = {"Authorization": f"Bearer {token}"}
    method, url, headers = {
        "rucio": ("GET", f"{running.endpoints.catalogue}/auth/validate", {"X-Rucio-Auth-Token": token}),
        "transfers": ("GET", f"{running.endpoints.transfers}/whoami", bearer),
        "storage": ("HEAD", file, bearer),
    }[name]
    pool = urllib3.PoolManager(ca_certs=running.endpoints.ca_bundle, retries=False, timeout=90)
    status = pool.request(method, url, headers=headers).status
    assert status in (200, 401, 403), (name, status)
    return status == 200


class Load:
    """Things that are done over and over, each in a thread of its own, until told to stop."""

    def __init__(self, **actions: Callable[[], object]) -> None:
        self.done = dict.fromkeys(actions, 0)
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=item) for item in actions.items()]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, name: str, action: Callable[[], object]) -> None:
        while not self._stop.is_set():
            try:
                action()
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not be
                self.failures.append(f"{name}: {error!r}")
                return
            self.done[name] += 1

    def rounds(self, number: int) -> None:
        """Wait until everything was done that many more times."""
        before = dict(self.done)

        def enough() -> bool:
            assert not self.failures, self.failures
            return all(count >= before[name] + number for name, count in self.done.items())

        wait_for("the load goes on", enough, timeout_s=300, period_s=0.2)


@pytest.fixture(scope="module")
def running() -> Iterator[Box]:
    services = {"token_lifetime": f"{LIFE_S} s", "issuer_processes": 2}
    users = {name: {"groups": ["cms"]} for name in ("alice", "bob", "carol")}
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(small(sites=SITES, services=services, users=users), file)
        file.flush()
        with box(Path(file.name)) as made:
            yield made


@pytest.fixture(scope="module")
def alice(running: Box) -> Sailor:
    return Sailor(running, "alice")


@pytest.fixture(scope="module")
def file(alice: Sailor) -> File:
    return alice.new_file()


@dataclass(frozen=True)
class Theft:
    """Tokens of a key that was then withdrawn, in an emergency: they would live on for an hour."""

    seen: str
    """All services had taken it."""
    unseen: str
    kids: list[str]
    """The names of the keys afterwards."""


@pytest.fixture(scope="module")
def theft(running: Box, alice: Sailor, file: File) -> Theft:
    unseen, seen = alice.long_token(), alice.long_token()
    assert alice.who_takes(file, seen) == dict.fromkeys(CHECKERS, True)
    return Theft(seen, unseen, _rotate(running, "--emergency"))


def _rotate(running: Box, *options: str) -> list[str]:
    """The names of the keys afterwards, oldest first."""
    return [key["kid"] for key in json.loads(running.cli("iam", "keys", "rotate", *options, "--json").stdout)]


def test_rotations_under_load_refuse_nobody(running: Box, alice: Sailor, file: File) -> None:
    with Load(
        uploads=alice.put,
        reads=lambda: alice.read_at_storage(file.url),
        reads_through_the_cache=lambda: alice.read_through_cache(file.cached),
        catalogue=lambda: list(alice.lake.rules.of(file.did)),
        copies=alice.put_and_copy,
        transfers=alice.lake.transfers.jobs,
    ) as load:
        load.rounds(1)
        for _ in range(2):
            # Longer than anybody waits before asking again for a key that is not known.
            new = _rotate(running, "--after", "7 s")[-1]
            wait_for("the new key signs", partial(alice.has_a_token_of, {new}), timeout_s=120, period_s=1)
            load.rounds(2)
    assert load.failures == []
    shown = json.loads(running.cli("iam", "keys", "list", "--json").stdout)
    assert [key["state"] for key in shown] == ["retired", "retired", "signs"]


def test_who_is_switched_off_stops_at_rucio_and_transfers_at_once(running: Box, alice: Sailor, file: File) -> None:
    """A person, and a client that speaks for itself; nobody else is refused."""
    bob = Sailor(running, "bob")
    his = bob.long_token()
    operator = Lake.operator(running.endpoints, running.local.plan.layout.secret("client-operator"))
    its = operator.token()
    assert not bob.refused(TOLD, file, his)
    assert not bob.refused(TOLD, file, its)
    running.cli("iam", "user", "disable", "bob", "--reason", "a test")
    running.cli("iam", "client", "disable", "operator", "--reason", "a test")
    try:
        for token in (his, its):
            wait_for("both refuse", partial(alice.refused, TOLD, file, token))
        assert alice.who_takes(file, alice.new_token()) == dict.fromkeys(CHECKERS, True)
    finally:
        # Whoever switched the operator off cannot switch it on by the same way.
        _sql(running, "UPDATE clients SET suspended = false WHERE client_id = 'operator'")


def test_a_withdrawn_key_is_worth_nothing_and_everything_goes_on(
    running: Box, alice: Sailor, file: File, theft: Theft
) -> None:
    assert theft.kids
    assert not {kid_of(theft.seen), kid_of(theft.unseen)} & set(theft.kids)
    wait_for("Rucio and transfers refuse the one", lambda: alice.refused(TOLD, file, theft.seen))
    wait_for(
        "all refuse the other, which storage did not know",
        lambda: alice.who_takes(file, theft.unseen) == dict.fromkeys(CHECKERS, False),
        timeout_s=120,
    )
    # The session, the keeper for the cache, Rucio and transfers get themselves tokens of the new key.
    wait_for("a new token", partial(alice.has_a_token_of, theft.kids))
    another = alice.new_file()
    wait_for(
        "all take a new token",
        lambda: alice.who_takes(another, alice.new_token()) == dict.fromkeys(CHECKERS, True),
        timeout_s=120,
    )
    alice.put_and_copy()


def test_c22_an_outage_of_the_issuer_stops_no_transfer_and_nothing_spins(
    running: Box, alice: Sailor, file: File, theft: Theft
) -> None:
    """Tokens live for ninety seconds here, and the outage is longer; in an hour's life, ten minutes are less."""
    supervisor = Supervisor(running.local.state, Path(sys.executable))
    carol = Sailor(running, "carol")
    hers, hers_too = carol.long_token(), carol.new_token()
    operator = Lake.operator(running.endpoints, running.local.plan.layout.secret("client-operator"))
    # For what takes longer on a busy machine than a token lives.
    long = alice.long_token()
    held = Lake(running.endpoints, lambda: long)
    running.cli("iam", "user", "disable", "carol", "--reason", "a test")
    wait_for("she is refused", lambda: carol.refused(TOLD, file, hers))
    alice.put_and_copy()
    logs = {unit: _log(running, unit) for unit in (*UNITS, "keeper")}
    token, operators, began = alice.new_token(), operator.token(), time.time()
    for unit in ("tokens-2", "tokens"):
        supervisor.stop_process(unit)
    try:
        assert operator.token() == operators
        alice.put_and_copy(held)
        assert carol.refused(TOLD, file, hers), "what is known of her stays known"
        for unit in UNITS:
            supervisor.stop_process(unit)
            supervisor.start_process(unit)
        running.wait_ready(*UNITS)
        assert alice.who_takes(file, long) == dict.fromkeys(CHECKERS, True), "who starts now knows the keys"
        # Rucio's daemons have lost their tokens: a rule that is made now waits for the issuer.
        (rule,) = held.rules.add([alice.put(held)], DESTINATION, account="alice")
        wait_for(
            "storage refuses what the withdrawn key signed",
            lambda: alice.refused(("storage",), file, theft.seen),
            timeout_s=2 * REMEMBERED_S,
        )
        _nobody_can_log_in(running)
        wait_for("every token has ended", lambda: time.time() > began + LIFE_S + 5, timeout_s=LIFE_S + 30)
        for ended in (token, hers_too):
            assert alice.who_takes(file, ended) == dict.fromkeys(CHECKERS, False)
        with pytest.raises(ServiceError, match="token issuer cannot be reached") as told:
            operator.token()
        assert (told.value.where, told.value.remedy) == (running.endpoints.issuer, "boathouse status")
        outage_s = time.time() - began
        for unit, before in logs.items():
            said = _log(running, unit)[len(before) :].splitlines()
            assert len(said) < outage_s * 4, f"{unit} spins: {said[-20:]}"
    finally:
        for unit in ("tokens", "tokens-2"):
            supervisor.start_process(unit)
    wait_for("the session is well again", lambda: _token_of(alice), timeout_s=180, period_s=0.5)
    alice.lake.rules.wait(rule, timeout_s=240)
    alice.put_and_copy()
    assert operator.token() != operators
    running.wait_ready()


def test_the_demonstration_is_repeated_after_its_users_password_was_changed(
    running: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOATHOUSE_SESSION", str(running.work / "session-demo"))
    demo = Demo(lambda words: build()(list(words), standalone_mode=False), running.state, running.work)
    demo.log_in()
    demo.log_in()
    demo.command("logout")
    assert [step.outcome for step in demo.steps] == ["alice, by device code", "alice was logged in"]
    secret = running.work / "secret"
    secret.write_text("a password of her own")
    running.cli("iam", "user", "set-password", "alice", "--password-file", secret)
    with pytest.raises(AuthError, match="cannot log in as alice") as told:
        demo.log_in()
    assert "boathouse login --user alice" in str(told.value.remedy)
    demo.command("login", "--user", "alice", "--password-file", str(secret))
    demo.log_in()
    demo.command("logout")
    assert demo.steps[-1].outcome == "alice was logged in"


def _token_of(person: Sailor) -> bool:
    try:
        return bool(person.lake.token())
    except ServiceError:
        return False


def _nobody_can_log_in(running: Box) -> None:
    password = running.local.plan.layout.secret("password-bob")
    refused = running.login_with("bob", "--user", "bob", "--password-file", password, check=False)
    assert refused.returncode == ServiceError.exit_code
    assert running.endpoints.issuer in refused.stderr
    assert "Traceback" not in refused.stderr


def _log(running: Box, unit: str) -> str:
    return (running.local.plan.layout.logs / f"{unit}.log").read_text(errors="replace")


def _sql(running: Box, statement: str) -> None:
    layout = running.local.plan.layout
    psql = running.local.runner.programs.postgres_bin / "psql"
    subprocess.run(
        [psql, "-h", layout.run / "postgres", "-U", "tokens", "-d", "tokens", "-c", statement],
        env={"PGPASSWORD": layout.secret("postgres-tokens").read_text()},
        check=True,
        capture_output=True,
    )
