"""Faults of hooks, workers and the machine: each costs what it must, and nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support import clock, servers
from support.clock import Clock
from support.endings import end
from support.engines import ASYNCIO, BLOCKING, ON_UWSGI
from support.servers import Server, poll
from websockets.exceptions import InvalidMessage, InvalidStatus
from websockets.sync.client import ClientConnection, connect

APP = "faulty:app"
# Each of uWSGI's threads has a descriptor, and some tests count them.
ENGINES = {**ON_UWSGI, "threads": (("--threads", "20"), BLOCKING)}

each_engine = pytest.mark.parametrize("engine", ENGINES)


@pytest.fixture(scope="module", params=ENGINES)
def server(request, tmp_path_factory) -> Iterator[Server]:
    options, env = ENGINES[request.param]
    log = tmp_path_factory.mktemp("faults") / "log"
    with servers.running(servers.uwsgi(APP, *options), log, env) as made:
        made.engine = request.param
        yield made


def ask(ws: ClientConnection, message: str = "hello") -> int:
    """Have a message echoed; returns the worker's pid."""
    ws.send(message)
    pid, _, echoed = str(ws.recv(timeout=15)).partition(" ")
    assert echoed == message
    return int(pid)


@pytest.mark.parametrize("fault", ["exit", "greenlet exit", "interrupt", "recursion", "memory"])
def test_what_a_hook_does_to_itself_costs_its_own_connection(server, fault):
    with connect(server.ws("/faulty")) as other, connect(server.ws("/faulty")) as ws:
        pid = ask(other)
        ws.send(fault)
        assert end(ws) == 1011
        assert ask(other) == pid
        with connect(server.ws("/faulty")) as later:
            assert ask(later) == pid


def test_a_hook_that_hangs_holds_up_nobody_in_a_thread(server):
    if server.engine == "coroutines":
        pytest.skip("a coroutine that doesn't yield holds up its event loop")
    with connect(server.ws("/faulty?seconds=2")) as slow, connect(server.ws("/faulty")) as other:
        ask(other)
        slow.send("hang")
        for _ in range(20):
            ask(other)
        server.get("/")
        slow.close()


@each_engine
def test_a_worker_that_is_killed_takes_its_own_connections_only(engine, tmp_path):
    options, env = ENGINES[engine]
    command = servers.uwsgi(APP, "--processes", "2", *options)
    with servers.running(command, tmp_path / "log", env) as server, ExitStack() as stack:
        by_pid: dict[int, list[ClientConnection]] = {}

        def both_serve() -> bool:
            ws = stack.enter_context(connect(server.ws("/faulty")))
            by_pid.setdefault(ask(ws), []).append(ws)
            return len(by_pid) == 2 or sum(map(len, by_pid.values())) > 60

        poll(both_serve, 20)
        victim = next(iter(by_pid))
        dying = by_pid.pop(victim)
        server.kill_worker(victim)
        for ws in dying:
            assert end(ws) is None
        for pid, clients in by_pid.items():
            for ws in clients:
                assert ask(ws) == pid

        def replaced() -> bool:
            with connect(server.ws("/faulty")) as ws:
                return ask(ws) != victim

        poll(replaced)


def limited(command: Callable[[int], list[str]], descriptors: int) -> Callable[[int], list[str]]:
    """The command with so many descriptors at most."""

    def made(port: int) -> list[str]:
        return ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh", *command(port)]

    return made


@each_engine
def test_no_descriptor_is_left(engine, tmp_path):
    options, env = ENGINES[engine]
    command = limited(servers.uwsgi(APP, *options), 64)
    with servers.running(command, tmp_path / "log", env) as server:
        with ExitStack() as stack:
            first = stack.enter_context(connect(server.ws("/faulty")))
            refused = 0
            for _ in range(80):
                try:
                    ws = connect(server.ws("/faulty"), open_timeout=1)
                except (InvalidStatus, InvalidMessage, TimeoutError, OSError):
                    refused += 1
                    if refused == 3:
                        break
                else:
                    stack.enter_context(ws)
            assert refused == 3
            # Those that are open go on.
            ask(first)

        def recovered() -> bool:
            try:
                with connect(server.ws("/faulty"), open_timeout=1) as ws:
                    return ask(ws) > 0
            except (InvalidStatus, InvalidMessage, TimeoutError, OSError):
                return False

        poll(recovered, 30)
        poll(lambda: int(server.get("/descriptors")) < 40)


STARTS = {name: (servers.uwsgi(APP, *options), env) for name, (options, env) in ENGINES.items()} | {
    # gunicorn itself needs more for each request.
    "werkzeug": (servers.flask_run(APP), {"ENGINE": "WebSocket"}),
    "werkzeug-asyncio": (servers.flask_run(APP), ASYNCIO),
}


def cores(start: str) -> int:
    options, _ = ENGINES.get(start, ((), {}))
    return int(options[1]) if "--threads" in options else 0


def event_queues(pid: str) -> int:
    found = 0
    for link in Path("/proc", pid, "fd").iterdir():
        # It may be closed while this looks at it.
        with contextlib.suppress(FileNotFoundError):
            found += "eventpoll" in os.readlink(link)
    return found


