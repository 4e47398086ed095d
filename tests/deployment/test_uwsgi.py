"""What is particular to uWSGI: hand-off, leaks, sharedareas, and a start that fails clearly."""

from __future__ import annotations

import contextlib
import json
import os
import re
import ssl
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme
from support import servers
from support.engines import ASYNCIO, BLOCKING, GEVENT, OWN_ASYNCIO
from support.raw import RawClient, close_frame
from support.servers import BIN, poll
from websockets.frames import Opcode
from websockets.sync.client import connect

from flask_wsviews.config import Settings
from flask_wsviews.engines.blocking import SPARE_THREADS

HAS_TLS = b"--https-socket" in subprocess.run([BIN / "uwsgi", "--help"], capture_output=True).stdout


@pytest.mark.parametrize(
    "mode",
    [
        "uwsgi-gevent",
        "uwsgi-gevent-router",
        "uwsgi-threads",
        "uwsgi-threads-router",
        "uwsgi-asyncio",
        "uwsgi-asyncio-router",
        *OWN_ASYNCIO,
    ],
)
def test_websockets_are_not_bounded_by_the_cores(pool, mode):
    server = pool.get(mode)
    with ExitStack() as stack:
        clients = [stack.enter_context(RawClient(server).open("/views/all/x")) for _ in range(50)]
        assert server.get("/") == "ready"
        for number, client in enumerate(clients):
            assert client.recv_message() == b"hello x"
            client.send(Opcode.TEXT, f"from {number}")
        for number, client in enumerate(clients):
            assert client.recv_message() == f"from {number}".encode()


@pytest.mark.parametrize(
    ("engine", "options"), [(BLOCKING, []), (GEVENT, ["--gevent", "10"]), (ASYNCIO, [])]
)
def test_a_full_worker_refuses_handshakes_and_serves_pages(tmp_path, engine, options):
    env = {**engine, "SETTINGS": '{"WSVIEWS_MAX_CONNECTIONS": 3}'}
    command = servers.uwsgi("contract:app", *options)
    with servers.running(command, tmp_path / "log", env) as server, ExitStack() as stack:
        clients = [stack.enter_context(RawClient(server).open("/echo")) for _ in range(3)]
        with RawClient(server) as late:
            assert late.request("/echo")[0] == 503
            assert b"no room for another WebSocket" in late.body()
        assert server.get("/") == "ready"
        clients[0].sock.close()

        def has_room() -> bool:
            with RawClient(server) as next_one:
                return next_one.request("/echo")[0] == 101

        poll(has_room)
        clients[1].send(Opcode.TEXT, "unharmed")
        assert clients[1].recv_message() == b"unharmed"


def test_the_log_and_the_statistics_say_101(uwsgi_server):
    with connect(uwsgi_server.ws("/echo?find-me-in-the-log")):
        pass

    def line() -> str:
        return next((x for x in uwsgi_server.log.splitlines() if "find-me-in-the-log" in x), "")

    assert "HTTP/1.1 101" in poll(line)


@pytest.mark.parametrize("mode", ["uwsgi-gevent", "uwsgi-threads", "uwsgi-asyncio", *OWN_ASYNCIO])
def test_a_thousand_connections_leave_nothing_behind(pool, mode):
    server = pool.get(mode)

    def process() -> dict[str, int]:
        return json.loads(server.get("/process"))

    def connect_some(count: int) -> None:
        for number in range(count):
            client = RawClient(server).open("/views/all/bob")
            client.recv()
            if number % 3 == 0:
                client.reset()
                continue
            if number % 3 == 1:
                client.sock.sendall(close_frame(1000))
                client.recv_close()
            client.sock.close()

    connect_some(20)
    before = poll(lambda: settled(process))
    if "asyncio" in mode:
        # The pool of hook threads grows to its limit when hooks happen to overlap.
        before["threads"] += Settings().threads
    elif mode == "uwsgi-threads":
        # So do those that wait for connections.
        before["threads"] += SPARE_THREADS
    connect_some(1000)

    def is_as_before() -> bool:
        now = process()
        return all(now[name] <= before[name] for name in before if name != "pid")

    poll(is_as_before, 30)
    assert process()["pid"] == before["pid"]


def settled(process) -> dict[str, int] | None:
    """The counts once no view of an earlier connection is left."""
    counts = process()
    return counts if counts["views"] <= 1 else None


@pytest.mark.parametrize("mode", ["uwsgi-gevent", "uwsgi-gevent-router"])
def test_a_view_that_is_idle_has_no_greenlet_but_keeps_its_context_variables(pool, mode):
    server = pool.get(mode)

    def greenlets() -> int:
        return json.loads(server.get("/process"))["greenlets"]

    with ExitStack() as stack:
        before = greenlets()
        clients = [stack.enter_context(connect(server.ws("/variable"))) for _ in range(20)]
        for message, answer in (("one", "connected"), ("two", "one"), ("three", "two")):
            # One that handled a message waits for another one for a second or two.
            poll(lambda: greenlets() < before + 5)
            for client in clients:
                client.send(message)
            assert [client.recv(timeout=10) for client in clients] == [answer] * 20


