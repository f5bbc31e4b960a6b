"""Open sockets on named addresses, hand them to a program and become it, confined to the files that it needs.

``listen ADDRESS:PORT… [--run PATH]… [--read PATH]… [--write PATH]… -- PROGRAM ARGUMENT…``

XRootD by itself listens on every interface of the machine and has no setting for less. It does take sockets that
somebody else has opened, by the protocol of ``sd_listen_fds(3)``; so they are opened here. Each storage element can
then have its own loopback address, and a port in use is one clear line in the log.

XRootD 6.2.0 can be led out of its data by dot segments (``docs/decisions/0005-copy-doors.md``), so the kernel keeps it
to the paths of the options. Without any of them the program is not confined.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import socket
import sys
from pathlib import Path

from boathouse.services import confine

_FIRST_DESCRIPTOR = 3
"""SD_LISTEN_FDS_START of ``sd_listen_fds(3)``."""
_BACKLOG = 255


def open_sockets(addresses: list[str]) -> list[socket.socket]:
    """A listening TCP socket for every ``address:port``; an IPv6 address may stand in brackets.

    Raises:
        OSError: an address is not this machine's, or a port is in use; its ``filename`` says which.
    """
    sockets: list[socket.socket] = []
    for text in addresses:
        host, _, port = text.rpartition(":")
        host = host.strip("[]")
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, int(port)))
        except OSError as error:
            raise OSError(error.errno, error.strerror, text) from None
        listener.listen(_BACKLOG)
        sockets.append(listener)
    return sockets


def hand_over(sockets: list[socket.socket], command: list[str]) -> None:
    """Replace this process by ``command``, with the sockets as descriptors 3, 4, …; never returns."""
    # Two steps, since a socket may sit on a number that another one is to get.
    above = _FIRST_DESCRIPTOR + len(sockets)
    moved = [fcntl.fcntl(listener.detach(), fcntl.F_DUPFD_CLOEXEC, above) for listener in sockets]
    for number, descriptor in enumerate(moved, start=_FIRST_DESCRIPTOR):
        os.dup2(descriptor, number, inheritable=True)
    os.environ.update(LISTEN_FDS=str(len(moved)), LISTEN_PID=str(os.getpid()))
    os.execv(command[0], command)  # noqa: S606 - the very purpose: no shell, and the process identity stays


def confine_to(rules: confine.Rules) -> None:
    """Confine this process for good; a kernel that cannot leaves it as it is, with a line in the log.

    Raises:
        OSError: a path of the rules is not there; its ``filename`` says which.
    """
    try:
        confine.version()
    except OSError as error:
        sys.stderr.write(f"not confined to its files: this kernel has no Landlock ({error.strerror})\n")
        return
    confine.confine(rules)


def main(arguments: list[str]) -> str | None:
    """Entry point; returns the reason of a failure."""
    options, command = _options(arguments)
    rules = confine.Rules(tuple(options.run), tuple(options.read), tuple(options.write))
    try:
        sockets = open_sockets(options.address)
        if rules != confine.Rules():
            confine_to(rules)
        hand_over(sockets, command)
    except OSError as error:
        return f"cannot listen or start: {error}"
    return None


def _options(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="listen",
        usage="listen ADDRESS:PORT... [--run PATH]... [--read PATH]... [--write PATH]... -- PROGRAM [ARGUMENT...]",
        allow_abbrev=False,
    )
    parser.add_argument("address", nargs="+")
    for option in ("--run", "--read", "--write"):
        parser.add_argument(option, type=Path, action="append", default=[])
    own, separator, command = _split(arguments)
    if not (separator and command):
        parser.error("no program")
    return parser.parse_args(own), command


def _split(arguments: list[str]) -> tuple[list[str], bool, list[str]]:
    if "--" not in arguments:
        return arguments, False, []
    position = arguments.index("--")
    return arguments[:position], True, arguments[position + 1 :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
