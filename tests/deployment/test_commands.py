"""``flask ws run`` and ``flask ws broadcast``, as they are called."""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import servers
from support.redis_server import RedisServer, redis_server
from support.servers import BIN
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

ASYNCIO = "AsyncioWebSocket"
MODULE = """
import os
from flask import Flask
from marshmallow import Schema, fields
import flask_wsviews
from flask_wsviews import WebSocketView

class Said(Schema):
    text = fields.Str(required=True)

def create_app():
    app = Flask(__name__)
    app.config.from_prefixed_env()
    websocket = getattr(flask_wsviews, os.environ["ENGINE"])(app)

    @app.get("/")
    def index():
        return "ready"

    @websocket.route("/room")
    class Room(WebSocketView):
        groups = ["room"]
        history = 10
        emits = {"said": Said}

        def on_connect(self, ws):
            ws.send("joined")

    return app
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One with a factory in factory.py and an application in plain.py."""
    (tmp_path / "factory.py").write_text(MODULE)
    (tmp_path / "plain.py").write_text("from factory import create_app\napp = create_app()\n")
    return tmp_path


def flask(
    folder: Path, *arguments: str, app: str = "plain", engine: str = "WebSocket", **more: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / "flask"), "--app", app, "ws", *arguments],
        cwd=folder,
        env={**os.environ, "ENGINE": engine, **more},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("app", ["plain", "plain:app", "plain.py", "factory:create_app()"])
@pytest.mark.parametrize("engine", ["GeventWebSocket", "WebSocket", ASYNCIO])
def test_run_serves_an_application(folder: Path, app: str, engine: str):
    def command(port: int) -> list[str]:
        return [str(BIN / "flask"), "--app", app, "ws", "run", "-p", str(port), "-h", "127.0.0.1"]

    with (
        servers.running(command, folder / "log", {"ENGINE": engine}, cwd=folder) as server,
        connect(server.ws("/room")) as ws,
    ):
        assert ws.recv(timeout=10) == "joined"
        # That is all, though uWSGI has more to say.
        servers.poll(lambda: server.log)
        url = f"http://127.0.0.1:{server.port}"
        assert server.log == f"Running on {url} (Ctrl-C stops it)\n"


@pytest.mark.parametrize("engine", ["GeventWebSocket", "WebSocket", ASYNCIO])
def test_run_is_told_what_the_engine_needs(folder: Path, engine: str):
    command = flask(folder, "run", "--dry-run", engine=engine).stdout
    assert ("--gevent 100" in command) == (engine == "GeventWebSocket")
    assert ("--threads 8" in command) == (engine != "GeventWebSocket")


