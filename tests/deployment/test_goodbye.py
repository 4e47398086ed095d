"""What clients and handlers see when a worker ends, and that it does end."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from support import servers, uwsgi_asyncio
from support.engines import ASYNCIO, BLOCKING, GEVENT
from support.raw import RawClient, close_frame
from support.servers import Server, poll
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.frames import Close, Opcode
from websockets.sync.client import connect

APP = "goodbye:app"
GOING_AWAY, RESTART = 1001, 1012
ENGINES = {
    "blocking": (("--threads", "4"), BLOCKING),
    "gevent": (("--gevent", "10"), GEVENT),
    "asyncio": ((), ASYNCIO),
}
BINARIES = {}
if uwsgi_asyncio.why_not() is None:
    ENGINES["own-asyncio"] = (tuple(uwsgi_asyncio.OPTIONS), ASYNCIO)
    BINARIES["own-asyncio"] = {"binary": uwsgi_asyncio.binary}

# How long uWSGI's master may take to see that a worker is gone, in seconds: it looks once a second.
MASTER_PACE = 4.0

each_engine = pytest.mark.parametrize("engine", ENGINES)


class Site:
    """A running server with the application, and the file that its handlers write to."""

    def __init__(self, server: Server, events: Path) -> None:
        self.server = server
        self._events = events
        self.pid = int(server.get("/pid"))

    @property
    def events(self) -> list[str]:
        return self._events.read_text().splitlines() if self._events.exists() else []

    def closes(self) -> dict[str, list[int]]:
        """The codes that on_close hooks were called with, by the connection's key."""
        found: dict[str, list[int]] = {}
        for event in self.events:
            kind, *words = event.split()
            if kind == "close":
                found.setdefault(words[0], []).append(int(words[1]))
        return found

    def numbers(self, key: str) -> set[int]:
        """What a talker's handlers have written down."""
        entries = [event.split() for event in self.events]
        return {int(entry[2]) for entry in entries if entry[:2] == ["count", key]}

    def open(self, stack: ExitStack, key: str) -> RawClient:
        client = stack.enter_context(RawClient(self.server).open(f"/parts?key={key}"))
        assert int(client.recv_message()) > 0
        # uWSGI skips the exit hook while a request runs, even if it has just been answered.
        poll(lambda: f"GET /parts?key={key} =>" in self.server.log)
        return client

    def signal(self, signum: int) -> None:
        poll(lambda: all(f"GET {path} =>" in self.server.log for path in ("/", "/pid")))
        self.server.process.send_signal(signum)

    def new_pid(self) -> int | None:
        """The worker's pid once it is another one."""
        try:
            pid = int(self.server.get("/pid"))
        except OSError:
            return None
        return pid if pid != self.pid else None


def uwsgi_command(engine: str, *options: str, router: bool = False):
    engine_options, _ = ENGINES[engine]
    binary = BINARIES.get(engine, {})
    return servers.uwsgi(APP, *engine_options, *options, router=router, **binary)


