"""Open sockets on named addresses, hand them to a program and become it: ``listen ADDRESS:PORT… -- PROGRAM ARGUMENT…``.

XRootD by itself listens on every interface of the machine and has no setting for less. It does take sockets that
somebody else has opened, by the protocol of ``sd_listen_fds(3)``; so they are opened here. Each storage element can
then have its own loopback address, and a port in use is one clear line in the log.
"""

from __future__ import annotations

import fcntl
import os
import socket
import sys

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


def main(arguments: list[str]) -> str | None:
    """Entry point; returns the reason of a failure."""
    addresses, separator, command = _split(arguments)
    if not (addresses and separator and command):
        return "usage: listen ADDRESS:PORT... -- PROGRAM [ARGUMENT...]"
    try:
        hand_over(open_sockets(addresses), command)
    except OSError as error:
        return f"cannot listen or start: {error}"
    return None


def _split(arguments: list[str]) -> tuple[list[str], bool, list[str]]:
    if "--" not in arguments:
        return arguments, False, []
    position = arguments.index("--")
    return arguments[:position], True, arguments[position + 1 :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
