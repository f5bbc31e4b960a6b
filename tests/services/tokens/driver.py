"""Drives Chromium for tests, in the environment that has Playwright: a line of JSON in, a line of JSON out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Error, Page, sync_playwright

QUIET = (
    *("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-default-apps", "--no-pings"),
)
"""Nothing but the pages that a test asks for is fetched."""

FOCUS = """() => {
  const element = document.activeElement;
  const words = element.innerText || (element.labels && element.labels[0] && element.labels[0].innerText) || '';
  const style = getComputedStyle(element);
  return {tag: element.tagName.toLowerCase(), id: element.id, name: element.getAttribute('name') || '',
          text: words.trim().replace(/\\s+/g, ' '),
          outline: style.outlineStyle === 'none' ? 0 : parseFloat(style.outlineWidth)};
}"""

FOCUSED = "() => !document.querySelector('[autofocus]') || document.activeElement !== document.body"
"""The browser gives the focus away with the first picture that it draws, after it says that the page is loaded."""


class Driver:
    """The open pages, by number."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._pages: list[Page] = []
        self._said: list[list[str]] = []

    def open(self, width: int, height: int, *, dark: bool) -> int:
        """A page with cookies of its own."""
        context = self._browser.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", locale="en-GB"
        )
        context.set_default_timeout(90_000)
        page = context.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        self._pages.append(page)
        self._said.append(said)
        return len(self._pages) - 1

    def said(self, page: int) -> list[str]:
        """What stands on the console: errors, and what the policy of the page forbade."""
        return self._said[page]

    def close(self, page: int) -> None:
        """Close it and forget its cookies."""
        self._pages[page].context.close()

    def goto(self, page: int, url: str) -> int:
        """Load a URL; its status."""
        answer = self._pages[page].goto(url)
        self._pages[page].wait_for_function(FOCUSED)
        return answer.status if answer else 0

    def press(self, page: int, key: str) -> None:
        """Press a key."""
        self._pages[page].keyboard.press(key)

    def press_and_go(self, page: int, key: str) -> str:
        """Press a key that leads to another page, and wait for that one; its URL."""
        with self._pages[page].expect_navigation():
            self._pages[page].keyboard.press(key)
        self._pages[page].wait_for_function(FOCUSED)
        return self._pages[page].url

    def type(self, page: int, text: str) -> None:
        """Type into what has the focus."""
        self._pages[page].keyboard.type(text)

    def focus(self, page: int) -> Any:
        """What has the focus."""
        return self._pages[page].evaluate(FOCUS)

    def ask(self, page: int, script: str) -> Any:
        """The value of an expression in the page."""
        return self._pages[page].evaluate(script)

    def text(self, page: int) -> str:
        """What a person reads."""
        return self._pages[page].locator("body").inner_text()

    def url(self, page: int) -> str:
        """Where it is."""
        return self._pages[page].url

    def shoot(self, page: int, path: str) -> None:
        """A picture of the whole page."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._pages[page].screenshot(path=path, full_page=True)


def main() -> None:
    """Serve until the end of standard input."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=sys.argv[1], args=list(QUIET))
        driver = Driver(browser)
        for line in sys.stdin:
            call = json.loads(line)
            try:
                answer = {"value": getattr(driver, call.pop("do"))(**call)}
            except Error as error:
                answer = {"error": error.message}
            print(json.dumps(answer), flush=True)  # noqa: T201 - this is how it answers
        browser.close()


if __name__ == "__main__":
    main()
