"""Is a unit ready, and if not, why."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import urllib3

from boathouse.plan.model import Probe, ProbeKind
from boathouse.run.local.account import Account

_REPORT_AGE_S = 30.0


@dataclass(frozen=True)
class Answer:
    """A probe's answer."""

    ok: bool
    detail: str


class Prober:
    """Asks probes of one facility: connections are kept, the CA is loaded once."""

    def __init__(self, ca: Path, account: Account, environment: Mapping[str, str]) -> None:
        self._pool = urllib3.PoolManager(ca_certs=str(ca), retries=False, timeout=urllib3.Timeout(10.0), maxsize=2)
        self._account = account
        self._environment = dict(environment)

    def ask(self, probe: Probe) -> Answer:
        """One question, answered within a few seconds; never raises."""
        if probe.kind is ProbeKind.https:
            return self._https(probe.target)
        if probe.kind is ProbeKind.command:
            return self._command(probe.command)
        with self._account.acting():
            return _report(Path(probe.target))

    def _https(self, url: str) -> Answer:
        try:
            response = self._pool.request("GET", url)
        except urllib3.exceptions.HTTPError as error:
            return Answer(ok=False, detail=f"{url}: {_reason(error)}")
        if response.status == 200:
            return Answer(ok=True, detail="answers")
        body = response.data[:200].decode(errors="replace").strip()
        return Answer(ok=False, detail=f"{url}: HTTP {response.status} {body}")

    def _command(self, command: tuple[str, ...]) -> Answer:
        try:
            result = subprocess.run(
                command,
                env=self._environment,
                capture_output=True,
                text=True,
                timeout=10,
                check=False,
                **self._account.popen_arguments(),
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return Answer(ok=False, detail=str(error))
        if result.returncode == 0:
            return Answer(ok=True, detail="answers")
        said = (result.stderr or result.stdout).strip()[-200:]
        return Answer(ok=False, detail=f"{Path(command[0]).name}: exit status {result.returncode} {said}".strip())


def _reason(error: urllib3.exceptions.HTTPError) -> str:
    cause = error.__cause__ or error.__context__ or error
    return str(getattr(cause, "strerror", None) or cause)


def _report(path: Path) -> Answer:
    try:
        age = time.time() - path.stat().st_mtime
        document = json.loads(path.read_text(encoding="utf-8"))
        ok, detail, pid = bool(document["ok"]), str(document["detail"]), int(document["pid"])
    except FileNotFoundError:
        return Answer(ok=False, detail="has not reported yet")
    except (OSError, ValueError, KeyError) as error:
        return Answer(ok=False, detail=f"its report cannot be read: {error}")
    if age > _REPORT_AGE_S:
        return Answer(ok=False, detail=f"its last report is {age:.0f} s old: {detail}")
    if not Path(f"/proc/{pid}").exists():
        return Answer(ok=False, detail=f"its last report is of process {pid}, which has ended")
    return Answer(ok=ok, detail=detail)