@contextmanager
def uwsgi_site(
    tmp_path: Path, engine: str, *options: str, router: bool = False, **env: str
) -> Iterator[Site]:
    _, engine_env = ENGINES[engine]
    command = uwsgi_command(engine, *options, router=router)
    events = tmp_path / "events"
    env = {**engine_env, "EVENTS": str(events), **env}
    with servers.running(command, tmp_path / "log", env) as server:
        yield Site(server, events)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def group_of(leader: int) -> set[int]:
    """The processes that belong to the server whose first process was *leader*."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.getpgid(int(name)) == leader:
                    found.add(int(name))
            except ProcessLookupError:
                continue
    return found


def answer(client: RawClient) -> int:
    """Wait for the close frame and answer it as a browser does; returns its code."""
    code = client.recv_close().code
    client.sock.sendall(close_frame(code))
    return int(code)


ENDS = {
    "reload": (signal.SIGHUP, (), RESTART),
    "brutal reload": (signal.SIGTERM, (), RESTART),
    "interrupt": (signal.SIGINT, (), GOING_AWAY),
    "terminate": (signal.SIGTERM, ("--die-on-term",), GOING_AWAY),
    "quit": (signal.SIGQUIT, (), GOING_AWAY),
}


@each_engine
@pytest.mark.parametrize("end", ENDS)
def test_every_connection_hears_why_it_ends(tmp_path, engine, end):
    signum, options, code = ENDS[end]
    settings = '{"WSVIEWS_SHUTDOWN_TIMEOUT": 3, "WSVIEWS_CLOSE_TIMEOUT": 30}'
    with (
        uwsgi_site(tmp_path, engine, *options, SETTINGS=settings, ATEXIT="1") as site,
        ExitStack() as stack,
    ):
        idle = [site.open(stack, f"idle{number}") for number in range(5)]
        busy = site.open(stack, "busy")
        busy.send(Opcode.TEXT, "sleep 0.5")
        assert busy.recv_message() == b"sleep 0.5"
        silent = site.open(stack, "silent")
        began = time.monotonic()
        site.signal(signum)
        for client in [*idle, busy]:
            assert answer(client) == code
        assert silent.recv_close().code == code
        poll(lambda: not alive(site.pid), 3 + MASTER_PACE)
        assert time.monotonic() - began < 3 + MASTER_PACE
        expected = {f"idle{number}": [code] for number in range(5)}
        # Nobody knows what the silent one would have answered.
        assert site.closes() == {**expected, "busy": [code], "silent": [1006]}
        # uWSGI's asyncio loop calls none.
        assert ("the application's atexit" in site.events) == (engine != "own-asyncio")
        if code == RESTART:
            assert poll(site.new_pid) != site.pid
            with connect(site.server.ws("/parts?key=again")) as ws:
                assert int(ws.recv()) != site.pid
        else:
            site.server.wait_exit()
            assert group_of(site.server.process.pid) == set()


@each_engine
def test_two_signals_at_once(tmp_path, engine):
    """A service manager signals all processes, and then the master signals its workers, too."""
    with uwsgi_site(tmp_path, engine, "--die-on-term") as site, ExitStack() as stack:
        with ExitStack() as first:
            # Their threads stay, for the connections to come.
            for number in range(8):
                site.open(first, f"gone{number}")
        client = site.open(stack, "open")
        poll(lambda: len(site.closes()) == 8)
        # When the worker goes on, whichever of its threads is the first takes both.
        os.kill(site.pid, signal.SIGSTOP)
        os.killpg(site.server.process.pid, signal.SIGTERM)
        poll(lambda: "killing workers" in site.server.log)
        os.kill(site.pid, signal.SIGCONT)
        assert answer(client) in (GOING_AWAY, RESTART)
        site.server.wait_exit(3 + MASTER_PACE)
        assert set(site.closes()["open"]) <= {GOING_AWAY, RESTART}


@each_engine
def test_a_worker_that_ends_as_its_first_connection_opens_says_so(tmp_path, engine):
    """Between the 101 and the engine there is no moment at which a client could be forgotten."""
    env = {"SIGNAL_AT_OPENING": str(int(signal.SIGHUP))}
    with uwsgi_site(tmp_path, engine, **env) as site, RawClient(site.server) as client:
        client.open("/parts?key=first")
        # Whether on_connect comes before the goodbye or not.
        while (received := client.recv()).opcode is Opcode.TEXT:
            continue
        assert Close.parse(received.data).code == RESTART
        client.sock.sendall(close_frame(RESTART))
        assert client.at_eof()
        assert poll(site.new_pid) != site.pid


@each_engine
def test_behind_the_router(tmp_path, engine):
    """The router outlives a worker in a chain reload only: else the master kills it first."""
    fifo = tmp_path / "fifo"
    options = ["--lazy-apps", "--master-fifo", str(fifo)]
    with uwsgi_site(tmp_path, engine, *options, router=True) as site, ExitStack() as stack:
        client = site.open(stack, "routed")
        poll(fifo.exists)
        fifo.write_text("c")
        assert answer(client) == RESTART
        poll(lambda: not alive(site.pid))
        assert poll(site.new_pid) != site.pid
        assert site.closes() == {"routed": [RESTART]}


@each_engine
def test_a_reload_that_kills_the_router_runs_on_close(tmp_path, engine):
    with uwsgi_site(tmp_path, engine, router=True) as site, ExitStack() as stack:
        site.open(stack, "routed")
        site.signal(signal.SIGHUP)
        poll(lambda: not alive(site.pid))
        assert site.closes() == {"routed": [1006]}


@each_engine
def test_a_hook_that_is_busy_for_too_long_is_left_behind(tmp_path, engine):
    settings = '{"WSVIEWS_SHUTDOWN_TIMEOUT": 0.5}'
    with uwsgi_site(tmp_path, engine, SETTINGS=settings) as site, ExitStack() as stack:
        busy = site.open(stack, "busy")
        busy.send(Opcode.TEXT, "sleep 60")
        assert busy.recv_message() == b"sleep 60"
        idle = site.open(stack, "idle")
        site.signal(signal.SIGINT)
        assert answer(idle) == GOING_AWAY
        assert answer(busy) == GOING_AWAY
        poll(lambda: not alive(site.pid), 0.5 + MASTER_PACE)
        assert site.closes() == {"idle": [GOING_AWAY]}


@each_engine
@pytest.mark.parametrize("how", ["touch-reload", "touch-chain-reload"])
def test_a_touched_file(tmp_path, engine, how):
    touched = tmp_path / "touched"
    touched.touch()
    options = [f"--{how}", str(touched), "--lazy-apps"]
    with uwsgi_site(tmp_path, engine, *options) as site, ExitStack() as stack:
        client = site.open(stack, "open")

        def is_touched() -> bool:
            # uWSGI compares with what it found at its first look, which may still be to come.
            nonlocal modified
            modified += 1
            os.utime(touched, (modified, modified))
            return bool(select.select([client.sock], [], [], 2)[0])

        modified = time.time()
        poll(is_touched, 20)
        assert answer(client) == RESTART
        assert poll(site.new_pid) != site.pid
        assert site.closes() == {"open": [RESTART]}


@each_engine
def test_without_a_master_nobody_replaces_the_worker(tmp_path, engine):
    _, engine_env = ENGINES[engine]
    events = tmp_path / "events"

    def command(port: int) -> list[str]:
        line = uwsgi_command(engine)(port)
        return [option for option in line if option != "--master"]

    env = {**engine_env, "EVENTS": str(events)}
    with servers.running(command, tmp_path / "log", env) as server, ExitStack() as stack:
        site = Site(server, events)
        client = site.open(stack, "open")
        site.signal(signal.SIGTERM)
        assert answer(client) == GOING_AWAY
        server.wait_exit()
        assert site.closes() == {"open": [GOING_AWAY]}


@pytest.mark.parametrize("engine", ["blocking", "gevent", "asyncio"])
def test_a_worker_that_has_served_its_requests(tmp_path, engine):
    """With uWSGI's own asyncio loop a worker that should end for this goes on."""
    options = ["--max-requests", "8", "--min-worker-lifetime", "0"]
    with uwsgi_site(tmp_path, engine, *options) as site, ExitStack() as stack:
        client = site.open(stack, "open")
        for _ in range(5):
            # Three went before. One more would wait for the next worker.
            assert site.new_pid() is None
        assert answer(client) == RESTART
        assert poll(site.new_pid) != site.pid
        assert site.closes() == {"open": [RESTART]}


