"""Rucio's stock ``fts3`` transfer tool against the service, unmodified."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from boathouse.checksums import Adler32
from boathouse.plan.service import Programs
from boathouse.testing.wait import wait_for

from .box import Box, Service
from .equipment import DESTINATION, SOURCE, TRANSFERS

CALLS = Path(__file__).with_name("rucio_calls.py")


def calls(box: Box, programs: Programs, service: Service, *wanted: tuple[str, Any], oidc: bool = True) -> list[Any]:
    """The tool's answers."""
    asked = {
        "url": service.url,
        "oidc": oidc,
        "tokens": {
            "fts": box.issuer.token(TRANSFERS, "fts"),
            "source": box.issuer.token(SOURCE, "storage.read:/lake"),
            "destination": box.issuer.token(DESTINATION, "storage.read:/lake storage.modify:/lake"),
        },
        "calls": wanted,
    }
    command = [programs.rucio_python, "-I", CALLS]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    answers: list[Any] = json.loads(done.stdout)
    return answers


def test_rucios_own_tool_submits_and_polls(box: Box, programs: Programs, shared: Service, place: str) -> None:
    files = []
    for name, data in (("f", b"bytes"), ("g", b"")):
        box.put(f"{place}/{name}", data)
        where = {"source": box.source.davs + f"{place}/{name}", "destination": box.destination.davs + f"{place}/{name}"}
        files.append({**where, "size": len(data), "adler32": Adler32(data).hexdigest(), "request_id": name})
    version, whoami, submitted = calls(box, programs, shared, ("version", None), ("whoami", None), ("submit", files))
    assert version["answer"]["api"]["major"] == 3
    assert whoami["answer"]["user_dn"] == "rucio"
    job_id = submitted["answer"]

    def polled() -> Any:
        (found,) = calls(box, programs, shared, ("bulk_query", {job_id: ["f", "g"]}))
        states = found["answer"][job_id]
        return states if {state for _, state in states.values()} == {"FINISHED"} else None

    assert wait_for("the tool sees the end", polled, timeout_s=180) == {
        "f": ["FINISHED", "FINISHED"],
        "g": ["FINISHED", "FINISHED"],
    }
    assert box.destination.holds(f"{place}/f") == b"bytes"
    lost, (details,) = (
        calls(box, programs, shared, ("bulk_query", {"00000000-0000-4000-8000-000000000000": ["x"]})),
        calls(box, programs, shared, ("query", job_id)),
    )
    assert "NoneType" in lost[0]["error"], "a lost job is None in the answer"
    assert {each["file_state"] for each in details["answer"]} == {"FINISHED"}


def test_rucios_own_cancel_and_priority_carry_no_token(box: Box, programs: Programs, shared: Service) -> None:
    """Rucio makes its tool without a token to cancel and to change priorities: both are refused, as documented."""
    job_id = shared.submit({**box.file("/lake/cms/f", b"f"), "destinations": ["davs://127.0.1.19:1/lake/rucio"]})
    refused = calls(box, programs, shared, ("cancel", job_id), ("update_priority", job_id), oidc=False)
    assert all("no bearer token" in each["error"] for each in refused), refused
    assert shared.job(job_id)["job_state"] != "CANCELED"
    (ended,) = calls(box, programs, shared, ("cancel", job_id))
    assert ended["answer"]["job_state"] == "CANCELED"
