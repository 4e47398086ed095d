"""What a crowd of connections costs those that have something to say.

``python benchmarks/crowd.py [NAME …] [--busy N] [--pause MS] [--idle N …] [-c CONNECTIONS …]
[-b BYTES] [-s SECONDS] [-r ROUNDS] [--json FILE]`` measures two things. Some busy connections send
at a fixed pace, with and without a crowd of idle ones beside them: how long do their answers take?
And many connections send as soon as they have their answer: what does a message cost the server
when there are more and more of them? An empty --idle or -c leaves one out. The client is load.c; it
and the server have a core each.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

import echo
from idle import allow_descriptors
from serving import Figures, add_options, choose, compile_client, take_turns, write_json
from subjects import SUBJECTS, Subject

DEFAULT = ["asyncio-class", "gevent-class", "blocking-class", "bare-c"]

Load = dict[str, int]


def measure(client: Path, options: argparse.Namespace, run: tuple[Subject, Load]) -> Figures:
    """One run of one subject with one load."""
    subject, load = run
    arguments = argparse.Namespace(**{**vars(options), **load}, binary=False)
    pace = (load["pause"], load["idle"]) if load["pause"] else ()
    return echo.measure(client, arguments, subject, pace)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--busy", type=int, default=100, help="those that send at a fixed pace")
    parser.add_argument("--pause", type=int, default=20, help="between two of their messages, ms")
    parser.add_argument("--idle", type=int, nargs="*", default=[0, 10_000], help="beside the busy")
    parser.add_argument("-c", "--connections", type=int, nargs="*", default=[100, 1000, 10_000])
    parser.add_argument("-b", "--bytes", type=int, default=32)
    add_options(parser, SUBJECTS)
    options = parser.parse_args()
    loads = [
        *({"connections": options.busy, "idle": n, "pause": options.pause} for n in options.idle),
        *({"connections": n, "idle": 0, "pause": 0} for n in options.connections),
    ]
    if not loads:
        parser.error("with neither --idle nor -c there is nothing to measure")
    allow_descriptors(max(load["connections"] + load["idle"] for load in loads) + 1100)
    subjects = choose(parser, options.names or DEFAULT, lambda subject: True)
    runs = {
        (name, number): (subject, load)
        for number, load in enumerate(loads)
        for name, subject in subjects.items()
        if subject.most >= load["connections"] + load["idle"]
    }
    # What is compared is measured in turns: with and without a crowd, too.
    found = take_turns(
        runs, options.rounds, functools.partial(measure, compile_client("load"), options)
    )
    columns = ["subject", "connections", "idle", "CPU, µs per message", "messages/s"]
    print(f"| {' | '.join(columns)} | median, µs | 99 %, µs |")
    print("|---|---|---|---|---|---|---|")
    rows = []
    for (name, number), run in found.items():
        load = loads[number]
        print(
            f"| {name} | {load['connections']:,} | {load['idle']:,} | {run['cpu']:.1f} | "
            f"{run['rate']:,.0f} | {run['median']:,.0f} | {run['p99']:,.0f} |"
        )
        rows.append({"subject": name, "bytes": options.bytes, **load, **run})
    write_json(options.json, rows)


if __name__ == "__main__":
    main()
