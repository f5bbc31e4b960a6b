"""Ctrl-C: one line, exit status 130, no traceback, wherever it comes."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from boathouse.analysis.samples import Sample, generate
from boathouse.testing.wait import wait_for

DIMUON = Path(__file__).parents[2] / "examples" / "analysis" / "dimuon.py"

WHILE_IMPORTING = """
import os, runpy, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
sys.argv = ["boathouse", *{arguments!r}]
runpy.run_module("boathouse.cli", run_name="__main__")
"""

WHILE_ASKING = """
import os, signal, sys
import typer
from boathouse.cli.main import main
from boathouse.cli.tree import build

@build().command("ask")
def ask(how: str) -> None:
    if how == "in-a-command":
        os.kill(os.getpid(), signal.SIGINT)
    elif how == "within-another":
        build()(["ask", "in-a-command"], standalone_mode=False)
        print("went on")
    elif how == "in-an-exec":
        exec("os.kill(os.getpid(), signal.SIGINT)")
    elif how == "with-a-word":
        raise KeyboardInterrupt("nothing was written")
    elif how == "at-a-prompt":
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            raise typer.Abort() from None

sys.argv = ["boathouse", "ask", {how!r}]
main()
"""


def interrupted(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=180, check=False)


@pytest.mark.parametrize("module", ["typer", "rich", "boathouse.cli.tree", "boathouse.cli.lake", "urllib3", "yaml"])
def test_ctrl_c_while_modules_are_imported(module: str) -> None:
    done = interrupted(WHILE_IMPORTING.format(module=module, arguments=["facility", "check", "laptop"]))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_ctrl_c_inside_a_text_that_is_executed() -> None:
    done = interrupted(WHILE_ASKING.format(how="in-an-exec"))
    assert (done.returncode, done.stderr.count("\n")) == (130, 1)


def test_ctrl_c_while_a_command_imports_what_only_it_needs(tmp_path: Path) -> None:
    done = interrupted(WHILE_IMPORTING.format(module="uproot", arguments=["sample", "--out", str(tmp_path)]))
    assert done.returncode == 130
    assert done.stderr.startswith("interrupted: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ("in-a-command", "interrupted: what was done so far stays, and the same command goes on from there\n"),
        ("within-another", "interrupted: what was done so far stays, and the same command goes on from there\n"),
        ("at-a-prompt", "interrupted: what was done so far stays, and the same command goes on from there\n"),
        ("with-a-word", "interrupted: nothing was written\n"),
    ],
)
def test_ctrl_c_in_a_command_says_what_that_means(how: str, line: str) -> None:
    done = interrupted(WHILE_ASKING.format(how=how))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", line)


def processes_of(session: int) -> list[psutil.Process]:
    """All processes of a session that are alive."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.Error):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def is_worker(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return "spawn_main" in " ".join(process.cmdline())
    return False


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_while_workers_start_leaves_nothing_behind(tmp_path: Path, presses: int) -> None:
    made = generate(Sample(events=2_000, files=1, seed=3), tmp_path / "data")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-m", "boathouse.cli", "run", DIMUON, made[0].path, "--out", tmp_path / "result"]
    with subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    ) as running:
        wait_for("a worker was started", lambda: any(map(is_worker, processes_of(running.pid))), timeout_s=120)
        # A terminal sends it to every process of the group.
        for _ in range(presses):
            os.killpg(running.pid, signal.SIGINT)
        printed, said = running.communicate(timeout=180)
    assert (running.returncode, printed) == (130, "")
    *phases, last = said.splitlines()
    assert all(re.fullmatch(r" *\d+\.\d s  [a-z].*", phase) for phase in phases), said
    assert last == "interrupted: no result was written, and the same command begins again"
    wait_for("every process has ended", lambda: not processes_of(running.pid), timeout_s=120)
    assert list(scratch.iterdir()) == []
    assert not (tmp_path / "result").exists()


def test_ctrl_c_while_a_sample_is_made_begins_no_other_file(tmp_path: Path) -> None:
    wanted = ["--events", "1600000", "--files", "16", "--out", str(tmp_path / "data")]
    command = [sys.executable, "-m", "boathouse.cli", "sample", *wanted]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as running:
        wait_for("a worker was started", lambda: any(map(is_worker, processes_of(running.pid))), timeout_s=120)
        os.killpg(running.pid, signal.SIGINT)
        printed, said = running.communicate(timeout=180)
    assert (running.returncode, printed) == (130, "")
    assert said == "interrupted: what was done so far stays, and the same command goes on from there\n"
    wait_for("every process has ended", lambda: not processes_of(running.pid), timeout_s=120)
    made = {path.name for path in (tmp_path / "data").iterdir()}
    assert not [name for name in made if name.startswith(".making")]
    assert len([name for name in made if name.endswith(".root")]) < 16