@pytest.mark.parametrize("engine", ["blocking", "asyncio"])
def test_a_worker_that_cheaper_ends(tmp_path, engine):
    """With its own loops, or several threads, uWSGI lets it live on, its connections as well."""
    fifo = tmp_path / "fifo"
    options = ["--processes", "2", "--cheaper", "1", "--cheaper-initial", "2", "--threads", "1"]
    options += ["--cheaper-overload", "600", "--master-fifo", str(fifo)]
    with uwsgi_site(tmp_path, engine, *options) as site, ExitStack() as stack:
        clients: dict[int, RawClient] = {}

        def both_workers_have_one() -> bool:
            client = RawClient(site.server).open("/parts?key=one")
            pid = int(client.recv_message())
            if pid in clients:
                client.sock.close()
            else:
                clients[pid] = stack.enter_context(client)
            return len(clients) == 2

        poll(both_workers_have_one, 20)
        poll(fifo.exists)
        fifo.write_text("-")
        by_socket = {client.sock: pid for pid, client in clients.items()}
        told, _, _ = select.select(by_socket, [], [], 10)
        [cheaped] = [by_socket[sock] for sock in told]
        assert answer(clients.pop(cheaped)) == RESTART
        [other] = clients.values()
        other.send(Opcode.TEXT, "still there")
        assert other.recv_message() == b"still there"
        poll(lambda: not alive(cheaped), 3 + MASTER_PACE)
        assert RESTART in site.closes()["one"]


