"""Fixtures: one server per mode, shared by all tests, and a leak detector."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import uvloop
from conformance import autobahn
from flask.globals import _cv_app, _cv_request
from support import asyncapi_documents, browser, children, servers, side_by_side, uwsgi_asyncio
from support.engines import MODES, UWSGI_MODES
from support.leaks import Leaks
from support.servers import Server

# Before the first test, because its pipe stays open.
children.begin()


def pytest_report_header() -> list[str]:
    lines = []
    if reason := uwsgi_asyncio.why_not():
        lines.append(f"uWSGI's own asyncio loop is NOT tested, because it needs a build: {reason}")
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
    """Starts the server of each mode on first use, and stops all at the end of the session."""

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
            server.begin_stop()
        for server in self._running.values():
            server.stop()


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerPool]:
    made = ServerPool(tmp_path_factory.mktemp("servers"))
    yield made
    made.stop()


@pytest.fixture(params=MODES)
def server(request: pytest.FixtureRequest, pool: ServerPool) -> Server:
    """Return the server of each mode in turn."""
    return pool.get(request.param)


@pytest.fixture(params=UWSGI_MODES)
def uwsgi_server(request: pytest.FixtureRequest, pool: ServerPool) -> Server:
    """Return uWSGI with each engine in turn, with and without its router."""
    return pool.get(request.param)


@pytest.fixture
def key() -> str:
    """Return a unique key for a connection in the application's journal."""
    return uuid4().hex


@pytest.fixture(scope="session", autouse=True)
def libuv() -> None:
    """Make a loop before the first test: the first one opens a pipe for good."""
    uvloop.new_event_loop().close()


@pytest.fixture(autouse=True)
def leak_detector() -> Iterator[None]:
    """Fail a test that leaves a thread, a descriptor or a Flask context behind in this process."""
    leaks = Leaks()
    yield
    leaks.check()
    assert _cv_app.get(None) is None
    assert _cv_request.get(None) is None
