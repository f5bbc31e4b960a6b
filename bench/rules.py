"""How long from a rule to its being OK, beside the copies alone."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from bench.curl import curl_parallel
from bench.facility import SCOPE, USER, laptop, random_files
from bench.harness import Benchmark, Effort, Row, timed
from boathouse.lake.lake import OPERATOR
from boathouse.lake.names import Did
from boathouse.lake.tokens import Issuer
from boathouse.services.xrootd import copy_unit_name
from boathouse.testing.box import Box

_SOURCE, _DESTINATION = "CNAF-STORM", "DESY-DCACHE"
_FILE_BYTES = 100_000
_COPIES_AT_ONCE = 8


def _rule_s(running: Box, did: Did) -> float:
    lake = running.login(USER)

    def until_ok() -> None:
        (rule_id,) = lake.rules.add([did], _DESTINATION, account=lake.catalogue.account)
        lake.rules.wait(rule_id, timeout_s=300)

    return timed(until_ok)


def _bare_copies_s(running: Box, names: list[str]) -> float:
    """The third-party copies alone, as many at once as the transfer service runs on one link."""
    lake = running.login(USER)
    door = running.local.plan.unit(copy_unit_name(_DESTINATION)).url
    token = _service_token(running, str(urlsplit(door).hostname))
    at = {found.did.name: found.pfns for found in lake.catalogue.replicas([Did(SCOPE, name) for name in names])}
    requests = []
    for name in names:
        path = next(url for url, rse in at[name].items() if rse == _SOURCE and url.startswith("https"))
        requests.append(
            [
                'request = "COPY"',
                f'header = "Source: {path}"',
                f'header = "TransferHeaderAuthorization: Bearer {lake.token()}"',
                'header = "Credential: none"',
                f'url = "{door}/lake/{SCOPE}/bare/{name}"',
            ]
        )
    ca, work = Path(running.endpoints.ca_bundle), running.work
    return timed(lambda: curl_parallel(requests, token=token, ca=ca, work=work, at_once=_COPIES_AT_ONCE))


def _service_token(running: Box, audience: str) -> str:
    """A token that a copy door takes: people get none."""
    issuer = Issuer(running.endpoints.issuer, running.login(USER).http)
    secret = running.local.plan.layout.secret(f"client-{OPERATOR}")
    return issuer.client(OPERATOR, secret, audiences=[audience])()


def _measure(running: Box, count: int, target_s: float) -> Row:
    did = Did(SCOPE, f"rule-{count}")
    paths = random_files(running.work / did.name, count=count, size_bytes=_FILE_BYTES)
    running.cli("import", *paths, "--to", str(did), "--rse", _SOURCE, "--any-file", user=USER)
    ours_s = _rule_s(running, did)
    limit_s = _bare_copies_s(running, [path.name for path in paths])
    return Row(
        id=f"rule.{count}files",
        what=f"from adding a rule on {count} files of {_FILE_BYTES // 1000} kB to its state OK, all copies verified",
        unit="s",
        better="lower",
        ours=ours_s,
        limit=limit_s,
        target=f"{target_s:g} s; the limit is the bare COPY requests alone",
        met=ours_s <= target_s,
    )


def _run(effort: Effort) -> list[Row]:
    with laptop() as running:
        if effort is Effort.quick:
            return [_measure(running, 5, 2.0)]
        # The first rule of a facility opens its connections and fetches its tokens.
        _measure(running, 1, 10)
        return [_measure(running, 5, 2.0), _measure(running, 100, 5.0)]


BENCHMARK = Benchmark("rule", ("rule.5files", "rule.100files"), _run)
