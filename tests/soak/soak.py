"""Thousands of clients of all kinds, with reloads and restarts of Redis: ``make soak``.

``python tests/soak/soak.py [-s SECONDS] [-n CLIENTS] [--no-faults]`` starts uWSGI with two workers
for each engine, and a Redis with its append-only file. It ends with a table, and with 1 if a
message that was promised is missing, came twice or out of order, if a client was told something it
had not asked for, or if workers grow.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import resource
import signal
import socket
import struct
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from redis import Redis  # noqa: E402
from redis.exceptions import RedisError  # noqa: E402
from support.group_talk import instance, workers_of  # noqa: E402
from support.readers import Reader, publish_number, request  # noqa: E402
from support.redis_server import RedisServer, redis_server  # noqa: E402
from support.servers import Server  # noqa: E402
from websockets.asyncio.client import ClientConnection, connect  # noqa: E402
from websockets.exceptions import ConnectionClosed, InvalidHandshake  # noqa: E402

from flask_wsviews import BrokerUnavailable, Publisher  # noqa: E402

ENGINES = ("gevent", "threads", "coroutines")

# So many messages reach members in a second at most: the clients are one process of Python.
DELIVERIES = 5000.0

# Seconds that it may take at the end until everybody has everything.
CATCH_UP = 60.0

# A worker may grow by so much after the first third of the time, in bytes.
GROWTH = 24 * 1024 * 1024

GONE = (OSError, EOFError, ConnectionClosed, InvalidHandshake, TimeoutError)


@dataclass
class Tally:
    """What the clients of one engine have seen."""

    sent: int = 0
    received: int = 0
    connections: int = 0
    wrong: list[str] = field(default_factory=list)


class Endless(Reader):
    """A member of a group with a history that comes back from where it was, until it is told."""

    def __init__(self, server: Server) -> None:
        super().__init__(server, sys.maxsize)


async def echo(server: Server, tally: Tally, over: asyncio.Event) -> None:
    """Asks one thing after the other, and has to get its own answers."""
    while not over.is_set():
        with contextlib.suppress(*GONE):
            async with connect(server.ws("/commands"), open_timeout=30, compression=None) as ws:
                tally.connections += 1
                name = await asyncio.wait_for(ask(ws, "id"), 30)
                while not over.is_set():
                    tally.sent += 1
                    answer = await asyncio.wait_for(ask(ws, "id"), 30)
                    tally.received += 1
                    if answer != name:
                        tally.wrong.append(f"{answer!r} in place of {name!r}")
                    await asyncio.sleep(random.uniform(0, 1.0))
        await asyncio.sleep(random.uniform(0, 0.5))


async def ask(ws: ClientConnection, command: str) -> object:
    await ws.send(json.dumps([command]))
    return json.loads(await ws.recv()).get("result")


async def come_and_go(server: Server, tally: Tally, over: asyncio.Event) -> None:
    """Joins a busy group, reads nothing of it, and vanishes with RST."""
    while not over.is_set():
        with contextlib.suppress(*GONE):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            try:
                writer.write(request("/fanout/busy", server.port))
                await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
                tally.connections += 1
                await asyncio.sleep(random.uniform(0, 3.0))
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            finally:
                writer.transport.abort()
        await asyncio.sleep(random.uniform(0, 0.5))


async def publish(redis: RedisServer, pause: float, over: asyncio.Event) -> int:
    """Publish numbers, each of them until the broker takes it; returns how many.

    :param pause: between one and the next, in seconds.
    """
    number = 0
    with Publisher(redis.url, timeout=5) as publisher:
        while not over.is_set():
            with contextlib.suppress(BrokerUnavailable):
                await asyncio.to_thread(publisher.broadcast, "busy", "x" * 1000)
            while True:
                try:
                    await asyncio.to_thread(publish_number, publisher, number)
                except BrokerUnavailable:
                    await asyncio.sleep(0.1)
                    # The connection may have broken before the answer came.
                    if await asyncio.to_thread(is_kept, redis, number):
                        break
                else:
                    break
            number += 1
            await asyncio.sleep(pause)
    return number


def is_kept(redis: RedisServer, number: int) -> bool:
    """Whether a number is the last one in the group's history."""
    with contextlib.closing(Redis.from_url(redis.url)) as client:
        while True:
            try:
                entries = client.xrevrange("wsviews:{kept:numbers}:stream", count=1)
            except RedisError:
                time.sleep(0.1)
            else:
                text = f'"number": {number}}}'.encode()
                return bool(entries) and entries[0][1].get(b"message", b"").endswith(text)


async def disturb(servers: list[Server], redis: RedisServer, over: asyncio.Event) -> list[str]:
    """Replace a worker now and then, and once in a while restart Redis."""
    done = []
    while not over.is_set():
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(over.wait(), random.uniform(5, 10))
        if over.is_set():
            return done
        if random.random() < 0.25:
            redis.pause()
            await asyncio.sleep(0.5)  # so that no answer is on its way when it ends
            redis.kill()
            await asyncio.to_thread(redis.start)
            done.append("Redis")
        else:
            with contextlib.suppress(OSError):
                server = random.choice(servers)
                os.kill(int(await asyncio.to_thread(server.get, "/")), signal.SIGHUP)
                done.append("worker")
    return done


