"""Members that don't read: nobody waits for them, and their memory is bounded."""

from __future__ import annotations

import json
import select
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from support import servers
from support.engines import small_modes
from support.group_talk import TIMEOUT, ask, listen, local_count, publish, talk
from support.raw import RawClient
from support.redis_server import redis_server
from support.servers import poll
from websockets.frames import Opcode

# More than the kernel's buffers take for a client that doesn't read.
COUNT, SIZE = 400, 64 * 1024
BOUND = 256 * 1024


@pytest.mark.parametrize("mode", ["gevent", "threads", "coroutines"])
@pytest.mark.parametrize("policy", ["close", "drop-oldest", "drop-newest"])
def test_a_member_that_never_reads_is_no_matter_of_the_others(
    mode: str, policy: str, tmp_path: Path
) -> None:
    began = time.monotonic()
    command, env = small_modes("groups:app")[mode]
    settings = {
        "SET_MAX_SEND_BUFFER": json.dumps(BOUND),
        "SET_SLOW_CLIENTS": json.dumps(policy),
        "SET_CLOSE_TIMEOUT": "1.0",
    }
    with (
        servers.running(command, tmp_path / "log", {**env, **settings}) as server,
        RawClient(server).open("/commands") as slow,
        talk(server) as quick,
    ):
        slow.send(Opcode.TEXT, json.dumps(["join", "team"]))
        slow.recv_message()
        ask(quick, "join", "team")
        pid = int(server.get("/"))
        early = 0
        for number in range(COUNT):
            publish(server, "team", f"{number:05}" + "x" * SIZE)
            assert listen(quick)[0][:5] == f"{number:05}"
            if number == COUNT // 4:
                early = resident(pid)
        # What has been published since is five times that.
        assert resident(pid) - early < COUNT * 3 // 4 * SIZE / 5

        def counted() -> dict[str, int]:
            found: dict[str, int] = json.loads(server.get("/counters"))
            is_over = policy == "close" or found["delivered"] + found["dropped"] == 2 * COUNT
            return found if is_over else {}

        counters = poll(counted)
        if policy == "close":
            assert (counters["closed"], counters["dropped"]) == (1, 0)
            poll(lambda: local_count(server, "team") == 1, TIMEOUT)
        else:
            assert counters["closed"] == 0
            assert 0 < counters["dropped"] < COUNT
            numbers = read_all(slow, COUNT - counters["dropped"])
            assert numbers == sorted(set(numbers))
            assert (numbers[-1] == COUNT - 1) is (policy == "drop-oldest")
        # One line in ten seconds.
        lines = server.log.count("clients are too slow")
        assert 1 <= lines <= 1 + (time.monotonic() - began) / 10


def resident(pid: int) -> int:
    """How much memory a process has, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def read_all(client: RawClient, count: int) -> list[int]:
    """The numbers of the messages that wait for a client."""
    return [int(bytes(client.recv_message())[:5]) for _ in range(count)]


RESUMERS, KEPT, LARGE = 20, 30, 1_000_000
NUMBERS = [f"{number:05}" for number in range(KEPT)]


@pytest.mark.parametrize(
    ("broker", "mode"),
    [("redis", "gevent"), ("redis", "threads"), ("redis", "coroutines"), ("memory", "threads")],
    ids=["redis-gevent", "redis-threads", "redis-coroutines", "memory-threads"],
)
def test_resumers_that_never_read_take_little_memory(
    broker: str, mode: str, tmp_path: Path
) -> None:
    command, env = small_modes("groups:app")[mode]
    settings = {
        "SET_MAX_REPLAYS": "15",
        "SET_REPLAY_TIMEOUT": "1.0",
        "SET_CLOSE_TIMEOUT": "0.5",
        "SET_BROKER_TIMEOUT": "0.5",
    }
    with ExitStack() as stack:
        if broker == "redis":
            url = stack.enter_context(redis_server(tmp_path)).url
            settings["SET_BROKER_URL"] = json.dumps(url)
        server = stack.enter_context(
            servers.running(command, tmp_path / "log", {**env, **settings})
        )
        for number in NUMBERS:
            publish(server, "kept:large", number + "x" * LARGE)
        pid = int(server.get("/"))
        before = resident(pid)
        clients = [
            stack.enter_context(RawClient(server).open("/commands")) for _ in range(RESUMERS)
        ]
        for client in clients:
            client.send(Opcode.TEXT, json.dumps(["join", "kept:large", "0-0"]))
        # Five have no place: they are told so.
        refused = poll(lambda: [client for client in clients if is_refused(client)] or None)
        highest = 0

        def closed() -> bool:
            nonlocal highest
            highest = max(highest, resident(pid))
            return int(json.loads(server.get("/counters"))["closed"]) == 15

        poll(closed, TIMEOUT)
        assert len(refused) <= 5
        # Each has a page of one message, and what waits for it: twice that, and no more.
        assert highest - before < RESUMERS * 4 * LARGE
        # Then there is room for others.
        poll(lambda: resumes(server))


def resumes(server: servers.Server) -> bool:
    """Whether a client gets everything; ``False`` if all places are taken."""
    with talk(server) as ws:
        ws.send(json.dumps(["join", "kept:large", "0-0"]))
        if str(ws.recv(timeout=TIMEOUT))[:5] != NUMBERS[0]:
            return False
        assert [text[:5] for text in listen(ws, KEPT - 1)] == NUMBERS[1:]
        assert json.loads(ws.recv(timeout=TIMEOUT))["result"]["sent"] == KEPT
        return local_count(server, "kept:large") == 1


def is_refused(client: RawClient) -> bool:
    """Whether a client is told that it can't be served, without reading what it is sent."""
    readable, _, _ = select.select([client.sock], [], [], 0)
    return bool(readable) and b"BrokerUnavailable" in client.sock.recv(200, socket.MSG_PEEK)
