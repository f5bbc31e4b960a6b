"""The relay: takes connections at the addresses where sites see far servers, and passes them on over links."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from functools import partial

from boathouse.apps.network.connection import Client, Connection, Counters, Wire
from boathouse.apps.network.link import Lane
from boathouse.apps.network.settings import PathSettings, Settings
from boathouse.errors import HostError

_BACKLOG = 255


class Relay:
    """All paths of a facility.

    Args:
        settings: the paths, and the links that they go over.

    Raises:
        HostError: an address cannot be listened on.
    """

    def __init__(self, settings: Settings) -> None:
        self.counters = Counters()
        self._wires: dict[tuple[str, str], Wire] = {}
        for link in settings.links:
            for way in (link.between, link.between[::-1]):
                bytes_per_s = link.bandwidth_bit_s / 8 if link.bandwidth_bit_s else None
                self._wires[way] = Wire(Lane(link.rtt_s / 2, bytes_per_s, settings.window_bytes))
        self._listeners = [(path, _listen(path)) for path in settings.paths]
        self._servers: list[asyncio.Server] = []
        self._connections: set[Connection] = set()

    async def start(self) -> None:
        """Take connections."""
        loop = asyncio.get_running_loop()
        for path, listener in self._listeners:
            self._servers.append(await loop.create_server(partial(self._connect, path), sock=listener))

    async def stop(self) -> None:
        """Take no more, and break those that there are."""
        for server in self._servers:
            server.close()
        for connection in tuple(self._connections):
            connection.break_off()

    def metrics(self) -> str:
        """What was counted, in Prometheus's text format."""
        return "".join(f"{line}\n" for line in self._lines())

    def _connect(self, path: PathSettings) -> Client:
        there, back = (path.site, path.element_site), (path.element_site, path.site)
        connection = Connection(path, self._wires[there], self._wires[back], self.counters, self._connections.discard)
        self._connections.add(connection)
        return connection.client

    def _lines(self) -> Iterator[str]:
        name = "boathouse_network_bytes_total"
        yield from _head(name, "counter", "Bytes that arrived over a link.")
        for (start, end, element), count in sorted(self.counters.size_bytes.items()):
            yield f'{name}{{from="{start}",to="{end}",element="{element}"}} {count}'
        for name, kind, text, counted in (
            ("boathouse_network_connections_total", "counter", "Connections.", self.counters.connections),
            ("boathouse_network_connections", "gauge", "Connections that there are now.", self.counters.open),
            ("boathouse_network_refused_total", "counter", "Connections to nobody.", self.counters.refused),
        ):
            yield from _head(name, kind, text)
            for (site, element), count in sorted(counted.items()):
                yield f'{name}{{site="{site}",element="{element}"}} {count}'


def _listen(path: PathSettings) -> socket.socket:
    try:
        return socket.create_server((path.listen_address, path.port), backlog=_BACKLOG)
    except OSError as error:
        raise HostError(
            f"cannot listen where {path.site} sees {path.element}",
            got=error.strerror or str(error),
            where=f"{path.listen_address}:{path.port}",
            remedy=f"find who does with `ss -ltnp sport = :{path.port}` and stop it",
        ) from error


def _head(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"
