"""Jobs that are watched and ended, with a transfer service that answers at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from boathouse.cli import transfers as commands
from boathouse.errors import InputError, PartialError, TransferError
from boathouse.lake.transfers import Job


def job(name: str, state: str, finished: int) -> Job:
    return {"job_id": name, "job_state": state, "finished": finished, "elements": 1, "files": []}


class Service:
    """Knows the jobs ``a`` and ``b``; the first ends before the second."""

    told = (
        [job("a", "ACTIVE", 0), job("b", "ACTIVE", 0)],
        [job("a", "FINISHED", 1), job("b", "ACTIVE", 0)],
        [job("a", "FINISHED", 1), job("b", "FINISHED", 1)],
    )

    def jobs(self, **_: Any) -> list[Job]:
        return []

    def cancel(self, name: str) -> Job:
        if name not in "ab":
            raise TransferError("no such job of yours", got=name)
        return job(name, "CANCELED", 0)

    def watch(self, _: Sequence[str], report: Callable[[list[Job]], None], *, timeout_s: float) -> list[Job]:
        for jobs in self.told:
            report(jobs)
        return self.told[-1]


@pytest.fixture(autouse=True)
def service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_transfers", lambda *_, **__: Service())


def test_the_end_of_a_job_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    commands.watch(["a", "b"])
    captured = capsys.readouterr()
    assert captured.out.splitlines() == ["a FINISHED 1/1 files", "b FINISHED 1/1 files"]
    assert captured.err.splitlines() == ["a ACTIVE 0/1 files", "b ACTIVE 0/1 files"]
    commands.watch(["a", "b"], as_json=True)
    captured = capsys.readouterr()
    assert [each["job_id"] for each in json.loads(captured.out)] == ["a", "b"]
    assert captured.err.splitlines()[-1] == "b FINISHED 1/1 files"


def test_how_long_to_watch_is_checked_without_jobs_too() -> None:
    with pytest.raises(InputError, match="not a duration"):
        commands.watch(timeout="-1 s")


def test_jobs_that_were_ended_are_told_beside_those_that_were_not(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PartialError, match="2 of 3 jobs were ended") as caught:
        commands.cancel(["a", "none", "b"])
    assert [failure.got for failure in caught.value.failures] == ["none"]
    assert capsys.readouterr().out.splitlines() == ["a CANCELED", "b CANCELED"]
    with pytest.raises(PartialError):
        commands.cancel(["a", "none"], as_json=True)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "a CANCELED\n")
    with pytest.raises(TransferError, match="no such job"):
        commands.cancel(["none"])
