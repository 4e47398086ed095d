"""Signals, metrics, traces and logs of real connections, on every engine."""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support import servers
from support.endings import end
from support.engines import ON_UWSGI
from support.pages import ROOT, blocks
from support.servers import Server, poll
from support.snippets import run
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

APP = "watched:app"


@pytest.fixture(scope="module", params=ON_UWSGI)
def server(request, tmp_path_factory) -> Iterator[Server]:
    options, env = ON_UWSGI[request.param]
    log = tmp_path_factory.mktemp("watched") / "log"
    with servers.running(servers.uwsgi(APP, *options), log, env) as made:
        yield made


def read(server: Server, path: str) -> list:
    return json.loads(server.get(path))


def metrics(server: Server) -> dict[str, float]:
    """What Prometheus would read."""
    page = server.get("/metrics")
    pairs = re.findall(r"^(wsviews_[^ ]+) ([0-9.e+-]+)$", page, re.MULTILINE)
    return {name: float(value) for name, value in pairs}


def total(server: Server, name: str, **labels: str) -> float:
    pairs = ",".join(f'{key}="{labels[key]}"' for key in sorted(labels))
    return metrics(server).get(f"{name}{{{pairs}}}", 0.0)


def test_signals(server):
    begin = len(read(server, "/journal"))

    def entries() -> list:
        return read(server, "/journal")[begin:]

    with connect(server.ws("/chat/bob")) as ws:
        ws.send("hello")
        assert ws.recv(timeout=10) == "HELLO"
        server.get("/broadcast/room/for%20all")
        assert ws.recv(timeout=10) == "for all"
        ws.send("break the receiver")
        assert ws.recv(timeout=10) == "BREAK THE RECEIVER"
        ws.close(4000)
    poll(lambda: entries()[-1][0] == "websocket_disconnected")
    here = {"endpoint": "chat.Chat", "connected": True}
    assert entries() == [
        ["websocket_connected", here],
        ["message_received", {"message": "hello", **here}],
        ["message_sent", {"message": "HELLO", **here}],
        ["message_received", {"message": "break the receiver", **here}],
        ["message_sent", {"message": "BREAK THE RECEIVER", **here}],
        [
            "websocket_disconnected",
            {"endpoint": "chat.Chat", "connected": False, "code": 4000, "messages": 2},
        ],
    ]
    assert "a receiver that is broken" in server.log


def test_signals_of_a_function_and_of_a_refusal(server):
    begin = len(read(server, "/journal"))
    with connect(server.ws("/echo")) as ws:
        ws.send("text")
        assert ws.recv(timeout=10) == "text"
    for path, status in (("/chat/nobody", 401), ("/nowhere", 404)):
        with pytest.raises(InvalidStatus) as refused, connect(server.ws(path)):
            pass
        assert refused.value.response.status_code == status
    poll(lambda: len(read(server, "/journal")) == begin + 6)
    told = read(server, "/journal")[begin:]
    names = [name for name, _ in told]
    assert sorted(names) == sorted(
        ["websocket_connected", "message_received", "message_sent", "websocket_disconnected"]
        + ["handshake_rejected"] * 2
    )
    statuses = [arguments["status"] for name, arguments in told if name == "handshake_rejected"]
    assert statuses == [401, 404]


def test_metrics(server):
    before = metrics(server)

    def grown(name: str, **labels: str) -> float:
        pairs = ",".join(f'{key}="{labels[key]}"' for key in sorted(labels))
        key = f"{name}{{{pairs}}}"
        return metrics(server).get(key, 0.0) - before.get(key, 0.0)

    chat = {"endpoint": "chat.Chat"}
    with connect(server.ws("/chat/bob"), compression=None) as ws:
        poll(lambda: grown("wsviews_connections", **chat) == 1)
        for _ in range(3):
            ws.send("hello")
            ws.recv(timeout=10)
        # Before the end of the connection, too.
        assert grown("wsviews_messages_total", **chat, direction="in") == 3
        assert grown("wsviews_messages_total", **chat, direction="out") == 3
        ws.send("fail")
        assert end(ws) == 1011
    with pytest.raises(InvalidStatus), connect(server.ws("/chat/nobody")):
        pass
    poll(lambda: grown("wsviews_connections", **chat) == 0)
    assert grown("wsviews_connections_opened_total", **chat) == 1
    assert grown("wsviews_connections_closed_total", **chat, code="1011") == 1
    assert grown("wsviews_handshakes_total", status="101") == 1
    assert grown("wsviews_handshakes_total", status="401") == 1
    assert grown("wsviews_messages_total", **chat, direction="in") == 4
    # Three messages of 5 bytes and one of 4, with 6 bytes of a masked frame's header each.
    assert grown("wsviews_bytes_total", **chat, direction="in") >= 3 * 11 + 10
    assert grown("wsviews_bytes_total", **chat, direction="out") == 3 * 7 + 4
    assert grown("wsviews_errors_total", **chat) == 1
    assert grown("wsviews_hook_seconds_count", **chat, hook="on_message") == 4
    for hook in ("join", "on_connect", "on_close"):
        assert grown("wsviews_hook_seconds_count", **chat, hook=hook) == 1
    assert metrics(server)["wsviews_broker_up"] == 1