def test_a_sharedarea_is_sent(uwsgi_server):
    with connect(uwsgi_server.ws("/sharedarea")) as ws:
        assert ws.recv(timeout=10) == "grüße"
        assert ws.recv(timeout=10) == b"shared"
        assert ws.recv(timeout=10) == b"\0" * 6


@pytest.mark.parametrize(
    ("engine", "options", "complaint"),
    [
        (GEVENT, [], "GeventWebSocket needs uWSGI's gevent loop: add --gevent 100"),
        (BLOCKING, ["--gevent", "10"], "WebSocket would block uWSGI's gevent loop"),
        (ASYNCIO, ["--gevent", "10"], "AsyncioWebSocket can't run in uWSGI's gevent loop"),
        (
            {"ENGINE": "WebSocket", "SETTINGS": '{"WSVIEWS_PING_INTERVAL": "often"}'},
            [],
            "WSVIEWS_PING_INTERVAL must be a number of seconds",
        ),
        (
            {"ENGINE": "WebSocket", "SETTINGS": '{"WSVIEWS_MAX_MESAGE_SIZE": 1}'},
            [],
            "there is no setting WSVIEWS_MAX_MESAGE_SIZE",
        ),
    ],
)
def test_a_misconfiguration_fails_at_the_start(tmp_path, engine, options, complaint):
    command = servers.uwsgi("contract:app", *options)
    with servers.running(command, tmp_path / "log", engine, ready=None) as server:
        assert server.wait_exit() != 0
        assert complaint in server.log


@pytest.mark.skipif(not HAS_TLS, reason="this uWSGI, pyuwsgi's wheel, is built without TLS")
def test_a_tls_socket_of_uwsgi_itself_is_refused_with_the_way_out(tmp_path):
    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "pem")
    port = servers.free_port()

    def command(other: int) -> list[str]:
        tls = ["--https-socket", f"127.0.0.1:{port},{tmp_path / 'pem'},{tmp_path / 'pem'}"]
        return [*servers.uwsgi("contract:app", *tls)(other)]

    context = ssl.create_default_context()
    authority.configure_trust(context)
    with servers.running(command, tmp_path / "log", BLOCKING) as server:
        with (
            pytest.raises(Exception, match="500"),
            connect(f"wss://localhost:{port}/echo", ssl=context),
        ):
            pass
        assert "--https-socket doesn't share its TLS state" in server.log
        with connect(server.ws("/echo")) as ws:
            ws.send("the other socket works")
            assert ws.recv() == "the other socket works"


def test_behind_a_proxy_the_origin_is_what_the_browser_sees(tmp_path):
    env = {**GEVENT, "PROXY_FIX": "1"}
    command = servers.uwsgi("contract:app", "--gevent", "10")
    with servers.running(command, tmp_path / "log", env) as server:
        forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "chat.example"}
        for origin, status in [("https://chat.example", 101), ("http://chat.example", 403)]:
            with RawClient(server) as client:
                assert client.request("/echo", {**forwarded, "Origin": origin})[0] == status


def test_app_run_starts_uwsgi_with_debugger_and_reloader(tmp_path):
    app = tmp_path / "live.py"
    source = (
        "from flask import Flask\n"
        "from flask_wsviews import GeventWebSocket\n"
        "app = Flask(__name__)\n"
        "websocket = GeventWebSocket(app)\n"
        "@app.get('/')\n"
        "def index():\n"
        "    return 'VERSION'\n"
        "@app.get('/broken')\n"
        "def broken():\n"
        "    raise ValueError('on purpose')\n"
        "@websocket.route('/version')\n"
        "def version(ws):\n"
        "    ws.send('VERSION')\n"
        "if __name__ == '__main__':\n"
        "    import sys\n"
        "    app.run(debug=True, host='127.0.0.1', port=int(sys.argv[1]), gevent=100)\n"
    )
    app.write_text(source.replace("VERSION", "first"))

    def command(port: int) -> list[str]:
        return [sys.executable, str(app), str(port)]

    with servers.running(command, tmp_path / "log") as server:
        servers.poll(lambda: f"Running on {server.http('')} " in server.log)
        with connect(server.ws("/version")) as ws:
            assert ws.recv() == "first"
        page = subprocess.run(
            [sys.executable, "-c", FETCH, server.http("/broken")], capture_output=True, check=True
        ).stdout.decode()
        assert "Werkzeug Debugger" in page
        assert "on purpose" in page
        servers.poll(lambda: "ValueError: on purpose" in server.log)
        app.write_text(source.replace("VERSION", "second one"))
        modified = app.stat().st_mtime

        def is_reloaded() -> bool:
            # uWSGI compares with what it found at its first look, which may still be to come.
            nonlocal modified
            modified += 1
            os.utime(app, (modified, modified))
            with contextlib.suppress(AssertionError):
                return poll(lambda: _answers(server, "second one"), 4)
            return False

        poll(is_reloaded, 20)
        with connect(server.ws("/version")) as ws:
            assert ws.recv() == "second one"


