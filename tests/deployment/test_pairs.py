"""Each engine on each server, in each way of starting: run here, or seen to be refused."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from support import servers
from support.engines import ASYNCIO, BLOCKING, GEVENT, MODES
from support.raw import RawClient
from support.servers import Server, free_port, poll
from websockets.frames import Opcode
from websockets.sync.client import connect

from flask_wsviews.engines import make_engine
from flask_wsviews.engines.places import PLACES, Place, problem

APP = "patched:app"
ENGINES = {"blocking": BLOCKING, "gevent": GEVENT, "asyncio": ASYNCIO}
BEFORE, AFTER = {"PATCH": "before"}, {"PATCH": "after"}
GTHREAD = ("-k", "gthread", "--threads", "8")

Command = Callable[[int], list[str]]

#: Ways of starting besides those of MODES, all of whose tests run there.
WORKS: dict[str, tuple[Command, dict[str, str], Place]] = {
    "gunicorn-gevent-preload-blocking": (
        servers.gunicorn(APP, "-k", "gevent", "--preload"),
        BLOCKING,
        Place("gunicorn", "gevent"),
    ),
    "gunicorn-gevent-preload-gevent": (
        servers.gunicorn(APP, "-k", "gevent", "--preload"),
        {**BLOCKING, "CHOSEN": "auto"},
        Place("gunicorn", "gevent"),
    ),
    "werkzeug-patched-blocking": (
        servers.flask_run(APP),
        {**BLOCKING, **BEFORE},
        Place(patched="gevent"),
    ),
    "werkzeug-patched-gevent": (
        servers.flask_run(APP),
        {**GEVENT, **AFTER},
        Place(patched="gevent"),
    ),
}

#: Cells that tests elsewhere run: MODES, and test_uwsgi_asyncio.py with its build of uWSGI.
RUN_ELSEWHERE = {
    ("uwsgi-threads", Place("uwsgi", "threads"), "blocking"),
    ("uwsgi-asyncio", Place("uwsgi", "threads"), "asyncio"),
    ("uwsgi-gevent", Place("uwsgi", "gevent"), "gevent"),
    ("gunicorn-gthread", Place(), "blocking"),
    ("gunicorn-gthread-gevent", Place(), "gevent"),
    ("gunicorn-gthread-asyncio", Place(), "asyncio"),
    ("gunicorn-gevent", Place("gunicorn", "gevent"), "gevent"),
    ("gunicorn-gevent-blocking", Place("gunicorn", "gevent"), "blocking"),
    ("uwsgi-own-asyncio", Place("uwsgi", "asyncio"), "asyncio"),
}

NO_LOOP = "uWSGI runs no gevent loop"
BLOCKED = "because gevent has patched"

#: What fails to start, and what it says.
REFUSED_AT_START: dict[str, tuple[Command, dict[str, str], str]] = {
    "gunicorn-gevent-asyncio": (servers.gunicorn(APP, "-k", "gevent"), ASYNCIO, BLOCKED),
    "gunicorn-gevent-preload-asyncio": (
        servers.gunicorn(APP, "-k", "gevent", "--preload"),
        ASYNCIO,
        BLOCKED,
    ),
    "gunicorn-sync-patched-asyncio": (servers.gunicorn(APP), {**ASYNCIO, **BEFORE}, BLOCKED),
    "gunicorn-gthread-patched-gevent": (
        servers.gunicorn(APP, *GTHREAD),
        {**GEVENT, **BEFORE},
        "use -k gevent",
    ),
    "gunicorn-gevent_pywsgi-gevent": (
        servers.gunicorn(APP, "-k", "gevent_pywsgi"),
        GEVENT,
        "use -k gthread or -k gevent",
    ),
    "uwsgi-patched-blocking": (
        servers.uwsgi(APP, "--threads", "2"),
        {**BLOCKING, **BEFORE},
        NO_LOOP,
    ),
    "uwsgi-patched-asyncio": (servers.uwsgi(APP), {**ASYNCIO, **BEFORE}, NO_LOOP),
}

#: What starts, serves pages, and answers handshakes with 500.
REFUSED_AT_HANDSHAKE: dict[str, tuple[Command, dict[str, str], str]] = {
    "werkzeug-patched-asyncio": (servers.flask_run(APP), {**ASYNCIO, **BEFORE}, BLOCKED),
    "werkzeug-patched-late-asyncio": (servers.flask_run(APP), {**ASYNCIO, **AFTER}, BLOCKED),
    "uwsgi-patched-late-blocking": (
        servers.uwsgi(APP, "--threads", "2"),
        {**BLOCKING, **AFTER},
        NO_LOOP,
    ),
    "uwsgi-patched-late-asyncio": (servers.uwsgi(APP), {**ASYNCIO, **AFTER}, NO_LOOP),
}


@contextmanager
def running(command: Command, tmp_path: Path, env: dict[str, str]) -> Iterator[Server]:
    """A server that is killed at the end, as how they stop is tested elsewhere."""
    with servers.running(command, tmp_path / "log", env) as server:
        yield server
        server.process.kill()


def echoes(server: Server, path: str = "/echo") -> None:
    """Two connections at once, a message that comes as soon as it can, and a page."""
    with connect(server.ws(path)) as one, connect(server.ws(path)) as two:
        for ws in (one, two):
            ws.send("hello")
            assert ws.recv(timeout=10) == "hello"
        assert server.get("/")


def refuses(server: Server, complaint: str) -> None:
    for _ in range(2):
        with RawClient(server) as client:
            assert client.request("/echo")[0] == 500
        assert server.get("/")
    assert complaint in server.log


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_works(pool, mode):
    echoes(pool.get(mode))


@pytest.mark.parametrize("way", WORKS)
def test_ways_of_starting_that_work(tmp_path, way):
    command, env, _ = WORKS[way]
    with running(command, tmp_path, env) as server:
        echoes(server)
        assert server.get("/") == way.rpartition("-")[2]


@contextmanager
def failing(tmp_path: Path, command: Command, env: dict[str, str]) -> Iterator[str]:
    """The log of a server that doesn't come up."""
    with servers.running(command, tmp_path / "log", env, ready=None) as server:
        assert server.wait_exit() != 0
        yield server.log