@pytest.mark.parametrize("start", STARTS)
def test_too_few_descriptors_for_what_all_connections_share(start, tmp_path):
    command, env = STARTS[start]
    with servers.running(command, tmp_path / "log", env) as server:
        pid = server.get("/")
        # The first core answers before uWSGI has started the others. Each opens an event queue,
        # which would take the last descriptor: then the worker accepts nobody.
        poll(lambda: event_queues(pid) >= cores(start))
        statuses = []
        for left in range(24):
            # The client's own connection takes one more, which is free again afterwards.
            assert server.get(f"/leave/{left}") == pid
            try:
                with connect(server.ws("/faulty")) as ws:
                    assert ask(ws) == int(pid)
                statuses.append(101)
                break
            except InvalidStatus as refused:
                statuses.append(int(refused.response.status_code))
            assert json.loads(server.get("/connections")) == [0, 0]
        assert len(statuses) > 1
        assert statuses == [503] * (len(statuses) - 1) + [101]
        server.get("/give-back")
        with connect(server.ws("/faulty")) as ws:
            assert ask(ws) == int(pid)
        poll(lambda: json.loads(server.get("/connections")) == [0, 0])
        assert server.get("/") == pid
        assert "as the process has no room: [Errno 24]" in server.log


@each_engine
@pytest.mark.parametrize("options", [["--lazy-apps"], ["--lazy"], []], ids=" ".join)
def test_workers_that_are_forked_before_and_after_the_application(engine, options, tmp_path):
    own, env = ENGINES[engine]
    command = servers.uwsgi(APP, "--processes", "3", *options, *own)
    with servers.running(command, tmp_path / "log", env) as server, ExitStack() as stack:
        clients = [stack.enter_context(connect(server.ws("/faulty"))) for _ in range(12)]
        pids = [ask(ws) for ws in clients]
        assert [ask(ws) for ws in clients] == pids


@pytest.mark.skipif(clock.why_not() is not None, reason=str(clock.why_not()))
@each_engine
def test_the_clock_is_set(engine, tmp_path):
    options, env = ENGINES[engine]
    made = Clock(tmp_path)
    settings = {"SET_PING_INTERVAL": "0.1", "SET_PING_TIMEOUT": "5.0"}
    command = servers.uwsgi("limited:app", *options)
    with (
        servers.running(command, tmp_path / "log", {**env, **settings, **made.env}) as server,
        connect(server.ws("/echo")) as ws,
    ):
        day = 24 * 60 * 60
        for days in (1, -1, 400, 0):
            made.set(days * day)
            assert abs(float(server.get("/time")) - time.time() - days * day) < 60
            # Those that have to end do so, and no others.
            with connect(server.ws("/silent")) as silent, connect(server.ws("/short")) as short:
                assert end(silent) == 1001
                assert end(short) == 1012
            ws.send(f"day {days}")
            assert ws.recv(timeout=15) == f"day {days}"


@each_engine
def test_the_disk_for_the_log_is_full(engine, tmp_path):
    options, env = ENGINES[engine]
    command = servers.uwsgi(APP, *options, "--logto", "/dev/full")
    with (
        servers.running(command, tmp_path / "log", env) as server,
        connect(server.ws("/faulty")) as other,
    ):
        pid = ask(other)
        for _ in range(5):
            with connect(server.ws("/faulty")) as ws:
                ws.send("recursion")
                assert end(ws) == 1011
        assert ask(other) == pid
        server.get("/")


# The interpreter may lie where only root can read, so reading is what they may go on with.
KEEP_READING = [
    *("setpriv", "--bounding-set=-all,+dac_read_search,+setuid,+setgid"),
    *("--securebits=+no_setuid_fixup", "--inh-caps=+dac_read_search"),
    "--ambient-caps=+dac_read_search",
]


def cannot_drop() -> bool:
    try:
        return subprocess.run([*KEEP_READING, "true"], capture_output=True).returncode != 0
    except OSError:
        return True


@pytest.mark.skipif(cannot_drop(), reason="this takes root and setpriv")
@each_engine
def test_workers_that_give_up_being_root(engine, tmp_path):
    options, env = ENGINES[engine]
    user = ("--uid", "65534", "--gid", "65534")
    command = servers.uwsgi(APP, "--processes", "2", *options, *user)
    with (
        servers.running(lambda port: KEEP_READING + command(port), tmp_path / "log", env) as server,
        ExitStack() as stack,
    ):
        clients = [stack.enter_context(connect(server.ws("/faulty"))) for _ in range(6)]
        pids = [ask(ws) for ws in clients]
        assert {os.stat(f"/proc/{pid}").st_uid for pid in pids} == {65534}
        server.process.send_signal(signal.SIGHUP)
        assert [end(ws) for ws in clients] == [1012] * 6

        def replaced() -> bool:
            with connect(server.ws("/faulty")) as ws:
                return ask(ws) not in pids

        poll(replaced, 20)
