"""Many requests by one curl process: the fastest stock client there is."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path


def curl_parallel(
    requests: Sequence[Sequence[str]], *, token: str, ca: Path, work: Path, at_once: int, says: Path | None = None
) -> None:
    """Send requests over kept-alive connections.

    Args:
        requests: lines of curl's configuration file, for each request.
        token: bearer token of all of them; it stands in a file of mode 0600, never on a command line.
        ca: whom to trust.
        work: a directory for that file.
        at_once: how many go on at the same time.
        says: where all bodies are written, one after the other; nowhere if not given.

    Raises:
        subprocess.CalledProcessError: a request was refused.
    """
    common = [
        f'header = "Authorization: Bearer {token}"',
        f'cacert = "{ca}"',
        "silent",
        "no-progress-meter",
        "show-error",
        "fail",
    ]
    if says is None:
        common.append('output = "/dev/null"')
    config = work / "curl.cfg"
    config.touch(mode=0o600)
    config.write_text("\nnext\n".join("\n".join([*common, *request]) for request in requests) + "\n")
    command = ["curl", "--parallel", "--parallel-immediate", "--parallel-max", str(at_once), "--config", str(config)]
    try:
        with (says or Path("/dev/null")).open("wb") as stream:
            subprocess.run(command, check=True, stdout=stream)
    finally:
        config.unlink()