FETCH = """
import sys, urllib.request, urllib.error
try:
    urllib.request.urlopen(sys.argv[1])
except urllib.error.HTTPError as error:
    print(error.read().decode())
"""


def _answers(server: servers.Server, text: str) -> bool:
    try:
        return server.get("/") == text
    except OSError:
        return False


def test_a_missing_uwsgi_is_a_clear_error(tmp_path):
    (tmp_path / "app.py").write_text(
        "from flask import Flask\n"
        "from flask_wsviews import WebSocket\n"
        "app = Flask(__name__)\n"
        "WebSocket(app)\n"
        "app.run()\n"
    )
    env = {**os.environ, "FLASK_UWSGI_BINARY": "/nowhere/uwsgi"}
    ended = subprocess.run(
        [sys.executable, str(tmp_path / "app.py")], env=env, capture_output=True, check=False
    )
    assert ended.returncode != 0
    assert b"FLASK_UWSGI_BINARY is '/nowhere/uwsgi', which isn't a program" in ended.stderr


def test_flask_routes_lists_websocket_rules():
    listed = subprocess.run(
        [str(BIN / "flask"), "--app", "contract", "routes"],
        cwd=servers.APPS,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    assert "views.All" in listed
    assert "/views/all/<name>" in listed


def test_gevents_loop_watches_no_descriptor_that_is_closed(pool):
    server = pool.get("uwsgi-gevent")
    process = Path(f"/proc/{json.loads(server.get('/process'))['pid']}")

    def watched() -> set[str]:
        listing = ""
        for one in process.glob("fdinfo/*"):
            # It may be closed meanwhile.
            with contextlib.suppress(FileNotFoundError):
                listing += one.read_text()
        return set(re.findall(r"^tfd:\s*(\d+)", listing, re.MULTILINE))

    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(RawClient(server).open("/echo"))
        poll(lambda: len(watched()) >= 5)
        poll(lambda: all((process / "fd" / number).is_symlink() for number in watched()))


def test_a_worker_without_descriptors_refuses_and_recovers(tmp_path):
    command = servers.uwsgi("contract:app", "--gevent", "10", "--max-fd", "64")
    with servers.running(command, tmp_path / "log", GEVENT) as server, ExitStack() as stack:
        clients = []
        for _ in range(64):
            client = stack.enter_context(RawClient(server))
            status, _ = client.request("/echo")
            if status != 101:
                break
            clients.append(client)
        assert status == 503
        assert b"no room for another WebSocket" in client.body()
        clients[0].send(Opcode.TEXT, "unharmed")
        assert clients[0].recv_message() == b"unharmed"
        for client in clients[1:10]:
            client.sock.close()

        def has_room() -> bool:
            with RawClient(server) as late:
                return late.request("/echo")[0] == 101

        poll(has_room)


def test_when_no_thread_can_be_started_a_connection_keeps_that_of_its_request(tmp_path):
    # Each thread reserves address space for its stack.
    command = servers.uwsgi("contract:app", "--threads", "2", "--limit-as", "700")
    with servers.running(command, tmp_path / "log", BLOCKING) as server, ExitStack() as stack:
        clients = []
        while "no thread can be started" not in server.log:
            assert len(clients) < 500
            clients.append(stack.enter_context(RawClient(server).open("/echo")))
            clients[-1].send(Opcode.TEXT, "echo")
            assert clients[-1].recv_message() == b"echo"
        assert server.get("/") == "ready"
        for client in clients:
            client.send(Opcode.TEXT, "still there")
            assert client.recv_message() == b"still there"


LATE = """
from flask import Flask
from flask_wsviews import WebSocket

app = Flask(__name__)
app.add_url_rule("/", "ready", lambda: "ready")
websocket = WebSocket(app)


@websocket.route("/lobby", groups=["lobby"])
def lobby(ws):
    ws.send("in the lobby")


app.config.from_prefixed_env()
"""


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "memory://"], ids=["redis", "memory"])
def test_workers_settle_settings_that_were_set_late(tmp_path, url):
    (tmp_path / "late.py").write_text(LATE)
    command = servers.uwsgi("late:app", "--processes", "2", "--threads", "2")
    env = {"FLASK_WSVIEWS_BROKER_URL": url}
    with servers.running(command, tmp_path / "log", env, cwd=tmp_path) as server:
        mistake = "this worker can't serve WebSockets: groups are in the memory of one worker"
        if url == "memory://":
            poll(lambda: server.log.count(mistake) == 2)
        with RawClient(server) as client:
            status, _ = client.request("/lobby")
        assert status == (500 if url == "memory://" else 101)
        assert (mistake in server.log) == (url == "memory://")