GUNICORN = {
    "gthread-blocking": (("-k", "gthread", "--threads", "20"), BLOCKING),
    "gthread-asyncio": (("-k", "gthread", "--threads", "20"), ASYNCIO),
    "gevent": (("-k", "gevent"), GEVENT),
    "gevent-blocking": (("-k", "gevent"), BLOCKING),
}


@contextmanager
def gunicorn_site(tmp_path: Path, mode: str, *options: str) -> Iterator[Site]:
    worker_options, env = GUNICORN[mode]
    command = servers.gunicorn(APP, *worker_options, "--access-logfile", "-", *options)
    events = tmp_path / "events"
    with servers.running(command, tmp_path / "log", {**env, "EVENTS": str(events)}) as server:
        yield Site(server, events)


def open_parts(stack: ExitStack, site: Site, key: str) -> RawClient:
    client = stack.enter_context(RawClient(site.server).open(f"/parts?key={key}"))
    assert int(client.recv_message()) > 0
    return client


@pytest.mark.parametrize(
    ("mode", "signum"),
    [
        *((mode, signal.SIGTERM) for mode in GUNICORN),
        # Told to be quick, a gevent worker is gone after 0.1 s, whatever its greenlets do.
        *((mode, signal.SIGINT) for mode in GUNICORN if mode.startswith("gthread")),
    ],
)
def test_gunicorn_stops_soon_and_says_goodbye(tmp_path, mode, signum):
    """Its graceful timeout is 30 s, which open connections took to the end."""
    with gunicorn_site(tmp_path, mode, "--preload") as site, ExitStack() as stack:
        clients = [open_parts(stack, site, f"idle{number}") for number in range(3)]
        site.server.process.send_signal(signum)
        for client in clients:
            assert answer(client) == GOING_AWAY
        site.server.wait_exit(15)
        assert site.closes() == {f"idle{number}": [GOING_AWAY] for number in range(3)}
        assert group_of(site.server.process.pid) == set()


@pytest.mark.parametrize("mode", GUNICORN)
def test_gunicorn_reloads_and_says_goodbye(tmp_path, mode):
    with gunicorn_site(tmp_path, mode) as site, ExitStack() as stack:
        client = open_parts(stack, site, "open")
        site.server.process.send_signal(signal.SIGHUP)
        assert answer(client) == GOING_AWAY
        poll(lambda: not alive(site.pid))
        assert poll(site.new_pid) != site.pid
        with connect(site.server.ws("/parts?key=again")) as ws:
            assert int(ws.recv(timeout=10)) != site.pid
        assert site.closes()["open"] == [GOING_AWAY]


