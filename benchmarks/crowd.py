"""What a crowd of connections costs those that have something to say.

``python benchmarks/crowd.py [NAME …] [--busy N] [--pause MS] [--idle N …] [-c CONNECTIONS …]
[-b BYTES] [-s SECONDS] [-r ROUNDS] [--json FILE]`` measures two things. Some busy connections send
at a fixed pace, with and without a crowd of idle ones beside them: how long do their answers take?
And many connections send as soon as they have their answer: what does a message cost the server
when there are more and more of them? The client is load.c; it and the server have a core each.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Mapping
from pathlib import Path

import echo
from idle import allow_descriptors
from serving import add_options, choose, compile_client, take_turns, write_json
from subjects import SUBJECTS, Subject

DEFAULT = ["asyncio-class", "gevent-class", "blocking-class"]

Rows = list[dict[str, object]]


def measure(
    client: Path,
    options: argparse.Namespace,
    subjects: Mapping[str, Subject],
    load: Mapping[str, int],
) -> Rows:
    """The figures of all subjects that can have so many connections; they are printed as well."""
    total = load["connections"] + load["idle"]
    able = {name: each for name, each in subjects.items() if each.most >= total}
    arguments = argparse.Namespace(**{**vars(options), **load}, binary=False)
    pace = (load["pause"], load["idle"]) if load["pause"] else ()
    run_one = functools.partial(echo.measure, client, arguments, pace=pace)
    rows: Rows = []
    for name, run in take_turns(able, options.rounds, run_one).items():
        print(
            f"| {name} | {load['connections']:,} | {load['idle']:,} | {run['cpu']:.1f} | "
            f"{run['rate']:,.0f} | {run['median']:,.0f} | {run['p99']:,.0f} |",
            flush=True,
        )
        rows.append({"subject": name, "bytes": options.bytes, **load, **run})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--busy", type=int, default=100, help="those that send at a fixed pace")
    parser.add_argument("--pause", type=int, default=20, help="between two of their messages, ms")
    parser.add_argument("--idle", type=int, nargs="+", default=[0, 10_000], help="beside the busy")
    parser.add_argument("-c", "--connections", type=int, nargs="*", default=[100, 1000, 10_000])
    parser.add_argument("-b", "--bytes", type=int, default=32)
    add_options(parser, SUBJECTS)
    options = parser.parse_args()
    loads = [
        *({"connections": options.busy, "idle": n, "pause": options.pause} for n in options.idle),
        *({"connections": n, "idle": 0, "pause": 0} for n in options.connections),
    ]
    allow_descriptors(max(load["connections"] + load["idle"] for load in loads) + 1100)
    subjects = choose(parser, options.names or DEFAULT, lambda subject: True)
    client = compile_client("load")
    columns = ["subject", "connections", "idle", "CPU, µs per message", "messages/s"]
    print(f"| {' | '.join(columns)} | median, µs | 99 %, µs |")
    print("|---|---|---|---|---|---|---|", flush=True)
    rows = [row for load in loads for row in measure(client, options, subjects, load)]
    write_json(options.json, rows)


if __name__ == "__main__":
    main()
