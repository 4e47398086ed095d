"""What a typed message costs: loading, checking and dumping alone, and the whole way through uWSGI.

``python benchmarks/typed.py [-n MESSAGES] [-r ROUNDS]`` prints microseconds per message. The
ways through uWSGI take turns in each round, one client and one message at a time; their figures
contain the client's own time, so look at the differences.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from typed_app import MESSAGE, Typed  # noqa: E402
from websockets.exceptions import ConnectionClosed  # noqa: E402
from websockets.sync.client import connect  # noqa: E402

UWSGI = Path(sys.executable).parent / "uwsgi"

PATHS = {
    "raw class view": "/raw",
    "raw, with JSON both ways": "/json",
    "typed, outgoing not checked": "/unchecked",
    "typed": "/typed",
}


def alone() -> dict[str, Callable[[], Any]]:
    """The parts of the typed path, in this process."""
    protocol = Typed.protocol
    value = json.loads(MESSAGE)
    handler = protocol.handlers["say"]
    loaded = protocol.load(value).data
    return {
        "json.loads": lambda: json.loads(MESSAGE),
        "load by the schema": lambda: protocol.load(value),
        "dump by the schema": lambda: protocol.dump_reply(handler, loaded, 1, validate=False),
        "dump and check": lambda: protocol.dump_reply(handler, loaded, 1),
        "json.dumps": lambda: json.dumps(value),
    }


def microseconds(function: Callable[[], Any], repeat: int) -> float:
    started = time.perf_counter()
    for _ in range(repeat):
        function()
    return (time.perf_counter() - started) / repeat * 1e6


def round_trips(url: str, count: int) -> float:
    with connect(url, compression=None) as ws:
        for _ in range(100):
            ws.send(MESSAGE)
            ws.recv()
        started = time.perf_counter()
        for _ in range(count):
            ws.send(MESSAGE)
            ws.recv()
        return (time.perf_counter() - started) / count * 1e6


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_until_it_serves(url: str) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            with connect(url):
                return
        except (OSError, EOFError, ConnectionClosed):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-n", "--messages", type=int, default=3000, help="per round and way")
    parser.add_argument("-r", "--rounds", type=int, default=7)
    arguments = parser.parse_args()

    print(f"A message of {len(MESSAGE)} bytes: {MESSAGE}\n\n| part | µs |\n|---|---|")
    for name, function in alone().items():
        figures = [microseconds(function, arguments.messages) for _ in range(arguments.rounds)]
        print(f"| {name} | {statistics.median(figures):.1f} |")

    port = free_port()
    command = [
        *(str(UWSGI), "--http-socket", f"127.0.0.1:{port}", "--master", "--gevent", "100"),
        *("--need-app", "--disable-logging", "--wsgi", "typed_app:app"),
    ]
    server = subprocess.Popen(
        command, cwd=HERE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ
    )
    try:
        base = f"ws://127.0.0.1:{port}"
        wait_until_it_serves(f"{base}/raw")
        found: dict[str, list[float]] = {name: [] for name in PATHS}
        for _ in range(arguments.rounds):
            for name, path in PATHS.items():
                found[name].append(round_trips(base + path, arguments.messages))
    finally:
        # SIGTERM would have uWSGI reload.
        server.send_signal(signal.SIGINT)
        server.wait(20)
    first = statistics.median(found[next(iter(PATHS))])
    print(
        "\n| way through uWSGI, gevent | µs per round trip | more than the first |\n|---|---|---|"
    )
    for name, figures in found.items():
        median = statistics.median(figures)
        print(f"| {name} | {median:.0f} | {median - first:.0f} |")


if __name__ == "__main__":
    main()