@pytest.mark.parametrize("way", REFUSED_AT_START)
def test_refused_at_the_start(tmp_path, way):
    command, env, complaint = REFUSED_AT_START[way]
    with failing(tmp_path, command, env) as log:
        assert complaint in log


@pytest.mark.parametrize("way", REFUSED_AT_HANDSHAKE)
def test_refused_at_the_handshake(tmp_path, way):
    command, env, complaint = REFUSED_AT_HANDSHAKE[way]
    with running(command, tmp_path, env) as server:
        refuses(server, complaint)


def test_each_cell_of_the_table_is_run_or_refused():
    run = {(place, engine) for _, place, engine in RUN_ELSEWHERE}
    run |= {(place, way.rpartition("-")[2]) for way, (_, _, place) in WORKS.items()}
    for place in PLACES:
        for engine in ENGINES:
            refusal = problem(make_engine(engine).refused, place)
            assert ((place, engine) in run) != bool(refusal), (place, engine)
    assert {mode for mode, _, _ in RUN_ELSEWHERE} - {"uwsgi-own-asyncio"} <= MODES.keys()


# -- uWSGI's sockets ----------------------------------------------------------------------------

UNUSABLE = {
    "http11-socket": "takes messages",
    "puwsgi-socket": "takes messages",
    "fastcgi-socket": "FastCGI records",
    "raw-socket": "carries no HTTP",
}


def uwsgi_at(*front: str) -> list[str]:
    return [str(servers.BIN / "uwsgi"), *front, "--master", "--need-app", "--wsgi", APP]


@pytest.mark.parametrize("option", UNUSABLE)
def test_a_socket_that_does_not_give_its_stream_up_is_refused_at_the_start(tmp_path, option):
    def command(port: int) -> list[str]:
        return [*uwsgi_at(f"--{option}", f"127.0.0.1:{port}"), "--threads", "2"]

    with failing(tmp_path, command, BLOCKING) as log:
        assert f"--{option} " in log
        assert UNUSABLE[option] in log
        assert "use --http-socket" in log


@pytest.mark.parametrize(
    "front",
    [
        pytest.param(("--socket", "{}", "--protocol", "fastcgi"), id="by-protocol"),
        pytest.param(("--shared-socket", "{}", "--http11-socket", "=0"), id="shared"),
        pytest.param(("--http-socket", "{}", "--http11-socket", "127.0.0.1:0"), id="any-port"),
        pytest.param(
            ("--http-socket", "{}", "--http11-socket", "127.0.0.1:0", "--http11-socket", "@twice"),
            id="twice",
        ),
    ],
)
def test_and_under_other_names(tmp_path, front):
    def command(port: int) -> list[str]:
        return uwsgi_at(*[part.replace("{}", f"127.0.0.1:{port}") for part in front])

    with failing(tmp_path, command, ASYNCIO) as log:
        assert "use --http-socket" in log


