"""The program of a facility's token issuer, run for the operator as the services' user."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from boathouse.errors import ServiceError, StateError
from boathouse.plan.service import Programs
from boathouse.run.local.account import child_environment, service_account
from boathouse.run.local.state import open_existing

_TIMEOUT_S = 120


def ask(programs: Programs, state: Path, *words: str) -> Any:
    """Run a command of the issuer that answers with JSON.

    Args:
        programs: of the installation.
        state: state directory of the facility.
        words: the command and its options, as ``python -m boathouse.apps.tokens`` takes them.

    Raises:
        StateError: there is no facility here.
        ServiceError: the command failed; ``got`` has its words.
    """
    account = service_account()
    opened = open_existing(state, account)
    config = opened.layout.config / "tokens" / "settings.json"
    if not config.is_file():
        raise StateError(
            "the facility runs no issuer of its own",
            expected="a facility file without services.issuer",
            where=str(config),
            remedy="ask whoever runs the issuer",
        )
    command = [str(programs.python), "-m", "boathouse.apps.tokens", *words, "--config", str(config)]
    done = subprocess.run(
        command,
        cwd=opened.layout.root,
        env=child_environment(account, opened.layout.run, {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
        **account.popen_arguments(),
    )
    if done.returncode != 0:
        raise ServiceError(
            "the issuer's program failed",
            got=done.stderr.strip().rpartition("\n")[2] or f"exit status {done.returncode}",
            where=str(config),
            remedy="boathouse status",
        )
    return json.loads(done.stdout)
