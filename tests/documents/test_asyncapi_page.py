"""The page of the AsyncAPI document and its console, in a real browser that is cut off."""

from __future__ import annotations

import gzip
import urllib.request

import pytest
from support import browser, servers
from support.engines import GEVENT

pytestmark = pytest.mark.skipif(browser.find() is None, reason="Chromium isn't installed")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    log = tmp_path_factory.mktemp("page") / "log"
    command = servers.uwsgi("documented:app", "--gevent", "20")
    with servers.running(command, log, GEVENT) as running:
        yield running


@pytest.fixture
def page(server):
    with browser.chromium() as page:
        yield page
        origin = server.http("")
        elsewhere = [url for url in page.requests if not url.startswith((origin, server.ws("")))]
        assert [url for url in elsewhere if not url.startswith("data:")] == []
        assert page.complaints == []


def choose(page: browser.Page, element: str, value: str, event: str = "change") -> None:
    page.js(
        f"""(() => {{
            const element = document.querySelector({element!r});
            element.value = {value!r};
            element.dispatchEvent(new Event({event!r}, {{bubbles: true}}));
        }})()"""
    )


def lines(text: str) -> str:
    """Whether the log has a line with a text, in JavaScript."""
    return f"[...document.querySelectorAll('#log li')].some(li => li.innerText.includes({text!r}))"


def test_the_renderer_shows_the_document(server, page):
    page.go(server.http("/docs/ws/"))
    shown = page.wait("document.querySelector('#documentation h1, #documentation h2')?.innerText")
    assert shown == "Contract 1.2.3"
    text = page.wait("document.querySelector('#documentation').innerText")
    for part in (
        "What the tests talk to.",
        "/typed/room/{room}",
        "Room.say",
        "typed.Room.send.joined",
    ):
        assert part in text


def test_the_console_talks_to_a_view(server, page):
    page.go(server.http("/docs/ws/#console"))
    page.wait("document.querySelector('#channel').options.length")
    choose(page, "#channel", "typed.Room")
    choose(page, "#path-room", "the lobby/2", "input")
    address = page.js("document.querySelector('#address').innerText")
    assert address == server.ws("/typed/room/the%20lobby/2")
    choose(page, "#path-room", "lobby", "input")
    page.js("document.querySelector('#connect').click()")
    page.wait("document.querySelector('#state').innerText === 'connected'")
    page.wait(lines('"type": "joined"'))
    examples = page.js("[...document.querySelector('#message').options].map(one => one.text)")
    assert examples[:2] == ["say", "values"]
    page.js("document.querySelector('#send').click()")
    page.wait(lines('"type": "said"'))
    page.wait(lines('"ref": 1'))
    choose(page, "#editor", "{", "input")
    assert page.js("document.querySelector('#invalid').innerText") != ""
    choose(page, "#mode", "text")
    page.js("document.querySelector('#send').click()")
    page.wait(lines("Not valid JSON."))
    choose(page, "#filter", "joined", "input")
    shown = page.js("[...document.querySelectorAll('#log li')].filter(li => !li.hidden).length")
    assert shown == 1
    choose(page, "#filter", "", "input")
    choose(page, "#mode", "hex")
    choose(page, "#editor", "00 ff", "input")
    page.js("document.querySelector('#send').click()")
    page.wait(lines("closed: 1003"))
    page.wait(lines("messages are text here"))
    assert page.js("document.querySelector('#state').innerText") == "closed: 1003 unsupported data"
    page.js("document.querySelector('#clear').click()")
    assert page.js("document.querySelector('#log').children.length") == 0


def test_examples_are_what_the_view_takes(server, page):
    page.go(server.http("/docs/ws/#console"))
    page.wait("document.querySelector('#channel').options.length")
    choose(page, "#channel", "typed.Strict")
    page.js("document.querySelector('#connect').click()")
    page.wait("document.querySelector('#state').innerText === 'connected'")
    page.js("document.querySelector('#send').click()")
    page.wait(lines("received"))
    assert not page.js(lines("strikes"))
    page.js("document.querySelector('#disconnect').click()")
    page.wait(lines("closed: 1000"))


def test_tabs_by_keyboard(server, page):
    page.go(server.http("/docs/ws/"))
    page.wait("document.querySelector('#documentation h1, #documentation h2')?.innerText")
    page.js("document.querySelector('#documentation-tab').focus()")
    page.js(
        "document.activeElement.dispatchEvent("
        "new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}))"
    )
    assert page.js("document.activeElement.id") == "console-tab"
    assert page.js("document.querySelector('#console').hidden") is False


def test_the_renderer_is_cached_and_compressed(server):
    request = urllib.request.Request(server.http("/docs/ws/renderer.js"))
    with urllib.request.urlopen(request, timeout=10) as response:
        plain, etag = response.read(), response.headers["ETag"]
    request.add_header("Accept-Encoding", "gzip")
    with urllib.request.urlopen(request, timeout=10) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(response.read()) == plain
    request.add_header("If-None-Match", etag)
    with pytest.raises(urllib.error.HTTPError) as not_modified:
        urllib.request.urlopen(request, timeout=10)
    assert not_modified.value.code == 304
    not_modified.value.close()
