"""Sockets opened for a program that would listen everywhere."""

from __future__ import annotations

import socket
import subprocess
import sys

from boathouse.testing.scratch import free_port

LISTEN = [sys.executable, "-m", "boathouse.services.listen"]
ANSWER = """
import os, socket
assert os.environ["LISTEN_PID"] == str(os.getpid())
for number in range(int(os.environ["LISTEN_FDS"])):
    print(*socket.socket(fileno=3 + number).getsockname()[:2], sep=":")
"""


def run(*arguments):
    return subprocess.run([*LISTEN, *arguments], capture_output=True, text=True, timeout=120, check=False)


def test_the_program_inherits_them_in_order():
    port = free_port("127.0.1.99")
    addresses = [f"127.0.1.{number}:{port}" for number in (99, 98, 97)]
    result = run(*addresses, "--", sys.executable, "-c", ANSWER)
    assert result.stdout.split() == addresses, result.stderr


def test_a_port_in_use_is_named():
    with socket.socket() as holder:
        holder.bind(("127.0.1.99", 0))
        holder.listen()
        address = f"127.0.1.99:{holder.getsockname()[1]}"
        result = run(address, "--", sys.executable, "-c", ANSWER)
    assert result.returncode != 0
    assert address in result.stderr
    assert "Address already in use" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_program_that_is_not_there():
    result = run(f"127.0.1.99:{free_port('127.0.1.99')}", "--", "/nowhere/xrootd")
    assert result.returncode != 0
    assert "cannot listen or start" in result.stderr
    assert "Traceback" not in result.stderr


def test_usage():
    for arguments in ([], ["127.0.0.1:1"], ["--", "true"], ["127.0.0.1:1", "--"]):
        result = run(*arguments)
        assert result.returncode != 0
        assert "usage" in result.stderr
