"""The system's Chromium, headless, driven by Playwright."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from support.servers import poll

# Imported where it is needed: tests without a server don't need it.
if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage
    from playwright.sync_api import Page as Tab

FLAGS = (
    "--no-sandbox",
    "--disable-dev-shm-usage",
    # Other hosts are unreachable.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)

#: Elements that need a name for screen readers.
NAMED_ROLES = {"button", "checkbox", "combobox", "link", "radio", "textbox"}

# The error of an expression during a navigation.
LEAVING = ("Execution context was destroyed", "navigation", "Cannot find context")


def find() -> str | None:
    """Return the path of Chromium, or ``None`` if it isn't installed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


class Page:
    """A tab."""

    def __init__(self, tab: Tab) -> None:
        self._tab = tab
        self.requests: list[str] = []
        #: Errors of the page, violations of its content security policy included.
        self.complaints: list[str] = []
        tab.set_default_timeout(30_000)
        tab.on("request", lambda request: self.requests.append(request.url))
        tab.on("websocket", lambda socket: self.requests.append(socket.url))
        tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        tab.on("console", self._note)

    def go(self, url: str) -> None:
        self._tab.goto(url)

    def js(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        return self._tab.evaluate(expression)

    def wait(self, expression: str) -> Any:
        """Wait until an expression is true, and return its value."""
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
        """Wait for a field, and type text into it."""
        self.wait(f"document.querySelector({json.dumps(selector)}) !== null")
        self.js(f"document.querySelector({json.dumps(selector)}).value = {json.dumps(text)}")

    def submit(self, selector: str) -> None:
        """Submit a form as its button does."""
        self.js(f"document.querySelector({json.dumps(selector)}).requestSubmit()")

    def wait_for_text(self, text: str, selector: str = "body") -> None:
        """Wait until an element shows a text."""
        element = f"document.querySelector({json.dumps(selector)})"
        self.wait(f"({element}?.innerText ?? '').includes({json.dumps(text)})")

    def watch_for(self, text: str, selector: str) -> None:
        """Start recording whether an element shows a text, even for a moment."""
        element = f"document.querySelector({json.dumps(selector)})"
        self.js(
            "globalThis.wasShown = false; new MutationObserver(() => { "
            f"if ({element}.innerText.includes({json.dumps(text)})) globalThis.wasShown = true; "
            f"}}).observe({element}, {{childList: true, characterData: true, subtree: true}})"
        )

    def wait_for_watched(self) -> None:
        """Wait until it has shown the text."""
        self.wait("globalThis.wasShown")

    def without_name(self) -> list[str]:
        """Return the roles of interactive elements without a name for screen readers."""
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
    """Open a browser with one tab for the duration of a ``with`` block.

    :param options: for the browser's context, as in :func:`tabs`.
    """
    with tabs(1, **options) as [page]:
        yield page


@contextmanager
def tabs(count: int, **options: Any) -> Iterator[list[Page]]:
    """Open a browser with several tabs, which share their cookies.

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
