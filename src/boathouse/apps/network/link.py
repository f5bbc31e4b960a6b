"""The model of a link: when bytes that go in at one end come out at the other. Pure: it is told the time, nobody waits.

What it has of TCP: a connection begins with ten segments under way (RFC 6928), grows by what is acknowledged as long as
it uses what it has (slow start, RFC 5681 3.1), never exceeds its window, and a receiver that does not read is not sent
more. What it has not: lost packets, and with them all that answers to these; a window that shrinks when idle.
Connections of one direction share the bandwidth by turns, so that a short request does not wait behind a long file.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum

SEGMENT_BYTES = 1460
FIRST_WINDOW_BYTES = 10 * SEGMENT_BYTES

_TURN_S = 0.0005
_LONGEST_TURN_BYTES = 262_144


class End(Enum):
    """How one direction of a connection ends; it arrives after all that was sent before."""

    finished = "finished"
    """No more comes; the other direction may go on."""
    reset = "reset"
    """The connection is broken."""


Item = memoryview | End


@dataclass(frozen=True)
class Arrival:
    """What comes out of a lane."""

    flow: Flow
    item: Item
    at_s: float


class Flow:
    """One direction of one connection."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._waiting: deque[tuple[float, Item]] = deque()
        self._congestion_bytes = min(FIRST_WINDOW_BYTES, lane.window_bytes)
        self._used_bytes = 0
        """Most that was under way since the last time when nothing was."""
        self.waiting_bytes = 0
        """Given and not yet sent: what a sender's socket would hold."""
        self.unacknowledged_bytes = 0
        """Sent, and not known to have been taken at the other end."""

    def give(self, item: bytes | End, now_s: float) -> None:
        """Let something be sent after all that was given before."""
        data = item if isinstance(item, End) else memoryview(item)
        self._waiting.append((now_s, data))
        self.waiting_bytes += size_of(data)
        self._lane.wants_a_turn(self, now_s)

    def taken(self, size_bytes: int, at_s: float) -> None:
        """Tell that the receiver took bytes that had arrived: the acknowledgement goes back."""
        self._lane.acknowledge(self, size_bytes, at_s)

    @property
    def room_bytes(self) -> int:
        """What may still be sent before something is acknowledged."""
        return self._congestion_bytes - self.unacknowledged_bytes

    @property
    def can_send(self) -> bool:
        """Whether something waits for which there is room; ends need none."""
        return bool(self._waiting) and (self.room_bytes > 0 or isinstance(self._waiting[0][1], End))

    def send(self, most_bytes: int) -> tuple[float, Item]:
        """Take the next piece for the wire, with the time when it was given."""
        given_s, item = self._waiting.popleft()
        if isinstance(item, End):
            return given_s, item
        length = min(most_bytes, self.room_bytes)
        piece, rest = item[:length], item[length:]
        if rest:
            self._waiting.appendleft((given_s, rest))
        self.waiting_bytes -= len(piece)
        self.unacknowledged_bytes += len(piece)
        self._used_bytes = max(self._used_bytes, self.unacknowledged_bytes)
        return given_s, piece

    def acknowledged(self, size_bytes: int) -> None:
        """Bytes were taken at the other end, and this end knows it."""
        if 2 * self._used_bytes >= self._congestion_bytes:
            self._congestion_bytes = min(self._congestion_bytes + size_bytes, self._lane.window_bytes)
        self.unacknowledged_bytes -= size_bytes
        if not self.unacknowledged_bytes:
            self._used_bytes = 0


class Lane:
    """One direction of a link, with all connections that go over it.

    Args:
        one_way_s: how long bytes travel.
        bytes_per_s: how many can be sent a second; None for no limit.
        window_bytes: most that one connection may have under way unacknowledged.
    """

    def __init__(self, one_way_s: float, bytes_per_s: float | None, window_bytes: int) -> None:
        self.one_way_s = one_way_s
        self.window_bytes = window_bytes
        self._bytes_per_s = bytes_per_s
        rate = bytes_per_s or float("inf")
        self._turn_bytes = int(max(SEGMENT_BYTES, min(_LONGEST_TURN_BYTES, rate * _TURN_S)))
        self._free_s = 0.0
        self._turns: dict[Flow, float] = {}
        """Flows that can send, the next one first, and since when they can."""
        self._under_way: deque[Arrival] = deque()
        self._acknowledgements: deque[tuple[float, Flow, int]] = deque()

    def wants_a_turn(self, flow: Flow, since_s: float) -> None:
        """A flow has something to send, if it may."""
        if flow.can_send:
            self._turns.setdefault(flow, since_s)

    def acknowledge(self, flow: Flow, size_bytes: int, at_s: float) -> None:
        """Send word back that bytes were taken."""
        due_s = at_s + self.one_way_s
        if self._acknowledgements:
            due_s = max(due_s, self._acknowledgements[-1][0])
        self._acknowledgements.append((due_s, flow, size_bytes))

    def advance(self, now_s: float) -> tuple[list[Arrival], list[Flow]]:
        """Let time pass. Who calls late loses nothing: all happens when it was due.

        Args:
            now_s: the time, never less than before.

        Returns:
            What has arrived, in order; and the flows that have sent something.
        """
        while self._acknowledgements and self._acknowledgements[0][0] <= now_s:
            due_s, flow, size_bytes = self._acknowledgements.popleft()
            flow.acknowledged(size_bytes)
            self.wants_a_turn(flow, due_s)
        sent: dict[Flow, None] = {}
        while self._turns and self._free_s <= now_s:
            flow = next(iter(self._turns))
            self._turn(flow, self._turns.pop(flow))
            sent[flow] = None
        arrivals = []
        while self._under_way and self._under_way[0].at_s <= now_s:
            arrivals.append(self._under_way.popleft())
        return arrivals, list(sent)

    def next_s(self) -> float | None:
        """When something happens next, if nothing is given before; None if nothing will."""
        times = [self._free_s] if self._turns else []
        if self._under_way:
            times.append(self._under_way[0].at_s)
        if self._acknowledgements:
            times.append(self._acknowledgements[0][0])
        return min(times, default=None)

    def _turn(self, flow: Flow, since_s: float) -> None:
        left = self._turn_bytes
        while left > 0 and flow.can_send:
            given_s, item = flow.send(left)
            size_bytes = size_of(item)
            left -= size_bytes
            self._free_s = max(self._free_s, given_s, since_s)
            if self._bytes_per_s:
                self._free_s += size_bytes / self._bytes_per_s
            self._under_way.append(Arrival(flow, item, self._free_s + self.one_way_s))
        self.wants_a_turn(flow, since_s)


def size_of(item: Item) -> int:
    """Bytes of an item; an end has none."""
    return 0 if isinstance(item, End) else len(item)
