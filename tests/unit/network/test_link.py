"""The model of a link, with a clock that the test turns."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from boathouse.apps.network.link import FIRST_WINDOW_BYTES, Arrival, End, Flow, Lane

MEGABYTE = 1_000_000
BLOCK = bytes(8 * MEGABYTE)


class Simulation:
    """Senders that always have more to send, and receivers that take what arrives, unless told otherwise."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.now_s = 0.0
        self.greedy: list[Flow] = []
        self.idle_receivers: set[Flow] = set()
        self.arrivals: list[Arrival] = []
        self.most_under_way = 0

    def run(self, until_s: float) -> None:
        """Let time pass from event to event."""
        while True:
            for flow in self.greedy:
                if flow.waiting_bytes < len(BLOCK):
                    flow.give(BLOCK, self.now_s)
            due_s = self.lane.next_s()
            if due_s is None or due_s > until_s:
                self.now_s = until_s
                return
            self.now_s = max(self.now_s, due_s)
            arrivals, sent = self.lane.advance(self.now_s)
            self.most_under_way = max(self.most_under_way, *(flow.unacknowledged_bytes for flow in sent), 0)
            for arrival in arrivals:
                if not isinstance(arrival.item, End) and arrival.flow not in self.idle_receivers:
                    arrival.flow.taken(len(arrival.item), arrival.at_s)
            self.arrivals += arrivals

    def bytes_of(self, flow: Flow, *, since_s: float = 0.0) -> int:
        """Bytes of a flow that have arrived."""
        return sum(
            len(arrival.item)
            for arrival in self.arrivals
            if arrival.flow is flow and not isinstance(arrival.item, End) and arrival.at_s > since_s
        )


def greedy(lane: Lane, connections: int = 1) -> Simulation:
    simulation = Simulation(lane)
    simulation.greedy = [Flow(lane) for _ in range(connections)]
    return simulation


@pytest.mark.parametrize(
    ("one_way_s", "bytes_per_s", "window_bytes"),
    [
        (0.010, None, 4 * MEGABYTE),
        (0.050, None, 1 * MEGABYTE),
        (0.010, 12.5e6, 4 * MEGABYTE),
        (0.005, 125e6, 4 * MEGABYTE),
        (0.025, 1.25e9, 4 * MEGABYTE),
        (0.0, 12.5e6, 4 * MEGABYTE),
    ],
)
def test_a_long_transfer_runs_at_the_bandwidth_or_at_a_window_each_round_trip(
    one_way_s: float, bytes_per_s: float | None, window_bytes: int
) -> None:
    simulation = greedy(Lane(one_way_s, bytes_per_s, window_bytes))
    simulation.run(1.0)
    simulation.run(3.0)
    rates = [rate for rate in (bytes_per_s, window_bytes / (2 * one_way_s) if one_way_s else None) if rate]
    assert simulation.bytes_of(simulation.greedy[0], since_s=1.0) / 2.0 == pytest.approx(min(rates), rel=0.03)
    assert simulation.most_under_way <= window_bytes


def test_a_connection_begins_with_ten_segments_and_doubles_each_round_trip() -> None:
    simulation = greedy(Lane(0.050, None, 4 * MEGABYTE))
    simulation.run(1.2)
    by_round: Counter[int] = Counter()
    for arrival in simulation.arrivals:
        assert not isinstance(arrival.item, End)
        by_round[round((arrival.at_s - 0.050) / 0.100)] += len(arrival.item)
    assert by_round[0] == FIRST_WINDOW_BYTES == 14_600
    for number in range(1, 8):
        assert by_round[number] == 2 * by_round[number - 1]
    assert by_round[11] == by_round[10] == 4 * MEGABYTE


def test_who_asks_little_does_not_grow() -> None:
    """A window that is not used says nothing about the path (RFC 7661 1)."""
    lane = Lane(0.010, None, 4 * MEGABYTE)
    simulation, flow = Simulation(lane), Flow(lane)
    for number in range(100):
        flow.give(b"x" * 100, number / 10)
        simulation.run(number / 10 + 0.1)
    flow.give(bytes(MEGABYTE), simulation.now_s)
    lane.advance(simulation.now_s)
    assert flow.unacknowledged_bytes == FIRST_WINDOW_BYTES


