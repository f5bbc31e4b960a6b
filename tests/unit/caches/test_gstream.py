"""What XCache says of a file, and who really said it."""

from __future__ import annotations

import json
import socket
from contextlib import closing

import pytest

from boathouse.apps.caches.gstream import Sender, lost_between, parse

HEADER = {"code": "g", "pseq": 7, "stod": 1700000000, "sid": 1, "gs": {"type": "C", "tbeg": 1, "tend": 2}}
RECORD = {
    "event": "file_close",
    "lfn": "/lake/cms/f",
    "size": 1000,
    "blk_size": 512,
    "n_blks": 2,
    "n_blks_done": 2,
    "access_cnt": 1,
    "attach_t": 10,
    "detach_t": 20,
    "remotes": ["127.0.1.1:1094"],
    "b_hit": 900,
    "b_miss": 60,
    "b_bypass": 40,
    "b_todisk": 960,
    "b_prefetch": 900,
    "n_cks_errs": 1,
}


def content(*lines):
    return b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines) + b"\0"


def test_a71_what_was_read_ahead_counts_as_fetched():
    """With read-ahead XCache calls cold bytes hits: what crossed the link is what it wrote and what it passed on."""
    (close,) = parse(content(HEADER, RECORD)).closes
    assert (close.served_bytes, close.fetched_bytes) == (1000, 1000)
    assert close.name == "/lake/cms/f"
    assert close.origins == ("127.0.1.1:1094",)


def test_records_that_cannot_be_read_are_told_and_spoil_no_others():
    datagram = parse(content(HEADER, b'{"event":"file_close","lfn":"a"b"}', RECORD, {"event": "file_close"}, [1]))
    assert (len(datagram.closes), datagram.unreadable) == (1, 3)


@pytest.mark.parametrize("header", [HEADER | {"code": "="}, HEADER | {"gs": {"type": "T"}}, {}])
def test_other_datagrams_are_left_alone(header):
    assert parse(content(header, RECORD)) is None


@pytest.mark.parametrize("text", [b"", b"\0", b"x", b"[]", b"\xff\xfe"])
def test_what_is_no_datagram_is_an_error(text):
    with pytest.raises((ValueError, TypeError)):
        parse(text)


@pytest.mark.parametrize(
    ("before", "now", "lost"), [(0, 1, 0), (1, 2, 0), (1, 5, 3), (999, 0, 0), (998, 1, 2), (0, 3, 2)]
)
def test_gaps_in_the_numbers(before, now, lost):
    assert lost_between(before, now) == lost


def test_only_the_process_that_answers_at_the_caches_port_is_believed():
    """Another process of the same user, and one that has gone, are not."""
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as listening,
        closing(socket.socket(type=socket.SOCK_DGRAM)) as datagrams,
    ):
        datagrams.bind(("127.0.0.1", 0))
        port = datagrams.getsockname()[1]
        sender = Sender("127.0.0.1", listening.getsockname()[1])
        assert sender.is_cache(port)
        with closing(socket.create_server(("127.0.0.1", 0))) as other:
            nobody = Sender("127.0.0.1", other.getsockname()[1])
        assert not nobody.is_cache(port)
    assert not sender.is_cache(port)