def refuses_at(address: int | str) -> bool:
    """Whether the socket at a port or a path answers a handshake with 500."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as sock:
        sock.settimeout(10)
        sock.connect(address if isinstance(address, str) else ("127.0.0.1", address))
        sock.sendall(
            b"GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        return sock.recv(12) == b"HTTP/1.1 500"


@pytest.mark.parametrize("engine", ENGINES)
def test_beside_a_socket_that_works_only_its_own_handshakes_are_refused(tmp_path, engine):
    port, path = free_port(), str(tmp_path / "socket")
    bad = ("--http11-socket", f"127.0.0.1:{port}", "--socket", path, "--protocol", "http11")
    options = {"gevent": ["--gevent", "10"], "blocking": ["--threads", "4"], "asyncio": []}
    command = servers.uwsgi(APP, *bad, *options[engine])
    with running(command, tmp_path, ENGINES[engine]) as server:
        for _ in range(5):
            echoes(server)
        assert refuses_at(port)
        assert refuses_at(path)
        assert "--http11-socket reads the next request" in server.log
        echoes(server)


SCGI = """
daemon off;
pid {folder}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            scgi_pass 127.0.0.1:{upstream};
            scgi_param REQUEST_METHOD $request_method;
            scgi_param PATH_INFO $document_uri;
            scgi_param SERVER_PROTOCOL $server_protocol;
            scgi_param SERVER_NAME $server_name;
            scgi_param SERVER_PORT $server_port;
            scgi_param CONTENT_LENGTH $content_length;
        }}
    }}
}}
"""


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx isn't installed")
def test_scgi_behind_nginx(tmp_path):
    upstream = free_port()

    def uwsgi(port: int) -> list[str]:
        return [*uwsgi_at("--scgi-socket", f"127.0.0.1:{upstream}"), "--threads", "4"]

    def nginx(port: int) -> list[str]:
        text = SCGI.format(folder=tmp_path, port=port, upstream=upstream)
        (tmp_path / "nginx.conf").write_text(text)
        return ["nginx", "-e", "stderr", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]

    with (
        servers.running(uwsgi, tmp_path / "log", BLOCKING, ready=None),
        servers.running(nginx, tmp_path / "nginx.log") as server,
    ):
        echoes(server)


# -- gunicorn -----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["plain", "preload"])
def test_a_sync_worker_is_warned_of_at_the_start(tmp_path, options):
    with running(servers.gunicorn(APP, *options), tmp_path, BLOCKING) as server:
        assert server.log.count("gunicorn's sync worker serves one WebSocket") == 1
        assert "--timeout (30 s)" in server.log
        with RawClient(server).open("/echo") as client:
            client.send(Opcode.TEXT, "it does serve that one")
            assert client.recv_message() == b"it does serve that one"


@pytest.mark.parametrize(
    ("options", "env"),
    [
        pytest.param(("-w", "2", *GTHREAD), BLOCKING, id="gthread-blocking"),
        pytest.param(("-w", "2", *GTHREAD), ASYNCIO, id="gthread-asyncio"),
        pytest.param(
            ("-k", "gevent", "--preload"), {**GEVENT, "WEB_CONCURRENCY": "2"}, id="gevent"
        ),
    ],
)
def test_memory_does_not_reach_the_other_workers_of_gunicorn(tmp_path, options, env):
    complaint = "groups are in the memory of one worker, but this gunicorn has 2 workers"
    with running(servers.gunicorn(APP, *options), tmp_path, env) as server:
        echoes(server)
        with RawClient(server).open("/joins") as client:
            assert client.recv_close().code == 1011
        poll(lambda: complaint in server.log)
        with pytest.raises(HTTPError, match="500"):
            urlopen(Request(server.http("/broadcast"), method="POST"), timeout=10)


def test_and_declared_groups_are_refused_when_a_worker_starts(tmp_path):
    command = servers.gunicorn(APP, "-w", "2", *GTHREAD)
    env = {**BLOCKING, "GROUPS": "1"}
    with running(command, tmp_path, env) as server:
        poll(lambda: server.log.count("this worker can't serve WebSockets: groups are in") == 2)
        with RawClient(server) as client:
            assert client.request("/declares")[0] == 500


@pytest.mark.parametrize("options", [("-w", "1"), ("--reload",)], ids=["w1", "reload"])
def test_but_it_reaches_everyone_in_a_single_worker(tmp_path, options):
    command = servers.gunicorn(APP, *options, *GTHREAD)
    with running(command, tmp_path, {**BLOCKING, "GROUPS": "1"}) as server:
        for path in ("/joins", "/declares"):
            with connect(server.ws(path)) as ws:
                assert ws.recv(timeout=10) == "joined"
                with urlopen(Request(server.http("/broadcast"), method="POST"), timeout=10):
                    assert ws.recv(timeout=10) == "to all"
        assert "can't serve" not in server.log