def sample(server: Server) -> tuple[int, int]:
    """The memory, in bytes, and the descriptors of its largest worker."""
    found = []
    for pid in workers_of(server):
        with contextlib.suppress(OSError, IndexError):
            status = Path(f"/proc/{pid}/status").read_text()
            memory = int(status.partition("VmRSS:")[2].split()[0]) * 1024
            found.append((memory, len(os.listdir(f"/proc/{pid}/fd"))))
    return max(found, default=(0, 0))


async def run(
    servers: list[Server], redis: RedisServer, options: argparse.Namespace
) -> tuple[bool, list[str]]:
    share = options.clients // len(servers)
    over, settled = asyncio.Event(), asyncio.Event()
    tallies = [Tally() for _ in servers]
    readers = [[Endless(server) for _ in range(share // 2)] for server in servers]
    reading = [asyncio.create_task(one.run()) for group in readers for one in group]
    await asyncio.wait_for(asyncio.gather(*(r.joined.wait() for g in readers for r in g)), 120)
    clients = []
    for server, tally in zip(servers, tallies, strict=True):
        for number in range(share - share // 2):
            kind = come_and_go if number % 4 == 0 else echo
            clients.append(asyncio.create_task(kind(server, tally, over)))
    pause = sum(map(len, readers)) / DELIVERIES
    publishing = asyncio.create_task(publish(redis, pause, over))
    faults_task = None
    if not options.no_faults:
        faults_task = asyncio.create_task(disturb(servers, redis, over))
    samples: list[list[tuple[int, int]]] = [[] for _ in servers]
    ends = time.monotonic() + options.seconds
    while time.monotonic() < ends:
        await asyncio.sleep(1.0)
        for server, taken in zip(servers, samples, strict=True):
            taken.append(sample(server))
        if publishing.done():
            break
    over.set()
    count = await publishing
    disturbances = await faults_task if faults_task else []
    await asyncio.wait(clients, timeout=30)
    deadline = time.monotonic() + CATCH_UP
    while time.monotonic() < deadline and not all(
        len(one.numbers) >= count for group in readers for one in group
    ):
        await asyncio.sleep(0.2)
    settled.set()
    for task in [*reading, *clients]:
        task.cancel()
    await asyncio.gather(*reading, *clients, return_exceptions=True)
    return report(count, readers, tallies, samples, disturbances)


def report(
    count: int,
    readers: list[list[Endless]],
    tallies: list[Tally],
    samples: list[list[tuple[int, int]]],
    disturbances: list[str],
) -> tuple[bool, list[str]]:
    expected = list(range(count))
    lines = [
        f"{count:,} messages published to a group with a history; disturbances: "
        f"{disturbances.count('worker')} reloads of a worker, {disturbances.count('Redis')} "
        "restarts of Redis",
        "",
        "| engine | members | delivered | missing, twice or out of order | echoes sent | answered "
        "| wrong | connections | MiB at a third, at the end | descriptors, at most |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    good = True
    for name, group, tally, taken in zip(ENGINES, readers, tallies, samples, strict=True):
        bad = [one for one in group if one.difference(expected) or one.lost]
        third, last = taken[len(taken) // 3][0], taken[-1][0]
        good = good and not bad and not tally.wrong and last - third < GROWTH
        delivered = sum(len(one.numbers) for one in group)
        connections = tally.connections + sum(one.connections for one in group)
        lines.append(
            f"| {name} | {len(group)} | {delivered:,} | {len(bad)} | {tally.sent:,} "
            f"| {tally.received:,} | {len(tally.wrong)} | {connections:,} "
            f"| {third / 2**20:.0f}, {last / 2**20:.0f} | {max(fds for _, fds in taken)} |"
        )
        lines += [f"    {one.difference(expected)}" for one in bad[:3]]
        lines += [f"    {wrong}" for wrong in tally.wrong[:3]]
    return good, lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("-s", "--seconds", type=float, default=600.0)
    parser.add_argument("-n", "--clients", type=int, default=3000, help="of all engines together")
    parser.add_argument("--no-faults", action="store_true", help="no reloads, no restarts")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path = Path(folder)
        persistent = ("--appendonly", "yes", "--appendfsync", "always")
        redis = stack.enter_context(redis_server(path, *persistent))
        servers = [
            stack.enter_context(instance(engine, redis.url, path / engine)) for engine in ENGINES
        ]
        good, lines = asyncio.run(run(servers, redis, options))
        for server in servers:
            if "Traceback" in server.log:
                good = False
                lines.append(server.log[server.log.index("Traceback") :][:2000])
    print("\n".join(lines))
    print("passed" if good else "FAILED")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
