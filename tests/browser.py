"""A real Chromium without a window, driven by its DevTools protocol."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from servers import poll
from websockets.sync.client import ClientConnection, connect

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Of several tabs all are in front.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    # Whatever isn't here is cut off.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-port=0",
)


def find() -> str | None:
    """Where Chromium is, ``None`` if it isn't installed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


class Page:
    """A tab."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._calls = 0
        self._has_loaded = False
        self.requests: list[str] = []
        #: What the page has complained of, violations of its content policy among it.
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._call(f"{domain}.enable")

    def go(self, url: str) -> None:
        self._has_loaded = False
        self._call("Page.navigate", url=url)
        while not self._has_loaded:
            self._note(json.loads(self._connection.recv(timeout=30)))

    def js(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self._call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression: str) -> Any:
        """The value of an expression, once it is true."""
        return poll(lambda: self.js(expression), 20)

    def fill(self, selector: str, text: str) -> None:
        """Put text into a field, as typing does."""
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
        """The roles of what can be used and of what is announced, but has no name for it."""
        self._call("Accessibility.enable")
        roles = {"button", "checkbox", "combobox", "link", "radio", "textbox"}
        return [
            node["role"]["value"]
            for node in self._call("Accessibility.getFullAXTree")["nodes"]
            if not node.get("ignored")
            and node["role"]["value"] in roles
            and not node.get("name", {}).get("value", "").strip()
        ]

    def size(self, width: int, height: int) -> None:
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def dark(self) -> None:
        features = [{"name": "prefers-color-scheme", "value": "dark"}]
        self._call("Emulation.setEmulatedMedia", features=features)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot")["data"]))

    def _call(self, method: str, **params: Any) -> Any:
        self._calls += 1
        self._connection.send(json.dumps({"id": self._calls, "method": method, "params": params}))
        while True:
            message = json.loads(self._connection.recv(timeout=30))
            if message.get("id") == self._calls:
                assert "error" not in message, message
                return message["result"]
            self._note(message)

    def _note(self, event: dict[str, Any]) -> None:
        params = event["params"]
        if event["method"] == "Page.loadEventFired":
            self._has_loaded = True
        elif event["method"] == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif event["method"] == "Network.webSocketCreated":
            self.requests.append(params["url"])
        elif event["method"] == "Runtime.exceptionThrown":
            self.complaints.append(params["exceptionDetails"]["exception"]["description"])
        elif event["method"] == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(params["entry"]["text"])


@contextmanager
def chromium() -> Iterator[Page]:
    """A browser with one tab, for the time of a ``with`` block."""
    with tabs(1) as [page]:
        yield page


@contextmanager
def tabs(count: int) -> Iterator[list[Page]]:
    """A browser with several tabs, which share their cookies."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [str(find()), *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with ExitStack() as stack:
                yield [
                    Page(stack.enter_context(connect(address, max_size=None, compression=None)))
                    for address in _addresses(Path(profile), count)
                ]
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


def _addresses(profile: Path, count: int) -> list[str]:
    """The DevTools addresses of tabs, once the browser listens."""
    file = profile / "DevToolsActivePort"
    port = poll(lambda: file.exists() and file.read_text().partition("\n")[0], 30)

    def ask(path: str, method: str = "GET") -> Any:
        request = Request(f"http://127.0.0.1:{port}/json/{path}", method=method)
        with urlopen(request, timeout=10) as response:
            return json.load(response)

    def first() -> str | None:
        pages = [one for one in ask("list") if one["type"] == "page"]
        return pages[0]["webSocketDebuggerUrl"] if pages else None

    others = range(count - 1)
    return [poll(first, 30), *(ask("new", "PUT")["webSocketDebuggerUrl"] for _ in others)]
