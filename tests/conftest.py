"""Fixtures: one server per engine and mode, shared by all tests, and a leak detector."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import asyncapi_documents
import browser
import children
import pytest
import servers
import side_by_side
import uvloop
import uwsgi_asyncio
from conformance import autobahn
from flask.globals import _cv_app, _cv_request
from servers import Server, poll

# Now, because its pipe stays open.
children.begin()

APP = "contract:app"
GEVENT = {"ENGINE": "GeventWebSocket"}
BLOCKING = {"ENGINE": "WebSocket"}
ASYNCIO = {"ENGINE": "AsyncioWebSocket"}
UVLOOP = {**ASYNCIO, "LOOP": "uvloop"}
AREA = ("--sharedarea", "1")

#: Every engine on every server that can run it.
MODES: dict[str, tuple[Callable[[int], list[str]], dict[str, str]]] = {
    "uwsgi-gevent": (servers.uwsgi(APP, "--gevent", "10", *AREA), GEVENT),
    "uwsgi-gevent-router": (servers.uwsgi(APP, "--gevent", "10", *AREA, router=True), GEVENT),
    "uwsgi-threads": (servers.uwsgi(APP, "--threads", "4", *AREA), BLOCKING),
    "uwsgi-threads-router": (servers.uwsgi(APP, "--threads", "4", *AREA, router=True), BLOCKING),
    "uwsgi-asyncio": (servers.uwsgi(APP, *AREA), ASYNCIO),
    "uwsgi-asyncio-router": (servers.uwsgi(APP, *AREA, router=True), UVLOOP),
    "gunicorn-gthread-asyncio": (
        servers.gunicorn(APP, "-k", "gthread", "--threads", "20"),
        ASYNCIO,
    ),
    "werkzeug-asyncio": (servers.flask_run(APP), UVLOOP),
    "gunicorn-gthread": (servers.gunicorn(APP, "-k", "gthread", "--threads", "20"), BLOCKING),
    "gunicorn-gevent": (servers.gunicorn(APP, "-k", "gevent"), GEVENT),
    "gunicorn-gthread-gevent": (servers.gunicorn(APP, "-k", "gthread", "--threads", "20"), GEVENT),
    "gunicorn-gevent-blocking": (servers.gunicorn(APP, "-k", "gevent"), BLOCKING),
    "werkzeug": (servers.flask_run(APP), BLOCKING),
    "werkzeug-gevent": (servers.flask_run(APP), GEVENT),
}
# uWSGI's own event loop, of a build that has one.
OWN_ASYNCIO = []
if uwsgi_asyncio.why_not() is None:
    OWN_ASYNCIO = ["uwsgi-own-asyncio"]
    MODES["uwsgi-own-asyncio"] = (
        servers.uwsgi(APP, *uwsgi_asyncio.OPTIONS, *AREA, binary=uwsgi_asyncio.binary),
        ASYNCIO,
    )
UWSGI_MODES = [mode for mode in MODES if mode.startswith("uwsgi")]


def pytest_report_header() -> list[str]:
    lines = []
    if reason := uwsgi_asyncio.why_not():
        lines.append(f"uWSGI's own asyncio loop is NOT tested, as it takes a build: {reason}")
    if autobahn.find_python() is None:
        lines.append("The Autobahn test suite is NOT run: there is no CPython 2.7")
    if browser.find() is None:
        lines.append("Pages are NOT tested in a browser: Chromium isn't installed")
    if shutil.which("nginx") is None:
        lines.append("The example chat-cluster is NOT tested: nginx isn't installed")
    for program in ("nginx", "haproxy"):
        if shutil.which(program) is None:
            lines.append(f"The files in deploy/ are NOT tested with {program}: it isn't installed")
    if reason := asyncapi_documents.why_no_parser():
        lines.append(f"Documents are NOT read by AsyncAPI's own parser: {reason}")
    return lines


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Callable[..., None]) -> object:
    return side_by_side.make_scheduler(config, log, MODES)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        side_by_side.sort(items, MODES)


class ServerPool:
    """Starts each mode when it is first asked for; they run until the session ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, Server] = {}

    def get(self, mode: str) -> Server:
        if mode not in self._running:
            command, env = MODES[mode]
            port = servers.free_port()
            server = Server(command(port), port, self._folder / f"{mode}.log", env)
            self._running[mode] = server
            server.wait_ready()
        return self._running[mode]

    def stop(self) -> None:
        for server in self._running.values():
            server.stop()


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerPool]:
    made = ServerPool(tmp_path_factory.mktemp("servers"))
    yield made
    made.stop()


@pytest.fixture(params=MODES)
def server(request: pytest.FixtureRequest, pool: ServerPool) -> Server:
    """Each engine on each of its servers in turn."""
    return pool.get(request.param)


@pytest.fixture(params=UWSGI_MODES)
def uwsgi_server(request: pytest.FixtureRequest, pool: ServerPool) -> Server:
    """uWSGI with each engine, with and without its router."""
    return pool.get(request.param)


@pytest.fixture
def key() -> str:
    """A name for a test's connection, to find it in the application's journal."""
    return uuid4().hex


@pytest.fixture(scope="session", autouse=True)
def libuv() -> None:
    """The first of its loops opens a pipe for signals that the process keeps."""
    uvloop.new_event_loop().close()


@pytest.fixture(autouse=True)
def leak_detector() -> Iterator[None]:
    """No test leaves a thread, a descriptor or a Flask context behind in this process."""
    threads = set(threading.enumerate())
    descriptors = len(os.listdir("/proc/self/fd"))
    yield
    poll(lambda: set(threading.enumerate()) <= threads)
    assert _cv_app.get(None) is None
    assert _cv_request.get(None) is None
    poll(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)
