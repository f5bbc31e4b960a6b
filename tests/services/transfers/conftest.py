"""A lake in miniature for the transfer service, from the drivers' own plan: PostgreSQL, issuer, two XRootD servers.

There are two issuers. The real one gives tokens that live for seconds, for the tests of renewal. The other is a key
pair whose public half is served over TLS, since tests need tokens that no issuer would give out: expired ones, ones
for another audience, ones without a scope.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from boathouse.plan.service import Programs
from boathouse.testing.scratch import scratch

from .box import Box, Service
from .equipment import Gated


@pytest.fixture(scope="session")
def box(programs: Programs) -> Iterator[Box]:
    with scratch() as directory, Box(programs, directory) as made:
        made.up()
        yield made


@pytest.fixture(scope="session")
def gated(box: Box) -> Iterator[Gated]:
    source = Gated(box.authority)
    source.start()
    yield source
    source.stop()


@pytest.fixture(scope="session")
def shared(box: Box) -> Service:
    """One service for the tests that leave it as it was."""
    return box.service("shared").start()


@pytest.fixture
def place(request: pytest.FixtureRequest) -> str:
    """A directory of the lake that is this test's own."""
    return f"/lake/cms/{request.node.name.replace('[', '-').replace(']', '')}"
