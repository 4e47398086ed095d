"""``flask ws doctor`` and ``flask ws routes``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask
from marshmallow import Schema, fields
from support import servers
from support.redis_server import redis_server
from support.servers import free_port

import flask_wsviews.protocol.connection
from flask_wsviews import Blueprint, WebSocket, WebSocketView, message
from flask_wsviews.commands.doctor import handshake
from flask_wsviews.commands.doctor.handshake import _verdict
from flask_wsviews.engines import REGISTRY


def doctor(url: str) -> Result:
    app = Flask(__name__)
    app.config.update(WSVIEWS_BROKER_URL=url, WSVIEWS_BROKER_TIMEOUT=1.0)
    WebSocket(app)
    return app.test_cli_runner().invoke(args=["ws", "doctor"])


def test_groups_in_memory() -> None:
    result = doctor("memory://")
    assert result.exit_code == 0
    assert "memory://: groups are in the memory of a single worker" in result.output


def test_compiled_or_not() -> None:
    compiled = flask_wsviews.protocol.connection.__file__.endswith(".so")
    line = "modules  compiled\n" if compiled else "modules  not compiled"
    assert line in doctor("memory://").output


def test_a_broker_that_answers(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--requirepass", "secret") as redis:
        result = doctor(redis.url.replace("//", "//:secret@"))
        assert result.exit_code == 0
        assert f"redis://127.0.0.1:{redis.port}/0 answers" in result.output
        assert "secret" not in result.output
        wrong = doctor(redis.url.replace("//", "//:wrong@"))
        assert wrong.exit_code == 1
        assert "password" in wrong.output


def test_a_broker_that_is_away() -> None:
    result = doctor(f"redis://127.0.0.1:{free_port()}/0")
    assert result.exit_code == 1
    assert "is WSVIEWS_BROKER_URL right?" in result.output


class Say(Schema):
    """Something that is said."""

    text = fields.Str()


def test_routes() -> None:
    app = Flask(__name__)
    app.get("/page")(lambda: "no WebSocket")
    websocket = WebSocket(app)
    bp = Blueprint("chat", __name__, url_prefix="/chat")

    @bp.websocket("/<room>")
    class Chat(WebSocketView):
        groups = ("lobby", "room:{room}")
        allowed_origins = ("https://b.example", "https://a.example")

        @message("say", schema=Say)
        def say(self, ws, data):
            """Does nothing."""

    @websocket.route("/echo", allowed_origins="*", message_schema=Say)
    def echo(ws):
        """Does nothing."""

    app.register_blueprint(bp)
    result = app.test_cli_runner().invoke(args=["ws", "routes"])
    assert result.exit_code == 0
    lines = [line.split("  ") for line in result.output.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert cells[0] == ["Rule", "Endpoint", "View", "Messages", "Groups", "Origins"]
    assert cells[2:4] == [
        [
            *("/chat/<room>", "chat.Chat", "Chat", "say", "lobby, room:{room}"),
            "https://a.example, https://b.example",
        ],
        ["/echo", "echo", "echo", "by schema", "-", "*"],
    ]
    assert cells[-1] == ["engine: blocking"]


def test_there_are_no_routes() -> None:
    app = Flask(__name__)
    WebSocket(app)
    result = app.test_cli_runner().invoke(args=["ws", "routes"])
    assert result.output == "There are no WebSocket rules.\n"


INI = """
[uwsgi]
master = true
http = :8080
http-websockets = true
http-buffer-size = 65536
buffer-size = 32768
"""


def examined(ini: str, folder: Path, engine: str = "blocking", **config: object) -> list[str]:
    """What the doctor finds in a configuration; its remedies come with an arrow."""
    path = folder / "uwsgi.ini"
    path.write_text(ini)
    app = Flask(__name__)
    app.config.update(config)
    WebSocket(app, engine=engine)
    result = app.test_cli_runner().invoke(args=["ws", "doctor", "--ini", str(path)])
    begin = result.output.index("uwsgi.ini")
    found = [line.removeprefix("uwsgi.ini").strip() for line in result.output[begin:].splitlines()]
    assert result.exit_code == (1 if any(line.startswith("-> ") for line in found) else 0)
    return found


OTHER_FRONT = "http-socket = 127.0.0.1:8000 behind a proxy, or http = with http-websockets = true"

GOOD = {
    "blocking": "threads = 8\n",
    "gevent": "gevent = 100\n",
    "asyncio": "enable-threads = true\n",
}


@pytest.mark.parametrize("engine", GOOD)
def test_a_good_configuration(engine: str, tmp_path: Path) -> None:
    assert examined(INI + GOOD[engine], tmp_path, engine) == [f"fits the {engine} engine"]


@pytest.mark.parametrize(
    ("engine", "ini", "remedy"),
    [
        ("blocking", INI, "threads = 8"),
        ("blocking", INI + "gevent = 10\nthreads = 8\n", "threads = 8"),
        ("gevent", INI, "gevent = 100"),
        ("asyncio", INI, "enable-threads = true"),
        ("asyncio", INI + "enable-threads = false\n", "enable-threads = true"),
        ("blocking", INI.replace("master", ";master") + GOOD["blocking"], "master = true"),
        (
            "gevent",
            INI.replace("http-websockets", "#http-websockets") + GOOD["gevent"],
            "http-websockets = true",
        ),
        ("gevent", INI.replace("65536", "4096") + GOOD["gevent"], "http-buffer-size = 65536"),
        (
            "gevent",
            INI + GOOD["gevent"] + "http-timeout = 20\n",
            "WSVIEWS_PING_INTERVAL = 10",
        ),
        (
            "gevent",
            INI + GOOD["gevent"] + "processes = 4\n",
            'WSVIEWS_BROKER_URL = "redis://localhost/0", if there are groups',
        ),
        ("blocking", INI.replace("32768", "4096") + GOOD["blocking"], "buffer-size = 32768"),
        ("blocking", INI.replace("buffer-size = 32768", "") + "threads=2", "buffer-size = 32768"),
        ("gevent", INI + GOOD["gevent"] + "idle = 60\n", "Remove idle."),
        *(
            ("blocking", f"{INI}threads = 2\n{name} = :80\n", OTHER_FRONT)
            for name in ("http11-socket", "fastcgi-socket", "puwsgi-socket")
        ),
        (
            "blocking",
            "[uwsgi]\nmaster = 1\nthreads = 2\nhttps-socket = :443,a.pem,b.pem\n",
            "https = with http-websockets = true, or a proxy in front of an http-socket",
        ),
        (
            "gevent",
            "[uwsgi]\nmaster = 1\ngevent = 2\nsocket = :8000\nprotocol = fastcgi\n",
            OTHER_FRONT,
        ),
    ],
)
def test_a_configuration_with_a_fault(engine: str, ini: str, remedy: str, tmp_path: Path) -> None:
    assert f"-> {remedy}" in examined(ini, tmp_path, engine)


def test_other_faults_of_a_configuration(tmp_path: Path) -> None:
    found = examined(INI + GOOD["gevent"], tmp_path, "gevent", WSVIEWS_MONKEY_PATCH=False)
    assert "-> gevent-early-monkey-patch = true, or WSVIEWS_MONKEY_PATCH = True" in found
    found = examined(INI + GOOD["gevent"], tmp_path, "gevent", WSVIEWS_PING_INTERVAL=None)
    assert any("there are no Pings" in line for line in found)
    assert any("can't be read" in line for line in examined("gevent = 100\n", tmp_path))
    assert any("can't be read" in line for line in examined("[other]\n", tmp_path))


def test_the_uwsgi_of_this_environment() -> None:
    output = doctor("memory://").output
    assert re.search(r"^uWSGI +2\.\d+\.\d+ at /", output, re.MULTILINE)


@pytest.mark.parametrize(
    ("script", "remedy"),
    [
        (None, "isn't installed"),
        ("#!/bin/sh\necho ' --http-websockets  --threads'\n", "lacks --wsgi, --threads"),
        ("no program at all", "can't be run"),
    ],
)
def test_a_uwsgi_that_will_not_do(
    script: str | None, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = tmp_path / "uwsgi"
    if script is not None:
        binary.write_text(script)
        binary.chmod(0o755)
    monkeypatch.setenv("FLASK_UWSGI_BINARY", str(binary))
    result = doctor("memory://")
    assert result.exit_code == 1
    assert remedy in result.output or "isn't a program" in result.output


def test_an_engine_from_outside_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(REGISTRY, "toy", ("support.toys", "ToyEngine"))
    assert examined(INI + "threads = 8\n", tmp_path, "toy") == ["fits the toy engine"]
    assert "-> threads = 8" in examined(INI, tmp_path, "toy")


def try_handshake(url: str, *options: str) -> Result:
    app = Flask(__name__)
    WebSocket(app)
    return app.test_cli_runner().invoke(args=["ws", "doctor", "--url", url, *options])


def test_a_handshake_with_a_server(tmp_path: Path) -> None:
    command = servers.uwsgi("contract:app", "--threads", "4", "--buffer-size", "32768")
    settings = {"ENGINE": "WebSocket"}
    with servers.running(command, tmp_path / "log", settings) as server:
        accepted = try_handshake(server.ws("/echo?key=1"))
        assert (accepted.exit_code, "is accepted from http://127" in accepted.output) == (0, True)
        assert "a Ping is answered" in accepted.output
        missing = try_handshake(server.ws("/nowhere"))
        assert missing.exit_code == 1
        assert "flask ws routes lists the WebSockets" in missing.output
        # A view that wants a login is right.
        assert try_handshake(server.ws("/members-only")).exit_code == 0
        # As behind a proxy that passes the name of another host on.
        foreign = try_handshake(server.ws("/echo").replace("127.0.0.1", "localhost"))
        assert foreign.exit_code == 0
        other = try_handshake(server.ws("/echo"), "--header", "Origin: http://elsewhere.example")
        assert other.exit_code == 1
        assert "WSVIEWS_ALLOWED_ORIGINS" in other.output


@pytest.mark.parametrize("engine", ["WebSocket", "GeventWebSocket", "AsyncioWebSocket"])
def test_a_router_that_passes_no_frames(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The router never answers the Ping.
    monkeypatch.setattr(handshake, "SECONDS", 3)
    loop = ["--gevent", "4"] if engine == "GeventWebSocket" else ["--threads", "4"]

    def command(port: int) -> list[str]:
        [binary, _, *rest] = servers.uwsgi("contract:app", *loop, "--buffer-size", "32768")(port)
        return [binary, "--http", *rest]

    with servers.running(command, tmp_path / "log", {"ENGINE": engine}) as server:
        silent = try_handshake(server.ws("/echo"))
    assert silent.exit_code == 1
    assert "http-websockets = true" in silent.output


@pytest.mark.parametrize("router", [False, True], ids=["direct", "router"])
def test_a_buffer_that_is_too_small(router: bool, tmp_path: Path) -> None:
    command = servers.uwsgi("contract:app", "--threads", "4", router=router)
    with servers.running(command, tmp_path / "log", {"ENGINE": "WebSocket"}) as server:
        small = try_handshake(server.ws("/echo"))
    assert small.exit_code == 1
    assert "a Ping is answered" in small.output
    assert "a cookie of 5 KB" in small.output
    assert "buffer-size = 32768" in small.output


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--header", "no colon"], "isn't a header"),
        (["--header", "A: b\r\nC: d"], "isn't a header"),
        (["--cookie", "a=b\r\nC: d"], "isn't a cookie"),
        (["--cookie", "no equals sign"], "isn't a cookie"),
    ],
)
def test_headers_that_are_wrong(options: list[str], text: str) -> None:
    result = try_handshake("ws://127.0.0.1:1/", *options)
    assert result.exit_code == 2
    assert text in result.output


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("localhost:5000/chat", "isn't the URL of a WebSocket"),
        ("ws:///chat", "isn't the URL of a WebSocket"),
        ("ws://127.0.0.1:{port}/chat", "no answer: [Errno 111] Connection refused"),
    ],
)
def test_a_handshake_with_nobody(url: str, text: str) -> None:
    result = try_handshake(url.format(port=free_port()))
    assert result.exit_code == 1
    assert text in result.output


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (403, "ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1)"),
        (426, "proxy_set_header Upgrade"),
        (500, "See the server's log"),
    ],
)
def test_what_a_status_tells(status: int, remedy: str) -> None:
    finding = _verdict("wss://example.org/chat", "https://example.org", status)
    assert remedy in str(finding.remedy)
