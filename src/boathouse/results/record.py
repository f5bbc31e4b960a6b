"""The provenance record of a result: from which bytes, by which code, in which environment, with which counts.

A JSON document in canonical form: keys sorted, no spaces, UTF-8, one newline at the end. Two hashes stand in it::

    content   of inputs, code and the files of the result: equal whenever the same thing was made again
    sha256    of the whole record without this key: tells an altered record
"""

from __future__ import annotations

import datetime as dt
import getpass
import hashlib
import json
import platform
import socket
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from boathouse.analysis.run import Histograms
from boathouse.checksums import Adler32
from boathouse.errors import InputError

FORMAT = 1
FILE_NAME = "record.json"

_PACKAGES = ("boathouse", "awkward", "dask", "distributed", "matplotlib", "numpy", "uproot", "xrootd")
"""Packages whose version can change a result."""


@dataclass(frozen=True)
class Context:
    """Who made a result, and where; what the run itself cannot know."""

    user: str
    facility: str | None
    code: Path
    """The analysis, to find the commit that it belongs to."""


def build(result: Histograms, files: Iterable[Path], context: Context) -> dict[str, Any]:
    """The record of a result whose files are written.

    Raises:
        OSError: a file cannot be read.
    """
    made = {path.name: _describe(path) for path in sorted(files)}
    document: dict[str, Any] = {
        "format": FORMAT,
        "inputs": {
            "dataset": result.dataset.name,
            "sha256": result.dataset.sha256,
            "files": [
                {"did": file.name, "size_bytes": file.size_bytes, "adler32": file.adler32}
                for file in result.dataset.files
            ],
        },
        "code": {
            "file": result.task.name,
            "sha256": result.task.sha256,
            "description": result.task.description,
            **git_state(context.code),
        },
        "environment": environment(),
        "events": {
            "read": result.events,
            "files": {account.name: account.read for account in result.accounts},
            # A list: the order of the steps is part of what it says.
            "cutflow": [{"step": step, "events": count} for step, count in result.output.counts.items()],
        },
        "result": made,
        "run": {
            "finished": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "user": context.user,
            "facility": context.facility,
            "host": socket.gethostname(),
            "workers": result.workers,
            "chunks": result.chunks,
            "chunk_entries": result.chunk_entries,
            "bytes_read": result.bytes_read,
            "wall_s": round(result.wall_s, 3),
            "read_s": round(result.read_s, 3),
            "process_s": round(result.process_s, 3),
            "read_from": sorted({url for account in result.accounts for url in account.urls}),
            "failed_urls": [{"url": attempt.url, "reason": attempt.reason} for attempt in result.failed],
        },
    }
    document["content"] = content_hash(document)
    document["sha256"] = self_hash(document)
    return document


def canonical(document: Mapping[str, Any]) -> bytes:
    """A JSON document's canonical form."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def content_hash(document: Mapping[str, Any]) -> str:
    """Hash of what was made from what by what; not of when, where and how fast."""
    code = document["code"]
    made = {
        "format": document["format"],
        "inputs": document["inputs"]["sha256"],
        "code": [code["file"], code["sha256"]],
        "result": {name: entry["sha256"] for name, entry in document["result"].items()},
    }
    return hashlib.sha256(canonical(made)).hexdigest()


def self_hash(document: Mapping[str, Any]) -> str:
    """Hash of the record without its own hash."""
    return hashlib.sha256(canonical({key: value for key, value in document.items() if key != "sha256"})).hexdigest()


def load(directory: Path) -> dict[str, Any]:
    """Read the record of a result directory, and check it and the files beside it.

    Raises:
        InputError: there is no such directory or no record in it, the record was altered, or a file is not the one
            that it names.
    """
    path = directory / FILE_NAME
    if not directory.is_dir():
        raise InputError(
            "no such directory", where=str(directory), remedy=f"boathouse run ANALYSIS.py DID --out {directory}"
        )
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
        intact = document["sha256"] == self_hash(document)
        entries = dict(document["result"])
    except FileNotFoundError as error:
        raise InputError(
            "not a result", expected=f"a file {FILE_NAME}", where=str(directory), remedy="boathouse run ANALYSIS.py DID"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError("the record cannot be read", got=str(error), where=str(path)) from error
    if not intact:
        raise InputError("the record was altered", expected=document["sha256"], where=str(path))
    for name, entry in entries.items():
        try:
            found = _describe(directory / name)
        except OSError as error:
            raise InputError("a file of the result is missing", where=str(directory / name)) from error
        if found != entry:
            raise InputError(
                "a file of the result is not the one that the record names",
                expected=f"sha256 {entry['sha256']}",
                got=f"sha256 {found['sha256']}",
                where=str(directory / name),
                remedy="run the analysis again",
            )
    return document


def earlier(directory: Path) -> dict[str, Any] | None:
    """The record that a result directory has already, whole or not; none where there is none to be read."""
    try:
        document = json.loads((directory / FILE_NAME).read_bytes())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) and "content" in document else None


def environment() -> dict[str, Any]:
    """Interpreter, machine type, versions of the packages that matter, and a hash of all that are installed."""
    versions = {name: version for name in _PACKAGES if (version := _version(name))}
    installed = sorted({f"{each.metadata['Name']}=={each.version}" for each in metadata.distributions()})
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": versions,
        "installed_sha256": hashlib.sha256("\n".join(installed).encode()).hexdigest(),
    }


def git_state(code: Path) -> dict[str, Any]:
    """Commit of the analysis and whether the file differs from it; nothing if it is not under git."""
    try:
        commit = _git(code, "rev-parse", "HEAD")
        changed = bool(_git(code, "status", "--porcelain", "--", code.name))
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"commit": commit, "changed_since_commit": changed}


def user_name() -> str:
    """Login of whoever runs this."""
    return getpass.getuser()


def _git(code: Path, *arguments: str) -> str:
    directory = str(code.resolve().parent)
    done = subprocess.run(["git", "-C", directory, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _describe(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {
        "size_bytes": len(data),
        "adler32": Adler32(data).hexdigest(),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
