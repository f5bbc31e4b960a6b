"""How much each storage element holds: its own files, whatever else lies on the disk that it shares.

XRootD tells the space of the file system, which all elements of one machine would report alike, and its quotas
(``oss.usage``) are told and not enforced. So the directories are walked, for one fiftieth of the time at most.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from boathouse.run.local.account import Account
from boathouse.run.local.state import write_atomically

_log = logging.getLogger("keeper")

_PERIOD_S = 5.0
_SHARE = 50
"""A walk that took a second is repeated after so many."""


@dataclass(frozen=True)
class Space:
    """Space of a storage element."""

    used_bytes: int
    """Sizes of its files, those that are just being written included."""
    free_bytes: int
    """What its capacity leaves, and no more than its disk has."""
    files: int


def measure(directory: Path, capacity_bytes: int) -> Space:
    """Walk an element's directory; what is deleted meanwhile counts or does not.

    Raises:
        OSError: the directory cannot be read.
    """
    used_bytes, files = 0, 0
    waiting: list[str] = []

    def count(entries: Iterable[os.DirEntry[str]]) -> None:
        nonlocal used_bytes, files
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
                continue
            with suppress(FileNotFoundError):
                used_bytes += entry.stat(follow_symlinks=False).st_size
                files += 1

    with os.scandir(os.fspath(directory)) as entries:
        count(entries)
    while waiting:
        with suppress(FileNotFoundError), os.scandir(waiting.pop()) as entries:
            count(entries)
    free_bytes = min(capacity_bytes - used_bytes, shutil.disk_usage(directory).free)
    return Space(used_bytes, max(0, free_bytes), files)


class Accountant:
    """Measures all elements in a thread of its own, for a walk may take long, and writes a file with the result.

    Args:
        path: of the file.
        elements: directory and capacity in bytes, by RSE.
        account: whose file it is.
    """

    def __init__(self, path: Path, elements: Mapping[str, tuple[Path, int]], account: Account) -> None:
        self._path, self._elements, self._account = path, elements, account
        self.fault = ""
        """Why the last walk failed, if it did."""

    def run(self, stop: threading.Event) -> None:
        """Measure until told to stop."""
        while True:
            began = time.monotonic()
            try:
                found = {rse: measure(*place) for rse, place in self._elements.items()}
                document = {rse: asdict(space) for rse, space in found.items()}
                write_atomically(self._path, json.dumps(document), self._account, mode=0o600)
                self.fault = ""
            except OSError as error:
                if self.fault != str(error):
                    _log.warning("space: %s", error)
                self.fault = str(error)
            if stop.wait(max(_PERIOD_S, _SHARE * (time.monotonic() - began))):
                return


def read(path: Path) -> dict[str, Space]:
    """What was measured last, by RSE; empty if nothing was yet."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return {rse: Space(**space) for rse, space in document.items()}
