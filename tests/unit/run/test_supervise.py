"""What the supervising daemon's answers mean."""

from __future__ import annotations

import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from boathouse.errors import ServiceError
from boathouse.run.local.account import service_account
from boathouse.run.local.state import create_or_open, forget_link
from boathouse.run.local.supervise import Supervisor
from boathouse.testing.scratch import scratch


class Answering(Supervisor):
    """The daemon's answer to every call is a fault, which a live one gives only if a process dies within its turn."""

    fault = ""

    def _call(self, method: str, *arguments: Any) -> Any:
        raise xmlrpc.client.Fault(1, f"{self.fault}: {arguments[0]}")


@pytest.mark.parametrize("fault", ["ALREADY_STARTED", "SPAWN_ERROR"])
def test_a_process_that_was_started_may_have_ended_already(answering: Answering, fault: str) -> None:
    answering.fault = fault
    answering.start_process("postgres")


@pytest.mark.parametrize("fault", ["BAD_NAME", "NO_FILE", "NOT_EXECUTABLE", "SHUTDOWN_STATE"])
def test_a_process_that_cannot_be_started_is_told(answering: Answering, fault: str) -> None:
    answering.fault = fault
    with pytest.raises(ServiceError, match="cannot start postgres") as caught:
        answering.start_process("postgres")
    assert fault in str(caught.value)


@pytest.fixture
def answering() -> Iterator[Answering]:
    with scratch() as directory:
        state = create_or_open(directory / "state", "small", service_account())
        forget_link(state)
        yield Answering(state, Path("/usr/bin/python3"))
