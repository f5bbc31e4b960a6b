"""Connections over a link, in real time: sockets at both ends, the model of the link between them.

Bytes are passed on as they are; TLS is between client and server. What goes wrong at one end is told at the other as a
network would: a server that refuses, or vanishes, is a reset; who has no more to say may still listen.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from boathouse.apps.network.link import Arrival, End, Flow, Lane
from boathouse.apps.network.settings import PathSettings

_WAITING_BYTES = 1_048_576
"""What a flow may hold before no more is read: a sender's socket buffer."""
_RESET_WHEN_CLOSED = struct.pack("ii", 1, 0)
"""``struct linger`` of ``socket(7)``: on, and no time."""

log = logging.getLogger(__name__)


@dataclass
class Counters:
    """What went over the links since the process began."""

    size_bytes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By the site that bytes came from, the one they went to, and the element that was reached."""
    connections: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By the site that connects, and the element."""
    open: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Those of them that are there now."""
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Those of them for which the element was not there."""


class Wire:
    """A lane in real time: wakes up when something is due, and tells the sides that it is about."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self._sides: dict[Flow, tuple[Side, Side]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = math.inf

    def carry(self, sender: Side, receiver: Side) -> Flow:
        """A flow from one side of a connection to the other."""
        flow = Flow(self.lane)
        self._sides[flow] = (sender, receiver)
        return flow

    def forget(self, flow: Flow) -> None:
        """Tell nobody of a flow any more."""
        self._sides.pop(flow, None)

    def move(self) -> None:
        """Hand over what is due, and see to it that the next is handed over in time."""
        arrivals, sent = self.lane.advance(time.monotonic())
        for arrival in arrivals:
            if sides := self._sides.get(arrival.flow):
                sides[1].receive(arrival)
        for flow in sent:
            if sides := self._sides.get(flow):
                sides[0].read_on()
        due_s = self.lane.next_s()
        if due_s is None or due_s >= self._timer_s:
            return
        if self._timer:
            self._timer.cancel()
        # Event loops count in milliseconds: a timer that rang early would ring again and again.
        delay_s = math.ceil(max(0.0, due_s - time.monotonic()) * 1000) / 1000
        self._timer_s = due_s
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._ring)

    def _ring(self) -> None:
        self._timer, self._timer_s = None, math.inf
        self.move()


class Side(asyncio.Protocol):
    """One side of a connection: the socket towards the client, or the one towards the server."""

    def __init__(self, connection: Connection, wire: Wire, counted: tuple[str, str, str]) -> None:
        self._connection = connection
        self._wire = wire
        """The way that what is read here takes."""
        self._counted = counted
        """How what is written here is counted."""
        self._flow: Flow | None = None
        self._early: list[bytes | End] = []
        """What was read before there was another side."""
        self._left = False
        self._transport: asyncio.Transport | None = None
        self._reads = False
        self._blocked = False
        self._held: list[Arrival] = []

    @property
    def is_open(self) -> bool:
        """Whether the socket is there."""
        return self._transport is not None

    def join(self, other: Side) -> None:
        """Begin to read, and send it to the other side."""
        self._flow = self._wire.carry(self, other)
        early, self._early = self._early, []
        for item in early:
            self._give(item)
        self.read_on()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Read nothing before there is another side, but for what comes before the event loop can be stopped."""
        # uvloop's are no instances of it.
        self._transport = cast("asyncio.Transport", transport)
        # At once it would not help: event loops begin to read after this.
        asyncio.get_running_loop().call_soon(self._wait_for_other_side)

    def _wait_for_other_side(self) -> None:
        if self._transport and not self._reads:
            self._transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        """Send it over the wire."""
        self._give(data)

    def eof_received(self) -> bool:
        """Tell the other side that no more comes. The socket stays open for what comes from there."""
        self._give(End.finished)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the other side, whatever the reason; if both directions had ended, nobody listens."""
        del exc
        self._transport = None
        self._give(End.reset)
        self._connection.lost()

    def pause_writing(self) -> None:
        """The receiver does not read: let nothing more come than fits a window."""
        self._blocked = True

    def resume_writing(self) -> None:
        """The receiver reads again."""
        self._blocked = False
        held, self._held = self._held, []
        now_s = time.monotonic()
        for arrival in held:
            self.receive(Arrival(arrival.flow, arrival.item, now_s))
        self._connection.move()

    def read_on(self) -> None:
        """Read, unless much waits to be sent."""
        if self._flow and self._transport and not self._reads and self._flow.waiting_bytes <= _WAITING_BYTES:
            self._reads = True
            self._transport.resume_reading()

    def receive(self, arrival: Arrival) -> None:
        """Write what came over the wire, or hold it while the receiver does not read."""
        if self._transport is None:
            return
        if self._blocked:
            self._held.append(arrival)
        elif arrival.item is End.reset:
            self.abort()
        elif arrival.item is End.finished:
            self._transport.write_eof()
            self._connection.ended()
        else:
            self._connection.counters.size_bytes[self._counted] += len(arrival.item)
            self._transport.write(arrival.item)
            arrival.flow.taken(len(arrival.item), arrival.at_s)

    def close(self) -> None:
        """Close the socket when all is written; nothing is told any more."""
        self.leave()
        if self._transport:
            self._transport.close()

    def abort(self) -> None:
        """Break the connection at once, and let whoever is at the socket know."""
        self.leave()
        if self._transport:
            own = self._transport.get_extra_info("socket")
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_WHEN_CLOSED)
            self._transport.abort()

    def leave(self) -> None:
        """Tell the other side nothing any more."""
        self._left = True
        if self._flow:
            self._wire.forget(self._flow)
            self._flow = None

    def _give(self, item: bytes | End) -> None:
        if self._left:
            return
        if self._flow is None:
            self._early.append(item)
            return
        self._flow.give(item, time.monotonic())
        if self._transport and self._reads and self._flow.waiting_bytes > _WAITING_BYTES:
            self._reads = False
            self._transport.pause_reading()
        self._wire.move()

    def move(self) -> None:
        """Let what was acknowledged here late make room at once."""
        self._wire.move()


class Connection:
    """A client's connection, and the one to the server that belongs to it.

    Args:
        path: who connects to what.
        there: the way from the client to the server.
        back: the way from the server to the client.
        counters: what is counted.
        gone: called when nothing of it is left.
    """

    def __init__(
        self, path: PathSettings, there: Wire, back: Wire, counters: Counters, gone: Callable[[Connection], None]
    ) -> None:
        self.counters = counters
        self._gone = gone
        self._path = path
        self._one_way_s = there.lane.one_way_s
        self._wires = (there, back)
        self.client = Client(self, there, (path.element_site, path.site, path.element))
        self._server = Side(self, back, (path.site, path.element_site, path.element))
        self._ended = 0
        self._key = (path.site, path.element)
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """A client has connected."""
        self.counters.connections[self._key] += 1
        self.counters.open[self._key] += 1
        self._task = asyncio.get_running_loop().create_task(self._establish())

    async def _establish(self) -> None:
        """Connect to the server; the client is answered after a round trip, also if nobody is there."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._one_way_s)
        try:
            await loop.create_connection(lambda: self._server, self._path.element_address, self._path.port)
        except OSError as error:
            self.counters.refused[self._key] += 1
            log.info("%s does not reach %s: %s", self._path.site, self._path.element, error.strerror or error)
        await asyncio.sleep(self._one_way_s)
        if self._server.is_open:
            self.client.join(self._server)
            self._server.join(self.client)
        else:
            self.client.abort()

    def ended(self) -> None:
        """One direction has ended at its other end."""
        self._ended += 1
        if self._ended == 2:
            self.client.close()
            self._server.close()

    def lost(self) -> None:
        """A socket has gone."""
        if not (self.client.is_open or self._server.is_open):
            self.client.leave()
            self._server.leave()
            self.counters.open[self._key] -= 1
            self._gone(self)

    def move(self) -> None:
        """Let both directions go on."""
        for wire in self._wires:
            wire.move()

    def break_off(self) -> None:
        """Break both connections."""
        if self._task:
            self._task.cancel()
        self.client.abort()
        self._server.abort()


class Client(Side):
    """The side towards the client, with which a connection begins."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connect to the server."""
        super().connection_made(transport)
        self._connection.begin()
