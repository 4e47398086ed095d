"""What a typed message costs: loading, checking and dumping alone, and the whole way through uWSGI.

``python benchmarks/typed.py [-n MESSAGES] [-r ROUNDS] [--json FILE]`` prints microseconds: of the
parts in this process, then of the server's CPU for each message. The ways through uWSGI take turns
in each round, with 20 messages under way at a time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from serving import cpu_of, server, write_json  # noqa: E402
from subjects import Subject, uwsgi  # noqa: E402
from typed_app import MESSAGE, Say, Typed  # noqa: E402
from websockets.sync.client import connect  # noqa: E402

SERVER = Subject(uwsgi("typed_app:app", "--gevent", "100", "--pythonpath", str(HERE)))

# As many messages are under way at once.
CONNECTIONS = 20

PATHS = {
    "raw class view": "/raw",
    "raw, with JSON both ways": "/json",
    "typed, outgoing not checked": "/unchecked",
    "typed": "/typed",
}


def alone() -> dict[str, Callable[[], Any]]:
    """What is JSON's and marshmallow's own, and the check of what goes out."""
    schema = Say()
    value = json.loads(MESSAGE)
    handler = Typed.protocol.handlers["say"]
    fields = {key: value[key] for key in schema.fields}
    loaded = schema.load(fields)
    return {
        "json.loads": lambda: json.loads(MESSAGE),
        "load by the schema": lambda: schema.load(fields),
        "dump by the schema": lambda: schema.dump(loaded),
        "json.dumps": lambda: json.dumps(value),
        "dump and check": lambda: Typed.protocol.dump_reply(handler, loaded, 1),
    }


def microseconds(function: Callable[[], Any], repeat: int) -> float:
    started = time.perf_counter()
    for _ in range(repeat):
        function()
    return (time.perf_counter() - started) / repeat * 1e6


def cpu_of_messages(group: int, url: str, count: int) -> float:
    """Microseconds of the server's CPU for each message."""
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(url, compression=None)) for _ in range(CONNECTIONS)]
        before = cpu_of(group)
        for _ in range(count // CONNECTIONS):
            for client in clients:
                client.send(MESSAGE)
            for client in clients:
                client.recv()
        return (cpu_of(group) - before) / count * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-n", "--messages", type=int, default=5000, help="per round and way")
    parser.add_argument("-r", "--rounds", type=int, default=5, help="their median counts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    print(f"A message of {len(MESSAGE)} bytes: {MESSAGE}\n\n| part | µs |\n|---|---|")
    for name, function in alone().items():
        took = statistics.median(
            microseconds(function, options.messages) for _ in range(options.rounds)
        )
        print(f"| {name} | {took:.1f} |")
        rows.append({"subject": name, "microseconds": took})
    found: dict[str, list[float]] = {name: [] for name in PATHS}
    with server(SERVER) as (group, port):
        for _ in range(options.rounds):
            for name, path in PATHS.items():
                url = f"ws://127.0.0.1:{port}{path}"
                found[name].append(cpu_of_messages(group, url, options.messages))
    print("\n| way through uWSGI, gevent | CPU, µs per message |\n|---|---|")
    for name, figures in found.items():
        print(f"| {name} | {statistics.median(figures):.1f} |")
        rows.append({"subject": name, "microseconds": statistics.median(figures)})
    write_json(options.json, rows)


if __name__ == "__main__":
    main()
