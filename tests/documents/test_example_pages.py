"""The pages of the examples, end to end, in a real browser with several tabs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import browser, servers
from support.browser import Page
from support.examples import by_run, serving
from support.paths import EXAMPLES
from support.redis_server import redis_server
from support.servers import Server

pytestmark = pytest.mark.skipif(browser.find() is None, reason="Chromium isn't installed")

CHATS = ["chat-gevent", "chat-asyncio", "chat-typed"]


# uWSGI's statistics, which have the pids of its workers.
STATS = "stats"


@contextmanager
def shown(
    folder: str, script: str, tmp_path: Path, **env: str
) -> Iterator[tuple[Server, Page, Page]]:
    """An example that is being served, and two tabs with its page, which complain of nothing."""
    stats = {"UWSGI_STATS": str(tmp_path / STATS)}
    with (
        serving(folder, by_run(script), tmp_path / "log", **stats, **env) as example,
        browser.tabs(2) as [one, two],
    ):
        for page in (one, two):
            page.go(example.url + "/")
        yield example.server, one, two


def check(*pages: Page) -> None:
    """What can be used has a name, and nothing went wrong."""
    for page in pages:
        assert page.js("document.documentElement.lang") == "en"
        headings = "[...document.querySelectorAll('h1')].filter(h => h.offsetParent !== null)"
        assert page.js(f"{headings}.length") == 1
        # What comes in by itself is read out.
        assert page.js("document.querySelectorAll('[aria-live], [role=log], [role=status]').length")
        assert page.without_name() == []
        origin = page.js("location.host")
        assert all(f"//{origin}/" in url for url in page.requests if not url.startswith("data:"))


def replace_workers(server: Server) -> None:
    """Have uWSGI replace each worker: its clients are closed with 1012."""
    with socket.socket(socket.AF_UNIX) as stats:
        stats.connect(str(server.log_path.with_name(STATS)))
        with stats.makefile() as file:
            workers = json.load(file)["workers"]
    for worker in workers:
        os.kill(worker["pid"], signal.SIGHUP)


@pytest.mark.parametrize("folder", ["echo", "echo-gevent", "echo-asyncio"])
def test_echo(folder: str, tmp_path: Path) -> None:
    with shown(folder, "echo.py", tmp_path) as (server, one, two):
        for page, text in ((one, "first"), (two, "<b>second</b>")):
            page.wait_for_text("Connected.", "#state")
            page.fill("#text", text)
            page.submit("#form")
            page.wait_for_text(text, "#log")
        assert one.js("document.querySelector('#log').innerText") == "first"
        check(one, two)
        replace_workers(server)
        one.wait_for_text("Closed (1012)", "#state")
        one.go(server.http("/"))
        one.wait_for_text("Connected.", "#state")


def test_auth(tmp_path: Path) -> None:
    with shown("auth", "auth.py", tmp_path) as (_, one, two):
        one.wait_for_text("Refused: log in first.", "#state")
        check(one)
        for password, said in (("wrong", "Wrong name or password."), ("engine", "Hello, ada!")):
            one.fill("#username", "ada")
            one.fill("#password", password)
            one.submit("form[action$=login]")
            one.wait_for_text(said)
        one.wait_for_text("Accepted", "#state")
        one.fill("#text", "Good morning")
        one.submit("#say")
        one.wait_for_text("ada said: Good morning", "#log")
        check(one)
        # The other tab shares the login.
        two.js("location.reload()")
        two.wait_for_text("Hello, ada!")
        two.submit("form[action$=logout]")
        two.wait_for_text("Refused: log in first.", "#state")


@pytest.mark.parametrize("folder", CHATS)
def test_chat(folder: str, tmp_path: Path) -> None:
    with shown(folder, "chat.py", tmp_path) as (server, ann, bob):
        check(ann)
        for page, name in ((ann, "Ann"), (bob, "Bob")):
            page.fill("#name", name)
            page.submit("#enter")
            page.wait_for_text("Connected", "#state")
        ann.wait_for_text("Bob", "#people")
        ann.fill("#text", "Hello from a page")
        ann.submit("#say")
        bob.wait_for_text("Hello from a page", "#log")
        bob.fill("#text", "<b>Hello</b> page")
        bob.submit("#say")
        ann.wait_for_text("<b>Hello</b> page", "#log")
        check(ann, bob)
        # An error is shown where it was made, and only there.
        ann.js("document.querySelector('#text').removeAttribute('maxlength')")
        ann.fill("#text", "x" * 501)
        ann.submit("#say")
        ann.wait_for_text("500", "#problem")
        assert bob.js("document.querySelector('#problem').innerText") == ""
        # A name that is too long is refused.
        bob.go(server.http("/"))
        bob.js("document.querySelector('#name').removeAttribute('maxlength')")
        bob.fill("#name", "B" * 21)
        bob.submit("#enter")
        bob.wait("document.querySelector('#refused').innerText !== ''")
        assert ann.complaints == bob.complaints == []
        ann.watch_for("Connection lost", "#state")
        replace_workers(server)
        ann.wait_for_watched()
        ann.wait_for_text("Connected", "#state")
        ann.fill("#text", "Back again")
        ann.submit("#say")
        ann.wait_for_text("Back again", "#log")


def test_pubsub(tmp_path: Path) -> None:
    with (
        redis_server(tmp_path) as redis,
        shown("pubsub-asyncio", "pubsub.py", tmp_path, BROKER_URL=redis.url) as (_, one, two),
    ):
        for page in (one, two):
            page.submit("#subscribing")
            page.wait_for_text("Subscribed to news.", "#state")
            page.wait_for_text("Welcome to channel <news>", "#log")
        one.fill("#text", "Good news")
        one.submit("#publishing")
        for page in (one, two):
            page.wait_for_text("Good news", "#log")
        check(one, two)
        assert one.complaints == two.complaints == []
        two.fill("#channel", "weather")
        two.submit("#subscribing")
        two.wait_for_text("Welcome to channel <weather>", "#log")


def test_notifications(tmp_path: Path) -> None:
    def send(page: Page, text: str) -> None:
        page.js("document.querySelector('#to').value = 'ada'")
        page.fill("#text", text)
        page.submit("#form")
        page.wait("document.querySelector('#text').value === ''")

    with (
        redis_server(tmp_path) as redis,
        shown("notifications", "notifications.py", tmp_path, BROKER_URL=redis.url) as tabs,
    ):
        server, one, two = tabs
        check_form = one.without_name()
        assert check_form == []
        one.js("document.querySelector('#user').value = 'ada'")
        one.submit("form")
        one.wait_for_text("Connected.", "#state")
        two.go(server.http("/"))
        two.wait_for_text("Connected.", "#state")
        check(one, two)
        for page in (one, two):
            # What comes from then on is heard.
            page.wait("since !== ''")
        send(one, "before")
        for page in (one, two):
            page.wait_for_text("before", "#notices")
        for page in (one, two):
            page.watch_for("trying again", "#state")
        replace_workers(server)
        for page in (one, two):
            page.wait_for_watched()
        server.wait_ready()
        # Whoever isn't back yet gets it as well, and once.
        send(two, "after")
        for page in (one, two):
            page.wait_for_text("after", "#notices")
            said = page.js("[...document.querySelectorAll('#notices li')].map(li => li.innerText)")
            assert len(said) == 2
            assert "after" in said[0]
            assert "before" in said[1]


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx isn't installed")
def test_cluster(tmp_path: Path) -> None:
    folder = EXAMPLES / "chat-cluster"
    command = [sys.executable, "cluster.py"]
    with (
        servers.running(lambda port: command, tmp_path / "log", cwd=folder) as server,
        browser.tabs(2) as [ann, bob],
    ):
        for page, name in ((ann, "Ann"), (bob, "Bob")):
            page.go(server.http("/"))
            page.fill("#name", name)
            page.submit("#enter")
            page.wait_for_text("served by", "#state")
        ann.fill("#text", "Hello")
        ann.submit("#say")
        for page in (ann, bob):
            page.wait_for_text("Hello", "#log")
        check(ann, bob)
        pids = re.findall(r"^(?:left|right): pid (\d+)$", server.log, re.MULTILINE)
        assert len(pids) == 2
        for page in (ann, bob):
            page.watch_for("Connection lost", "#state")
        for pid in pids:
            os.kill(int(pid), signal.SIGHUP)
        # They come back by themselves, to where they were.
        for page, text in ((ann, "Are you back?"), (bob, "I am")):
            page.wait_for_watched()
            page.wait_for_text("served by", "#state")
            page.fill("#text", text)
            page.submit("#say")
        for page in (ann, bob):
            page.wait_for_text("I am", "#log")
            log = page.js("document.querySelector('#log').innerText")
            assert log.count("Hello") == 1
