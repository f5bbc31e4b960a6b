"""The same third-party copies by other clients: bare COPY requests, and gfal2."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.curl import curl_parallel
from bench.pair import FOLDER, Made, Pair, in_parallel
from boathouse.errors import HostError

_PYTHON = "/usr/bin/python3"
"""Debian's, the one that has the bindings of gfal2."""

_TRIES = 5
"""A busy XRootD may answer 400 when it is asked for the checksum of a file that was written this instant."""


def bare(pair: Pair, files: Sequence[Made], *, at_once: int) -> None:
    """COPY requests alone: nobody looks at what arrived, apart from its size at the end of the measurement.

    Raises:
        AssertionError: a copy failed.
    """
    requests = [
        [
            'request = "COPY"',
            f'header = "Source: {pair.source.https}{FOLDER}/{file.name}"',
            f'header = "TransferHeaderAuthorization: Bearer {pair.read}"',
            'header = "Credential: none"',
            'header = "Overwrite: F"',
            f'url = "{pair.destination.https}{FOLDER}/{file.name}"',
        ]
        for file in files
    ]
    token = pair.write[pair.destination]
    curl_parallel(requests, token=token, ca=pair.ca, work=pair.work, at_once=at_once)


def checked(pair: Pair, files: Sequence[Made], *, at_once: int) -> None:
    """COPY requests, then a question for the checksum of each file: what a service must ask at the least."""
    bare(pair, files, at_once=at_once)
    again = [f"retry = {_TRIES}", "retry-delay = 1", "retry-all-errors"]
    requests = [
        ["head", *again, 'header = "Want-Digest: adler32"', f'url = "{pair.destination.https}{FOLDER}/{file.name}"']
        for file in files
    ]
    says = pair.work / "heads"
    token = pair.write[pair.destination]
    curl_parallel(requests, token=token, ca=pair.ca, work=pair.work, at_once=at_once, says=says)
    told = says.read_text().lower()
    missing = [file.name for file in files if f"adler32={file.adler32}" not in told]
    assert not missing, f"{len(missing)} checksums are not as they should be: {missing[:3]}"


def gfal(pair: Pair, files: Sequence[Made], *, at_once: int) -> None:
    """``gfal-copy``, one process a file, with its own check of the checksum at both ends."""
    environment = _gfal_environment(pair)

    def copy(file: Made) -> None:
        _gfal_copy(
            environment, f"{pair.source.davs}{FOLDER}/{file.name}", f"{pair.destination.davs}{FOLDER}/{file.name}"
        )

    in_parallel(files, copy, at_once=at_once)


def gfal_list(pair: Pair, files: Sequence[Made]) -> None:
    """One ``gfal-copy`` for a list of files, which it copies one after the other."""
    # It puts files below a destination only if that is a directory.
    pair.destination.folder.mkdir(exist_ok=True)
    pair.state.account.own(pair.destination.folder)
    listed = pair.work / "gfal.list"
    listed.write_text("".join(f"{pair.source.davs}{FOLDER}/{file.name}\n" for file in files))
    _gfal_copy(_gfal_environment(pair), "--from-file", str(listed), f"{pair.destination.davs}{FOLDER}/")


def _gfal_copy(environment: dict[str, str], *arguments: str) -> None:
    """Copy, and again what fails: it gives up at the first question that is not answered."""
    for _ in range(_TRIES):
        done = subprocess.run(
            ["gfal-copy", "--force", "--parent", "--copy-mode", "pull", "--checksum", "ADLER32", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return
    msg = f"gfal-copy, {_TRIES} times: {done.stdout[-1000:]}{done.stderr[-1000:]}"
    raise AssertionError(msg)


def _gfal_environment(pair: Pair) -> dict[str, str]:
    """One token for both ends: gfal2 shows the same to either."""
    if shutil.which("gfal-copy") is None:
        raise HostError(
            "gfal-copy is missing, which copies are measured beside",
            remedy="install/run --tests, or apt-get install gfal2-util-scripts gfal2-plugin-http",
        )
    token = pair.token("storage.read:/lake storage.modify:/lake", pair.source, pair.destination)
    return {
        **{name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")},
        "GFAL_PYTHONBIN": _PYTHON,
        "BEARER_TOKEN": token,
        "X509_CERT_DIR": str(Path(pair.ca).parent / "hashed"),
    }