BROKEN = {
    "port taken": ("plain", (), "Address already in use"),
    "import error": ("plain", ("--wsgi", "nope:app"), "No module named 'nope'"),
    "no such option": ("plain", ("--", "--nonsense"), "unrecognized option '--nonsense'"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_run_shows_why_it_failed(folder: Path, case: str):
    app, arguments, text = BROKEN[case]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1] if case == "port taken" else servers.free_port()
        # It ends when the last process that may write has closed the pipe.
        done = flask(folder, "run", "-h", "127.0.0.1", "-p", str(port), *arguments, app=app)
    assert done.returncode != 0
    assert text in done.stderr
    assert "Running on" not in done.stderr


def test_a_verbose_run_shows_all(folder: Path):
    def command(port: int) -> list[str]:
        start = [str(BIN / "flask"), "--app", "plain", "ws", "run", "--verbose"]
        return [*start, "-p", str(port), "-h", "127.0.0.1"]

    with servers.running(command, folder / "log", {"ENGINE": "WebSocket"}, cwd=folder) as server:
        # The command, to be copied.
        assert "Running: " in server.log
        assert "Running on http://127.0.0.1" in server.log
        assert "*** Starting uWSGI" in server.log
        servers.poll(lambda: "GET / => generated" in server.log)


def test_what_goes_wrong_while_it_runs_is_shown(folder: Path):
    (folder / "failing.py").write_text(
        "from factory import create_app\nimport os, signal\napp = create_app()\n"
        "@app.get('/fail')\ndef fail(): 1 / 0\n"
        "@app.get('/die')\ndef die(): os.kill(os.getpid(), signal.SIGABRT)\n"
    )

    def command(port: int) -> list[str]:
        start = [str(BIN / "flask"), "--app", "failing", "ws", "run"]
        return [*start, "-p", str(port), "-h", "127.0.0.1"]

    server = servers.Server(
        command(port := servers.free_port()), port, folder / "log", {"ENGINE": "WebSocket"}, folder
    )
    try:
        server.wait_ready()
        for path in ("/fail", "/die"):
            with contextlib.suppress(OSError):
                server.get(path)
        servers.poll(lambda: "ZeroDivisionError" in server.log)
        servers.poll(lambda: "DAMN ! worker 1" in server.log)
    finally:
        with contextlib.suppress(AssertionError):  # its log has a crash, which was asked for
            server.stop()


def test_run_shows_its_command(folder: Path):
    arguments = ["--processes", "2", "--concurrency", "7", "--reload", "--dry-run"]
    shown = flask(folder, "run", *arguments, "--", "--http-socket", ":8080", "--stats=:1717")
    assert shown.returncode == 0
    command = shlex.split(shown.stdout)
    assert command[0].endswith("uwsgi")
    pairs = dict(itertools.pairwise(command))
    assert (pairs["--processes"], pairs["--threads"]) == ("2", "7")
    assert pairs["--python-autoreload"] == "1"
    assert pairs["--wsgi"] == "plain:app"
    assert command[-3:] == ["--http-socket", ":8080", "--stats=:1717"]
    # There is a socket already, and needs no router.
    assert "--http" not in command


def test_run_of_a_factory_that_takes_no_call(folder: Path):
    # Flask finds it by its name; uWSGI has to be told.
    refused = flask(folder, "run", "--dry-run", app="factory")
    assert refused.returncode == 1
    assert "module:factory()" in refused.stderr
    shown = flask(folder, "run", "--dry-run", "--wsgi", "factory:create_app()", app="factory")
    assert "--wsgi 'factory:create_app()'" in shown.stdout


@pytest.mark.parametrize("arguments", [["--port", "0"], ["--processes", "none"], ["--nonsense"]])
def test_run_with_wrong_options(folder: Path, arguments: list[str]):
    assert flask(folder, "run", *arguments).returncode == 2


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as made:
        yield made


def test_a_broadcast_reaches_members(folder: Path, redis: RedisServer):
    broker = {"FLASK_WSVIEWS_BROKER_URL": redis.url, "ENGINE": "GeventWebSocket"}
    command = servers.uwsgi("plain:app", "--gevent", "10", "--processes", "2")

    def broadcast(*arguments: str) -> str:
        done = flask(
            folder,
            *("broadcast", *arguments),
            engine="GeventWebSocket",
            FLASK_WSVIEWS_BROKER_URL=redis.url,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    with (
        servers.running(command, folder / "log", broker, cwd=folder) as server,
        connect(server.ws("/room")) as ws,
    ):
        assert ws.recv(timeout=10) == "joined"
        message_id = broadcast("room", "hello").removeprefix("sent as ").strip()
        assert message_id
        assert ws.recv(timeout=10) == "hello"
        broadcast("room", '{"text": "typed"}', "--type", "said")
        assert '"text": "typed"' in str(ws.recv(timeout=10)).replace('":"', '": "')
        assert broadcast("another", "nobody hears").strip() == "sent"


def test_a_disconnect_closes_members(folder: Path, redis: RedisServer):
    broker = {"FLASK_WSVIEWS_BROKER_URL": redis.url, "ENGINE": "GeventWebSocket"}
    command = servers.uwsgi("plain:app", "--gevent", "10", "--processes", "2")

    def run(*arguments: str) -> tuple[int, str]:
        done = flask(
            folder, *arguments, engine="GeventWebSocket", FLASK_WSVIEWS_BROKER_URL=redis.url
        )
        return done.returncode, done.stdout + done.stderr

    with (
        servers.running(command, folder / "log", broker, cwd=folder) as server,
        connect(server.ws("/room")) as ws,
    ):
        assert ws.recv(timeout=10) == "joined"
        assert run("broadcast", "room", "live", "--no-keep") == (0, "sent\n")
        assert ws.recv(timeout=10) == "live"
        arguments = ("disconnect", "room", "--code", "4001", "--reason", "bye")
        assert run(*arguments) == (0, "sent\n")
        with pytest.raises(ConnectionClosed) as caught:
            ws.recv(timeout=10)
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4001, "bye")
    for wrong, code in (
        ((), 2),
        (("room", "--connection", "x"), 2),
        (("--connection", "x"), 1),
        (("room", "--code", "1005"), 2),
        (("room", "--reason", "x" * 124), 2),
        (("a{brace}",), 1),
    ):
        assert run("disconnect", *wrong)[0] == code, wrong


def test_what_a_broadcast_refuses(folder: Path, redis: RedisServer):
    def refused(*arguments: str, url: str = redis.url) -> tuple[int, str]:
        done = flask(folder, "broadcast", *arguments, FLASK_WSVIEWS_BROKER_URL=url)
        assert not done.stdout
        return done.returncode, done.stderr

    code, text = refused("room", "hello", url="memory://")
    assert code == 1
    assert "WSVIEWS_BROKER_URL" in text
    code, text = refused("a{brace}", "hello")
    assert code == 1
    code, text = refused("room", "no JSON", "--type", "said")
    assert (code, "with --type MESSAGE must be JSON" in text) == (2, True)
    code, text = refused("room", "{}", "--type", "said")
    assert code == 1
    assert "Missing data" in text
    code, text = refused("room", "hello", url=f"redis://127.0.0.1:{servers.free_port()}/0")
    assert code == 1
    assert "nothing was sent" in text
    assert refused("room")[0] == 2


def test_a_message_from_standard_input(folder: Path, redis: RedisServer):
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "plain", "ws", "broadcast", "room", "-"],
        cwd=folder,
        env={**os.environ, "ENGINE": "WebSocket", "FLASK_WSVIEWS_BROKER_URL": redis.url},
        input="from a pipe",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.startswith("sent as ")
