"""A program that may touch what the options of its launcher name, and the system's own files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LISTEN = [sys.executable, "-m", "boathouse.services.listen"]
ADDRESS = "127.0.1.99:0"

WITHOUT_LANDLOCK = """
import ctypes, os, struct, sys

# seccomp(2): system call 444 answers ENOSYS, as a kernel before 5.13 does; all others go on.
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, 444), (0x06, 0, 0, 0x00050000 | 38), (0x06, 0, 0, 0x7FFF0000)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(program))) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


def confined(script: str, *options: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """What a shell says that runs a script, confined."""
    command = [*before, *LISTEN, ADDRESS, *options, "--", "/bin/sh", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Two directories with a file in each."""
    for name in ("mine", "theirs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name, encoding="utf-8")
    return tmp_path


def test_reading(files: Path) -> None:
    done = confined(f"cd {files}; cat mine/file; cat mine/../theirs/file; echo x > mine/file", f"--read={files}/mine")
    assert done.stdout == "mine"
    assert "theirs/file: Permission denied" in done.stderr
    assert (files / "mine" / "file").read_text(encoding="utf-8") == "mine"


def test_writing(files: Path) -> None:
    script = f"""
    cd {files}
    mkdir mine/deep && mv mine/file mine/deep/moved && cat mine/deep/moved && rm -r mine/deep && echo x > mine/new
    cp /bin/true mine/true && chmod +x mine/true; mine/true
    echo x > mine/../theirs/new; rm theirs/file; mv theirs/file mine/stolen; ln theirs/file mine/stolen
    """
    done = confined(script, f"--write={files}/mine")
    assert done.stdout == "mine"
    assert {path.name for path in (files / "mine").iterdir()} == {"new", "true"}
    assert {path.name for path in (files / "theirs").iterdir()} == {"file"}
    assert "mine/true: Permission denied" in done.stderr


def test_running(files: Path) -> None:
    program = files / "mine" / "program"
    program.write_text("#!/bin/sh\necho ran\n", encoding="utf-8")
    program.chmod(0o755)
    assert confined(str(program), f"--run={files}/mine").stdout == "ran\n"
    assert confined(str(program), f"--read={files}/mine").stdout == ""


def test_a_link_is_followed_when_the_rule_is_made(files: Path) -> None:
    (files / "link").symlink_to(files / "mine")
    done = confined(f"cat {files}/link/file {files}/mine/file", f"--read={files}/link")
    assert done.stdout == "minemine"


def test_a_single_file(files: Path) -> None:
    (files / "mine" / "other").touch()
    done = confined(f"cd {files}/mine; cat file; cat other", f"--read={files}/mine/file")
    assert done.stdout == "mine"
    assert "other: Permission denied" in done.stderr


def test_a_path_that_is_not_there_is_named(files: Path) -> None:
    done = confined("echo started", f"--read={files}/none")
    assert done.returncode != 0
    assert done.stdout == ""
    assert f"No such file or directory: '{files}/none'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_kernel_without_landlock_is_one_line_in_the_log(files: Path) -> None:
    done = confined(f"cat {files}/theirs/file", f"--read={files}/mine", before=(sys.executable, "-c", WITHOUT_LANDLOCK))
    assert done.stdout == "theirs"
    assert done.stderr == "not confined to its files: this kernel has no Landlock (Function not implemented)\n"
