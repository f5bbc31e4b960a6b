"""A real Chromium, headless, that trusts the facility's authority and nobody else of its kind."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DRIVER = Path(__file__).with_name("driver.py")


class PageError(Exception):
    """What Chromium says when it does not do what it is asked for."""


class Window:
    """A window with cookies of its own.

    Args:
        chromium: the browser.
        base: URL that paths are taken from.
        width: in CSS pixels.
        dark: whether the person prefers dark pages.
    """

    def __init__(self, chromium: Chromium, base: str, width: int, *, dark: bool) -> None:
        self._chromium = chromium
        self._base = base
        self._page = chromium.call("open", width=width, height=900, dark=dark)

    def _call(self, do: str, **values: Any) -> Any:
        return self._chromium.call(do, page=self._page, **values)

    def close(self) -> None:
        self._call("close")

    def goto(self, path: str) -> int:
        """Load a page; its status."""
        return int(self._call("goto", url=path if "://" in path else self._base + path))

    def press(self, key: str) -> None:
        self._call("press", key=key)

    def follow(self, key: str = "Enter") -> str:
        """Press a key that leads on; the URL of the page there."""
        return str(self._call("press_and_go", key=key))

    def type(self, text: str) -> None:
        self._call("type", text=text)

    def ask(self, script: str) -> Any:
        return self._call("ask", script=script)

    @property
    def focus(self) -> dict[str, Any]:
        """What has the focus: ``tag``, ``id``, ``name``, ``text``, and how thick its outline is."""
        return dict(self._call("focus"))

    @property
    def text(self) -> str:
        return str(self._call("text"))

    @property
    def url(self) -> str:
        return str(self._call("url"))

    @property
    def said(self) -> list[str]:
        """What stands on the console."""
        return list(self._call("said"))

    def shoot(self, path: Path) -> None:
        self._call("shoot", path=str(path))

    def tab_to(self, wanted: str, *, backwards: bool = False) -> dict[str, Any]:
        """Press Tab until something with this text or id has the focus.

        Everything on the way must show that it has it.
        """
        seen = []
        for _ in range(100):
            self.press("Shift+Tab" if backwards else "Tab")
            there = self.focus
            if there["tag"] != "body":
                assert there["outline"] >= 2, there
            if wanted in (there["id"], there["text"]):
                return there
            seen.append(there["text"] or there["id"])
        raise AssertionError(f"no Tab leads to {wanted!r}, only to {seen}")

    def sign_in(self, login: str, password: str) -> None:
        """Sign in with the keyboard alone, on the page that asks for it; the focus is where one types."""
        assert self.focus["id"] == "username"
        self.type(login)
        self.tab_to("password")
        self.type(password)
        self.tab_to("Sign in")
        self.follow()


class Chromium:
    """One browser, driven by a process in the environment that has Playwright."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def call(self, do: str, **values: Any) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"do": do, **values}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the driver ended with {self._process.wait()}"
        answer = json.loads(line)
        if "error" in answer:
            raise PageError(answer["error"])
        return answer["value"]

    @contextmanager
    def window(self, base: str, *, width: int = 1280, dark: bool = False) -> Iterator[Window]:
        window = Window(self, base, width, dark=dark)
        yield window
        window.close()


@contextmanager
def chromium(home: Path, ca: Path | None) -> Iterator[Chromium]:
    """Chromium with a home of its own.

    Args:
        home: an empty directory; what the browser trusts and writes lies there.
        ca: the authority that it trusts beside the public ones.
    """
    installed = Path(os.environ["BOATHOUSE_HOME"])
    programs = installed / "browser" / "bin"
    database = home / ".pki" / "nssdb"
    database.mkdir(parents=True)
    certutil = (str(programs / "certutil"), "-d", f"sql:{database}")
    subprocess.run([*certutil, "-N", "--empty-password"], check=True)
    if ca:
        subprocess.run([*certutil, "-A", "-n", "facility", "-t", "C,,", "-i", str(ca)], check=True)
    command = [str(installed / "envs" / "peers" / "bin" / "python"), "-I", str(DRIVER), str(programs / "chromium")]
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True, env=environment, cwd=home) as process:
        try:
            yield Chromium(process)
        finally:
            assert process.stdin
            process.stdin.close()
            assert process.wait(timeout=120) == 0
