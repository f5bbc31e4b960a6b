"""How the transfer services are asked why files wait: none twice that is silent, and all within a time."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest
from boathouse_rucio_site import tokens, waiting


class Source:
    def get(self, audience: str, scope: str) -> str:
        assert (audience, scope) == ("127.0.0.1", "fts")
        return "token"


@pytest.fixture
def silent(monkeypatch):
    """A service that hangs up: its address, and a list with an entry for each connection."""
    monkeypatch.setattr(tokens, "source", Source)
    seen: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, peer = server.accept()
                    seen.append(peer)
                    connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        yield f"https://127.0.0.1:{server.getsockname()[1]}", seen
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)
    assert not thread.is_alive()


def test_a_service_that_does_not_answer_is_asked_once(silent):
    host, seen = silent
    jobs = waiting._Jobs()
    told = [jobs.get(host, job_id)["error"] for job_id in ("first", "second", "third", "first")]
    assert len(seen) == 1
    assert told[0].startswith("the transfer service cannot be asked: ")
    assert set(told) == {told[0]}


def test_nothing_is_asked_after_the_time_for_all(silent, monkeypatch):
    host, seen = silent
    monkeypatch.setattr(waiting, "ALL_ANSWERS_S", 0.0)
    assert "was not asked" in waiting._Jobs().get(host, "job")["error"]
    assert not seen
