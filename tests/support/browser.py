"""A real Chromium without a window, the system's own, driven by Playwright."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from support.servers import poll

# Imported where it is needed: the tests without a server do without it.
if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage
    from playwright.sync_api import Page as Tab

FLAGS = (
    "--no-sandbox",
    "--disable-dev-shm-usage",
    # Whatever isn't here is cut off.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)

#: What a screen reader has to have a name for.
NAMED_ROLES = {"button", "checkbox", "combobox", "link", "radio", "textbox"}

# What an expression fails with while a page gives way to the next one.
LEAVING = ("Execution context was destroyed", "navigation", "Cannot find context")


def find() -> str | None:
    """Where Chromium is, ``None`` if it isn't installed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


class Page:
    """A tab."""

    def __init__(self, tab: Tab) -> None:
        self._tab = tab
        self.requests: list[str] = []
        #: What the page has complained of, violations of its content policy among it.
        self.complaints: list[str] = []
        tab.set_default_timeout(30_000)
        tab.on("request", lambda request: self.requests.append(request.url))
        tab.on("websocket", lambda socket: self.requests.append(socket.url))
        tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        tab.on("console", self._note)

    def go(self, url: str) -> None:
        self._tab.goto(url)

    def js(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        return self._tab.evaluate(expression)

    def wait(self, expression: str) -> Any:
        """The value of an expression, once it is true."""
        from playwright.sync_api import Error

        def value() -> Any:
            try:
                return self.js(expression)
            except Error as error:
                if not any(leaving in error.message for leaving in LEAVING):
                    raise
                return None

        return poll(value, 20)

    def fill(self, selector: str, text: str) -> None:
        """Put text into a field, once it is there."""
        self.wait(f"document.querySelector({json.dumps(selector)}) !== null")
        self.js(f"document.querySelector({json.dumps(selector)}).value = {json.dumps(text)}")

    def submit(self, selector: str) -> None:
        """Send a form, as its button does."""
        self.js(f"document.querySelector({json.dumps(selector)}).requestSubmit()")

    def wait_for_text(self, text: str, selector: str = "body") -> None:
        """Until an element shows a text."""
        element = f"document.querySelector({json.dumps(selector)})"
        self.wait(f"({element}?.innerText ?? '').includes({json.dumps(text)})")

    def watch_for(self, text: str, selector: str) -> None:
        """Note from now on whether an element shows a text, however shortly."""
        element = f"document.querySelector({json.dumps(selector)})"
        self.js(
            "globalThis.wasShown = false; new MutationObserver(() => { "
            f"if ({element}.innerText.includes({json.dumps(text)})) globalThis.wasShown = true; "
            f"}}).observe({element}, {{childList: true, characterData: true, subtree: true}})"
        )

    def wait_for_watched(self) -> None:
        """Until that has happened."""
        self.wait("globalThis.wasShown")

    def without_name(self) -> list[str]:
        """The roles of what can be used, but has no name for who can't see it."""
        session = self._tab.context.new_cdp_session(self._tab)
        nodes = session.send("Accessibility.getFullAXTree")["nodes"]
        session.detach()
        return [
            node["role"]["value"]
            for node in nodes
            if not node.get("ignored")
            and node["role"]["value"] in NAMED_ROLES
            and not node.get("name", {}).get("value", "").strip()
        ]

    def _note(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(message.text)


@contextmanager
def chromium(**options: Any) -> Iterator[Page]:
    """A browser with one tab, for the time of a ``with`` block.

    :param options: for the browser's context, as in :func:`tabs`.
    """
    with tabs(1, **options) as [page]:
        yield page


@contextmanager
def tabs(count: int, **options: Any) -> Iterator[list[Page]]:
    """A browser with several tabs, which share their cookies.

    :param options: for the browser's context: ``ignore_https_errors=True`` takes any certificate.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find(), args=list(FLAGS))
        try:
            context = browser.new_context(**options)
            yield [Page(context.new_page()) for _ in range(count)]
        finally:
            browser.close()