def test_bytes_take_half_the_round_trip_and_keep_their_order() -> None:
    lane = Lane(0.025, 125e6, 4 * MEGABYTE)
    simulation, flow = Simulation(lane), Flow(lane)
    content = bytes(number % 251 for number in range(300_000))
    for start in range(0, len(content), 7_000):
        flow.give(content[start : start + 7_000], 0.0)
    flow.give(End.finished, 0.0)
    simulation.run(5.0)
    *data, last = simulation.arrivals
    assert b"".join(arrival.item for arrival in data if not isinstance(arrival.item, End)) == content
    assert last.item is End.finished
    assert data[0].at_s == pytest.approx(0.025 + 14_600 / 125e6, abs=1e-4)
    assert all(one.at_s <= other.at_s for one, other in pairwise(simulation.arrivals))


def test_two_connections_share_a_direction_evenly_whatever_the_size_of_their_pieces() -> None:
    lane = Lane(0.010, 12.5e6, 4 * MEGABYTE)
    simulation = greedy(lane)
    small = Flow(lane)
    # More than it can send in the time.
    for _ in range(40_000):
        small.give(bytes(1000), 0.0)
    simulation.run(1.0)
    simulation.run(3.0)
    shares = [simulation.bytes_of(flow, since_s=1.0) / 2.0 for flow in (simulation.greedy[0], small)]
    assert shares == [pytest.approx(6.25e6, rel=0.03)] * 2


def test_a_short_request_does_not_wait_behind_a_long_file() -> None:
    lane = Lane(0.010, 12.5e6, 4 * MEGABYTE)
    simulation = greedy(lane)
    simulation.run(2.0)
    short = Flow(lane)
    short.give(b"request", 2.0)
    simulation.run(2.1)
    (arrival,) = [arrival for arrival in simulation.arrivals if arrival.flow is short]
    assert arrival.at_s - 2.0 < 0.012


def test_the_two_directions_of_a_connection_share_nothing() -> None:
    there, back = (greedy(Lane(0.010, 12.5e6, 4 * MEGABYTE)) for _ in range(2))
    for simulation in (there, back):
        simulation.run(2.0)
        assert simulation.bytes_of(simulation.greedy[0], since_s=1.0) == pytest.approx(12.5e6, rel=0.03)


def test_a_receiver_that_does_not_read_is_sent_no_more_than_the_window() -> None:
    simulation = greedy(Lane(0.010, None, MEGABYTE))
    (flow,) = simulation.greedy
    simulation.run(1.0)
    simulation.idle_receivers = {flow}
    simulation.run(2.0)
    assert flow.unacknowledged_bytes == MEGABYTE
    assert simulation.bytes_of(flow, since_s=1.5) == 0
    flow.taken(MEGABYTE, 2.0)
    simulation.idle_receivers = set()
    simulation.run(3.0)
    assert simulation.bytes_of(flow, since_s=2.0) > MEGABYTE


def test_one_half_of_a_connection_ends_and_the_other_goes_on() -> None:
    lane = Lane(0.010, 12.5e6, MEGABYTE)
    simulation, ended = greedy(lane), Flow(lane)
    ended.give(b"last words", 0.0)
    ended.give(End.finished, 0.0)
    simulation.run(1.0)
    assert [arrival.item for arrival in simulation.arrivals if arrival.flow is ended] == [b"last words", End.finished]
    assert simulation.bytes_of(simulation.greedy[0], since_s=0.5) > MEGABYTE


def test_a_clock_that_is_looked_at_late_costs_no_bandwidth() -> None:
    """Timers of an event loop ring up to a millisecond late."""
    lane = Lane(0.010, 125e6, 4 * MEGABYTE)
    flow, arrived, now_s = Flow(lane), 0, 0.0
    while now_s < 2.0:
        while flow.waiting_bytes < len(BLOCK):
            flow.give(BLOCK, now_s)
        arrivals, _ = lane.advance(now_s)
        for arrival in arrivals:
            assert not isinstance(arrival.item, End)
            flow.taken(len(arrival.item), arrival.at_s)
            arrived += len(arrival.item) if now_s > 1.0 else 0
        now_s = max(now_s, lane.next_s() or 0.0) + 0.001
    assert arrived == pytest.approx(125e6, rel=0.05)