def test_traces(server):
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    with connect(server.ws("/chat/bob"), additional_headers=headers) as ws:
        ws.send("hello")
        ws.recv(timeout=10)
        ws.send("fail")
        assert end(ws) == 1011

    def own() -> list:
        return [span for span in read(server, "/spans") if span["trace"] == trace]

    poll(lambda: any(span["name"] == "WS chat.Chat" for span in own()))
    connection = next(span for span in own() if span["name"] == "WS chat.Chat")
    hooks = [span for span in own() if span is not connection and span["name"] != "WS chat.Chat"]
    assert connection["parent"] == int("b7ad6b7169203331", 16)
    assert connection["attributes"]["wsviews.close_code"] == 1011
    assert connection["attributes"]["wsviews.messages_received"] == 2
    assert [span["name"] for span in hooks] == [
        "chat.Chat join",
        "chat.Chat on_connect",
        "chat.Chat on_message",
        "chat.Chat on_message",
        "chat.Chat on_close",
    ]
    assert {span["parent"] for span in hooks} == {connection["span"]}
    assert [span["status"] for span in hooks] == ["UNSET", "UNSET", "UNSET", "ERROR", "UNSET"]
    assert hooks[3]["events"] == ["exception"]


def test_the_log_has_a_line_of_each_connection(server):
    begin = server.log.count("endpoint=")
    with connect(server.ws("/chat/bob?token=secret"), compression=None) as ws:
        ws.send("confidential")
        ws.recv(timeout=10)
        ws.close(4001, "done\nwith it")
    poll(lambda: server.log.count("endpoint=") > begin)
    line = next(line for line in reversed(server.log.splitlines()) if "endpoint=" in line)
    assert "endpoint='chat.Chat' path='/chat/bob' remote_addr='127.0.0.1' id=" in line
    assert "messages_received=1 bytes_received=" in line
    assert r"close_code=4001 close_reason='done\nwith it'" in line
    assert "confidential" not in line.lower()
    assert "secret" not in line


@pytest.mark.parametrize("engine", ON_UWSGI)
def test_metrics_of_several_workers(engine, tmp_path: Path):
    options, env = ON_UWSGI[engine]
    folder = tmp_path / "metrics"
    folder.mkdir()
    env = {**env, "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    command = servers.uwsgi(APP, "--processes", "3", *options)
    with servers.running(command, tmp_path / "log", env) as server, ExitStack() as stack:
        clients = [stack.enter_context(connect(server.ws("/chat/bob"))) for _ in range(12)]
        for ws in clients:
            ws.send("hello")
            assert ws.recv(timeout=10) == "HELLO"
        chat = {"endpoint": "chat.Chat"}
        into = {**chat, "direction": "in"}
        poll(lambda: total(server, "wsviews_messages_total", **into) == 12)
        poll(lambda: total(server, "wsviews_connections", **chat) == 12)
        # One that is killed can't say that its connections are gone.
        victim = int(server.get("/"))
        gone = 0
        server.kill_worker(victim)
        for ws in list(clients):
            try:
                ws.send("still there")
                ws.recv(timeout=10)
            except ConnectionClosed:
                gone += 1
                clients.remove(ws)
        poll(lambda: total(server, "wsviews_connections", **chat) == 12 - gone)
        assert total(server, "wsviews_connections_opened_total", **chat) == 12
        # What workers counted that have been replaced stays.
        os.kill(server.process.pid, signal.SIGHUP)
        assert {end(ws) for ws in clients} <= {1012}
        poll(lambda: total(server, "wsviews_connections", **chat) == 0, 20)
        replaced = total(server, "wsviews_connections_closed_total", **chat, code="1012")
        assert replaced == 12 - gone
        assert total(server, "wsviews_messages_total", **into) == 12 + len(clients)


def test_the_page_says_what_it_is(server):
    with urllib.request.urlopen(server.http("/metrics")) as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=")


def test_the_page_of_the_docs(tmp_path: Path):
    page = ROOT / "docs" / "observe.md"
    with run("\n".join(reversed(blocks(page))), tmp_path) as server:
        with connect(server.ws("/echo")) as ws:
            ws.send("hello")
            assert ws.recv(timeout=10) == "hello"
        with pytest.raises(InvalidStatus), connect(server.ws("/nowhere")):
            pass
        poll(lambda: "echo 1000 after 0." in server.log)
        poll(lambda: "/nowhere was refused with 404" in server.log)
        poll(lambda: "INFO:flask_wsviews.connections:endpoint='echo'" in server.log)
        shown = server.get("/metrics")
    known = set(re.findall(r"^# TYPE (wsviews_\w+) ", shown, re.MULTILINE))
    described = set(re.findall(r"`(wsviews_\w+)`", page.read_text()))
    assert described <= known
    drawn = set(re.findall(r"wsviews_\w+", (page.parent / "grafana-dashboard.json").read_text()))
    assert {name.removesuffix("_bucket") for name in drawn} == described


def test_the_configuration_of_the_docs(tmp_path: Path):
    [text] = blocks(ROOT / "docs" / "observe.md", "ini")
    ini = tmp_path / "metrics.ini"
    ini.write_text(text.replace("/run/chat", str(tmp_path)))
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "gauge_livesum_1.db").write_text("not a metric at all")
    options, env = ON_UWSGI["threads"]
    command = servers.uwsgi(APP, "--processes", "2", *options, "--ini", str(ini))
    with servers.running(command, tmp_path / "log", env) as server:
        with connect(server.ws("/echo")) as ws:
            ws.send("hello")
            assert ws.recv(timeout=10) == "hello"
        ended = {"endpoint": "echo", "code": "1000"}
        poll(lambda: total(server, "wsviews_connections_closed_total", **ended) == 1)
