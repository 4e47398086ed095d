"""How connections end for a page: the ``CloseEvent`` of a real browser, and what hooks get."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import browser, servers
from support.browser import Page
from support.engines import GEVENT
from support.servers import Server, poll

pytestmark = pytest.mark.skipif(browser.find() is None, reason="Chromium isn't installed")

COMMAND = servers.uwsgi("contract:app", "--gevent", "10")

#: Opens a WebSocket. What happens to it is in ``opened`` and ``ended``; it sends *message* first.
OPEN = """([path, message]) => {
    globalThis.opened = false;
    globalThis.ended = null;
    globalThis.socket = new WebSocket(path);
    socket.onopen = () => { opened = true; if (message !== null) socket.send(message); };
    socket.onclose = ({code, reason, wasClean}) => { ended = [code, reason, wasClean]; };
}"""


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser.chromium() as tab:
        yield tab


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with servers.running(COMMAND, tmp_path_factory.mktemp("site") / "log", GEVENT) as server:
        yield server


def visit(page: Page, server: Server, path: str, message: str | None = None) -> None:
    """Open a WebSocket from a page of its own site."""
    if not page.js("location.href").startswith(server.http("/")):
        page.go(server.http("/"))
    page.js(f"({OPEN})({json.dumps([server.ws(path), message])})")


def closed(page: Page) -> list[Any]:
    """Code, reason and ``wasClean``, once the WebSocket has been closed."""
    found = page.wait("ended")
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize(
    ("path", "message", "event"),
    [
        pytest.param("/returns", None, [1000, "", True], id="1000"),
        pytest.param("/views/all/x", "abort", [1008, "Forbidden", True], id="1008"),
        pytest.param("/views/all/x", "raise value", [1011, "", True], id="1011"),
        pytest.param("/views/all/x", "close grüße", [4001, "grüße", True], id="4001"),
        pytest.param("/views/all/x", "close() enough", [4003, "enough", True], id="4003"),
    ],
)
def test_closed_by_the_server(
    page: Page, site: Server, path: str, message: str | None, event: list[Any]
) -> None:
    visit(page, site, path, message)
    assert closed(page) == event
    assert page.js("opened")


@pytest.mark.parametrize(
    "path", ["/views/all/refused", "/views/all/elsewhere", "/nowhere"], ids=["401", "302", "404"]
)
def test_a_refused_handshake(page: Page, site: Server, path: str) -> None:
    visit(page, site, path)
    assert closed(page) == [1006, "", False]
    assert not page.js("opened")


@pytest.mark.parametrize(
    ("script", "code", "reason"),
    [
        pytest.param("socket.close()", 1005, "", id="close"),
        pytest.param("socket.close(1000, 'done')", 1000, "done", id="1000"),
        pytest.param("socket.close(4999, 'grüße')", 4999, "grüße", id="4999"),
        pytest.param("location.reload()", 1001, "", id="leaves"),
    ],
)
def test_closed_by_the_page(
    page: Page, site: Server, key: str, script: str, code: int, reason: str
) -> None:
    visit(page, site, f"/views/all/x?key={key}")
    page.wait("opened")
    page.js(script)
    ended = ["close", code, reason, False]
    poll(lambda: ended in json.loads(site.get(f"/journal/{key}")))
    if code != 1001:
        assert closed(page) == [code, reason, True]


def test_a_killed_worker(page: Page, site: Server) -> None:
    visit(page, site, "/echo")
    page.wait("opened")
    site.kill_worker(int(json.loads(site.get("/process"))["pid"]))
    assert closed(page) == [1006, "", False]


@pytest.mark.parametrize(
    ("signum", "code"),
    [pytest.param(signal.SIGHUP, 1012, id="reload"), pytest.param(signal.SIGINT, 1001, id="stop")],
)
def test_uwsgi_ends(page: Page, tmp_path: Path, signum: signal.Signals, code: int) -> None:
    with servers.running(COMMAND, tmp_path / "log", GEVENT) as server:
        visit(page, server, "/views/all/x")
        page.wait("opened")
        server.process.send_signal(signum)
        assert closed(page)[::2] == [code, True]
