from __future__ import annotations

import contextlib
import http.client
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from distributed import Client, Security

from boathouse.compute.base import Backend
from boathouse.compute.inline import Inline
from boathouse.compute.local import LocalDask
from boathouse.errors import AnalysisError, ServiceError
from boathouse.testing.wait import wait_for


@pytest.fixture(scope="module")
def dask() -> Iterator[LocalDask]:
    with LocalDask(2, environment={"BOATHOUSE_TEST": "there"}) as backend:
        yield backend


def square(number: int) -> int:
    return number * number


def process_and_variable(_: int) -> tuple[int, str]:
    return os.getpid(), os.environ["BOATHOUSE_TEST"]


def fail_at_three(number: int) -> int:
    if number == 3:
        raise AnalysisError("three", got="3", where="here")
    return number


def die_once(item: tuple[int, str]) -> int:
    number, marker = item
    if number == 3 and not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def die_always(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def meet(item: tuple[Path, str, str]) -> int:
    """Wait for another worker at the same place; which process this is."""
    place, me, other = item
    (place / me).touch()
    wait_for("the other", (place / other).exists)
    return os.getpid()


def met(dask: LocalDask, place: Path, *subjects: str) -> dict[str, int]:
    """Which process worked on which of two subjects, at the same time."""
    place.mkdir()
    found = dict(dask.apply(meet, [(place, "0", "1"), (place, "1", "0")], subjects))
    return {f"{subject}.{index}": found[index] for index, subject in enumerate(subjects)}


@pytest.fixture(params=["inline", "dask"])
def backend(request: pytest.FixtureRequest, dask: LocalDask) -> Backend:
    return dask if request.param == "dask" else Inline({"BOATHOUSE_TEST": "there"})


def test_each_result_comes_once(backend: Backend) -> None:
    assert sorted(backend.apply(square, range(20))) == [(number, number * number) for number in range(20)]
    assert backend.workers >= 1


def test_nothing_to_do(backend: Backend) -> None:
    assert list(backend.apply(square, [])) == []


def test_an_error_arrives_as_it_was_raised(backend: Backend) -> None:
    with pytest.raises(AnalysisError, match="three") as caught:
        list(backend.apply(fail_at_three, range(8)))
    assert (caught.value.got, caught.value.where) == ("3", "here")
    assert sorted(backend.apply(square, range(3))) == [(0, 0), (1, 1), (2, 4)]


def test_leaving_early_does_no_harm(backend: Backend) -> None:
    for _, result in backend.apply(square, range(50)):
        assert result >= 0
        break
    assert sorted(backend.apply(square, range(3))) == [(0, 0), (1, 1), (2, 4)]


def test_inline_puts_the_environment_back() -> None:
    before = os.environ.get("BOATHOUSE_TEST")
    with Inline({"BOATHOUSE_TEST": "there", "PATH": os.environ["PATH"]}):
        assert os.environ["BOATHOUSE_TEST"] == "there"
    assert os.environ.get("BOATHOUSE_TEST") == before


def test_workers_are_other_processes_with_the_environment(dask: LocalDask) -> None:
    found = {result for _, result in dask.apply(process_and_variable, range(12))}
    assert os.getpid() not in {pid for pid, _ in found}
    assert {variable for _, variable in found} == {"there"}


def test_a_subject_goes_back_to_the_worker_that_knows_it(dask: LocalDask, tmp_path: Path) -> None:
    first = met(dask, tmp_path / "first", "a", "b")
    for turn in range(6):
        assert met(dask, tmp_path / str(turn), "b", "a") == {"b.0": first["b.1"], "a.1": first["a.0"]}


def test_one_subject_does_not_leave_the_others_idle(dask: LocalDask, tmp_path: Path) -> None:
    for turn in range(3):
        assert len(set(met(dask, tmp_path / str(turn), "same", "same").values())) == 2


def test_a_killed_worker_loses_nothing(dask: LocalDask, tmp_path: Path) -> None:
    marker = str(tmp_path / "died")
    found = sorted(dask.apply(die_once, [(number, marker) for number in range(10)]))
    assert Path(marker).exists()
    assert found == [(number, number) for number in range(10)]


def test_work_that_kills_every_worker_is_given_up() -> None:
    with LocalDask(1) as backend, pytest.raises(ServiceError, match="died again and again") as caught:
        list(backend.apply(die_always, [1]))
    assert "--workers" in str(caught.value.remedy)


def listening() -> list[str]:
    me = psutil.Process()
    found = []
    for process in (me, *me.children(recursive=True)):
        # Services that other tests of this process share have children that come and go.
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [one for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
    return [f"{one.laddr.ip}:{one.laddr.port}" for one in found]


def test_nobody_else_can_talk_to_the_scheduler(dask: LocalDask) -> None:
    address = dask._client.cluster.scheduler_address
    assert address.startswith("tls://127.0.0.1:")
    with pytest.raises((OSError, ValueError)):
        Client(address, security=Security.temporary(), timeout="30s", set_as_default=False)
    with pytest.raises((OSError, ValueError)):
        Client(address.replace("tls://", "tcp://"), timeout="30s", set_as_default=False)


def test_no_page_is_served_and_only_loopback_listens(dask: LocalDask) -> None:
    addresses = listening()
    assert addresses
    assert all(address.startswith("127.") for address in addresses)
    for address in addresses:
        for path in ("/", "/status", "/health", "/info/main/workers.html", "/json/counts.json"):
            with pytest.raises((http.client.HTTPException, OSError)) as caught:
                urllib.request.urlopen(f"http://{address}{path}", timeout=30)
            if isinstance(caught.value, urllib.error.HTTPError):
                assert caught.value.code == 404
                caught.value.close()


def test_closing_leaves_no_process() -> None:
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    with LocalDask(1):
        started = [process for process in psutil.Process().children(recursive=True) if process.pid not in before]
        assert started
    _, alive = psutil.wait_procs([process for process in started if "resource_tracker" not in _command(process)], 60)
    assert alive == []


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
