"""Commands for people, in a directory of their own: no interpreter of ours gets onto anybody's ``PATH``."""

from __future__ import annotations

import shlex
from pathlib import Path

_BOATHOUSE = """\
#!/bin/sh
# Isolated: neither PYTHONPATH nor the directory that one stands in may lend it modules.
: "${{BOATHOUSE_STATE:={home}/state}}"
BOATHOUSE_HOME={home}
export BOATHOUSE_HOME BOATHOUSE_STATE
exec {python} -I -m boathouse.cli "$@"
"""
_STOCK = """\
#!/bin/sh
exec {python} -E -s {script} "$@"
"""
_STOCK_CLIENTS = ("rucio", "rucio-admin")


def launchers(home: Path, python: Path, client_bin: Path) -> dict[str, str]:
    """Text of each launcher by name.

    Args:
        home: directory of the installation.
        python: interpreter of the environment that holds Boathouse.
        client_bin: programs of the stock Rucio client.
    """
    found = {"boathouse": _BOATHOUSE.format(home=shlex.quote(str(home)), python=shlex.quote(str(python)))}
    interpreter = shlex.quote(str(client_bin / "python"))
    for name in _STOCK_CLIENTS:
        found[name] = _STOCK.format(python=interpreter, script=shlex.quote(str(client_bin / name)))
    return found


def write(home: Path, python: Path, client_bin: Path) -> Path:
    """Write the launchers; returns their directory."""
    directory = home / "bin"
    directory.mkdir(exist_ok=True)
    for name, text in launchers(home, python, client_bin).items():
        passing = directory / f".{name}"
        passing.write_text(text)
        passing.chmod(0o755)
        passing.replace(directory / name)
    return directory