@pytest.mark.parametrize("mode", GUNICORN)
def test_gunicorn_replaces_a_worker_after_so_many_requests(tmp_path, mode):
    with gunicorn_site(tmp_path, mode, "--max-requests", "8") as site, ExitStack() as stack:
        client = open_parts(stack, site, "open")
        while "Autorestarting worker" not in site.server.log:
            site.server.get("/pid")
        assert answer(client) == RESTART
        poll(lambda: not alive(site.pid))
        assert poll(site.new_pid) != site.pid
        assert site.closes() == {"open": [RESTART]}


@pytest.mark.parametrize("mode", GUNICORN)
def test_who_comes_back_at_once_to_gunicorn_meets_a_worker_that_serves(tmp_path, mode):
    with gunicorn_site(tmp_path, mode, "--max-requests", "8") as site, ExitStack() as stack:
        client = stack.enter_context(RawClient(site.server).open("/parts?key=open"))
        old = client.recv_message()
        while "Autorestarting worker" not in site.server.log:
            site.server.get("/pid")
        # Until it stops listening, the old worker accepts handshakes as it serves pages. A new one
        # may have taken its place by now.
        early = stack.enter_context(RawClient(site.server).open("/parts?key=early"))
        first = early.recv_message()
        assert answer(client) == RESTART
        with connect(site.server.ws("/parts?key=again"), open_timeout=20) as ws:
            assert int(ws.recv(timeout=20)) > 0
        if first == old:
            assert early.recv_close().code == RESTART


class Talker(threading.Thread):
    """Sends numbered messages, comes back whenever it is told to, and counts what was echoed."""

    def __init__(self, server: Server, name: str) -> None:
        super().__init__()
        self.server = server
        self.key = name
        self.acknowledged = 0
        self.codes: Counter[int] = Counter()
        self.pids: set[str] = set()
        self.stopped = threading.Event()
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            while not self.stopped.is_set():
                self._talk()
        except Exception as error:
            self.error = error

    def _talk(self) -> None:
        try:
            with connect(self.server.ws(f"/counts?key={self.key}"), close_timeout=5) as ws:
                self.pids.add(str(ws.recv(timeout=20)))
                while not self.stopped.is_set():
                    message = str(self.acknowledged + 1)
                    ws.send(message)
                    assert ws.recv(timeout=20) == message
                    self.acknowledged += 1
        except ConnectionClosed as closed:
            self.codes[closed.rcvd.code if closed.rcvd else 1006] += 1
        except (InvalidHandshake, OSError, EOFError):
            self.codes[0] += 1  # came while nobody was there; it tries again


@each_engine
def test_ten_reloads_lose_no_acknowledged_message(tmp_path, engine):
    with uwsgi_site(tmp_path, engine) as site:
        talkers = [Talker(site.server, f"talker{number}") for number in range(4)]
        for talker in talkers:
            talker.start()
        try:
            for _ in range(10):
                seen = {talker: len(talker.pids) for talker in talkers}
                old = site.pid
                site.signal(signal.SIGHUP)
                site.pid = poll(site.new_pid, 20)
                poll(lambda old=old: not alive(old))
                poll(lambda seen=seen: all(len(t.pids) > n for t, n in seen.items()), 20)
        finally:
            for talker in talkers:
                talker.stopped.set()
            for talker in talkers:
                talker.join()
        assert [talker.error for talker in talkers] == [None] * 4
        for talker in talkers:
            assert talker.acknowledged > 10
            # A reload may also meet a talker that is just about to connect.
            assert talker.codes[RESTART] >= 5
            assert talker.codes[1006] == 0
            # Each was written down before it was acknowledged, so none of them may be missing.
            assert set(range(1, talker.acknowledged + 1)) <= site.numbers(talker.key)
        left = group_of(site.server.process.pid)
        assert left == {site.server.process.pid, site.pid}
