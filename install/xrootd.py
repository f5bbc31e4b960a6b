#!/usr/bin/env python3
"""Decide which XRootD to use, and get it: ``python3 install/xrootd.py --into DIRECTORY``.

The machine's own, if it is new enough and complete; else a private tree of a newer Debian suite's packages, with
their signatures checked. Prints one JSON object with what was taken and why; progress goes to standard error.
``--packages arm64`` tells what a machine of another architecture would get.
Needs the standard library only. See ``docs/decisions/0002-which-xrootd.md``.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

if __package__ in {None, ""}:
    _checkout = Path(__file__).resolve().parent.parent
    sys.path[:0] = [str(_checkout), str(_checkout / "src")]

from boathouse import xrootd_versions
from boathouse.errors import BoathouseError, HostError
from install import debian_suite, debian_tree
from install.debian_apt import Apt
from install.debian_recipe import Program, Recipe, Say

_TREE = Recipe(
    what="XRootD",
    packages=(
        "xrootd-server",
        "xrootd-server-plugins",
        "xrootd-plugins",
        "xrootd-client",
        "xrootd-client-plugins",
        "xrootd-scitokens-plugins",
        "davix",
    ),
    programs=tuple(
        Program(name, f"usr/bin/{name}")
        for name in (
            *("xrootd", "cmsd", "xrdfs", "xrdcp", "xrdadler32", "xrdcrc32c", "xrdpfc_print"),
            *("davix-ls", "davix-get", "davix-put", "davix-rm", "davix-mkdir", "davix-mv", "davix-http"),
        )
    ),
    oldest=xrootd_versions.OLDEST,
    plugins="libXrd*.so",
)
_PROGRAMS = ("xrootd", "xrdfs", "xrdcp", "xrdadler32")
_PLUGINS = (
    "libXrdAccSciTokens",
    "libXrdHttp",
    "libXrdHttpTPC",
    "libXrdSecztn",
    "libXrdPss",
    "libXrdPfc",
    "libXrdBlacklistDecision",
)
_LIBRARY_DIRECTORIES = ("lib64", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu", "lib")


@dataclass(frozen=True)
class Choice:
    """Which XRootD runs here; written as is into the installation's record."""

    xrootd_kind: str
    """``system`` or ``tree``."""
    xrootd_bin: str
    xrootd_version: str
    xrootd_why: str
    xrootd_suite: str = ""
    """Debian suite of a tree."""
    xrootd_packages: str = ""
    """File with the packages of a tree, their versions and hashes."""


def own(path: str | None = None) -> tuple[Choice | None, str]:
    """The machine's own XRootD if it will do, and the reason either way."""
    program = shutil.which("xrootd", path=path)
    if program is None:
        return None, "this machine has none"
    binaries = Path(program).parent
    said = subprocess.run([program, "-v"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    match = re.search(r"v?\d+\.\d+\.\d+\S*", said.stdout + said.stderr)
    version = match[0].removeprefix("v") if match else ""
    reason = xrootd_versions.unsafe(version) or _lacking(binaries)
    if reason:
        return None, f"this machine's own is unfit: {reason}"
    why = f"this machine's own, {version}, is new enough and complete"
    return Choice("system", str(binaries), version, why), why


def _lacking(binaries: Path) -> str | None:
    programs = [name for name in _PROGRAMS if not (binaries / name).exists()]
    roots = [binaries.parent / name for name in _LIBRARY_DIRECTORIES]
    files = [path for root in roots if root.is_dir() for path in root.glob("libXrd*.so*")]
    names = {re.split(r"[-.]", path.name)[0] for path in files}
    missing = programs + [name for name in _PLUGINS if name not in names]
    if missing:
        return f"it lacks {', '.join(missing)}"
    utilities = next((path for path in files if path.name.startswith("libXrdUtils.so")), None)
    if utilities is None or b"sd_listen_fds" not in utilities.read_bytes():
        return "it was built without socket hand-over, so it would listen on every interface"
    return None


def choose(into: Path, say: Say, archive: Path | None = None) -> Choice:
    """The XRootD to use, fetched if need be.

    Args:
        into: directory for a private tree.
        say: where to tell how far it is.
        archive: a copy of Debian's archive to take it from instead of a mirror.

    Raises:
        HostError: none can be had.
    """
    choice, reason = own()
    if choice:
        return choice
    tree = debian_tree.existing(into)
    if tree is None:
        say(f"{reason}; taking a newer one from Debian")
        tree = debian_tree.make(into, _TREE, reason, say, archive)
    record = json.loads((tree / debian_tree.RECORD).read_text(encoding="utf-8"))
    said = subprocess.run([tree / "bin" / "xrootd", "-v"], capture_output=True, text=True, check=False)
    version = ".".join(map(str, xrootd_versions.numbers(said.stdout + said.stderr)))
    problem = xrootd_versions.unsafe(version)
    if problem:
        raise HostError("the XRootD that was fetched does not run", got=problem, where=str(tree))
    return Choice(
        "tree",
        str(tree / "bin"),
        version,
        f"{record['why']}; Debian {record['suite']} has {record['version']}",
        record["suite"],
        str(tree / debian_tree.RECORD),
    )


def copy(archive: Path, work: Path, say: Say) -> None:
    """Copy what a private tree is made of on a machine like this one, for a machine without a network.

    Args:
        archive: root of the copy, laid out as Debian's archive.
        work: directory for what is fetched on the way.
        say: where to tell how far it is.

    Raises:
        HostError: it cannot be had.
    """
    debian_suite.copy(Apt(work / "apt"), work, _TREE, archive, say)


def packages(architecture: str, work: Path, say: Say) -> dict[str, object]:
    """What a private tree would be made of on a machine of an architecture, which need not be this one's.

    Raises:
        HostError: no suite has a fit version for it.
    """
    return debian_suite.select(Apt(work / "apt", architecture), work, _TREE, say).described()


def main() -> int:
    """Print the choice as JSON; returns the exit status."""
    parser = argparse.ArgumentParser(description="Decide which XRootD to use, and get it.")
    parser.add_argument("--into", type=Path, required=True, help="directory for a private tree")
    parser.add_argument("--record", type=Path, help="also write the JSON to this file")
    parser.add_argument(
        "--packages",
        choices=sorted(debian_tree.TRIPLETS),
        help="fetch nothing but the signed index; print the packages that a machine of this architecture would get",
    )
    arguments = parser.parse_args()
    start = time.monotonic()

    def say(text: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - start:6.1f} s] xrootd: {text}\n")

    try:
        into: Path = arguments.into.absolute()
        if arguments.packages:
            document = packages(arguments.packages, into / f".{arguments.packages}", say)
        else:
            document = asdict(choose(into, say))
    except BoathouseError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    text = json.dumps(document, indent=2) + "\n"
    if arguments.record:
        arguments.record.write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
