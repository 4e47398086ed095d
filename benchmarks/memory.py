"""What an idle connection costs in memory, beside other libraries.

``python benchmarks/memory.py [-n CONNECTIONS] [-r ROUNDS] [--json FILE] [NAME …]`` opens
connections to where each subject echoes, and prints by how much the resident memory of its
processes has grown for each. The kernel's buffers are not in it.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from idle import (
    WARM_UP,
    allow_descriptors,
    close_all,
    connect_many,
    resident_kib,
    settled,
)
from serving import Figures, choose, cpu_of, of_group, server, take_turns, write_json
from subjects import SUBJECTS, Subject


async def growth(group: int, port: int, path: str, connections: int) -> float:
    close_all(await connect_many(port, WARM_UP, path=path, greeting=b""))
    await settled(lambda: cpu_of(group))
    before = of_group(group, resident_kib)
    socks = await connect_many(port, connections, path=path, greeting=b"")
    await settled(lambda: cpu_of(group))
    grown = of_group(group, resident_kib) - before
    close_all(socks)
    return grown / connections


def measure(subject: Subject, connections: int) -> Figures:
    with server(subject) as (group, port):
        return {"kib": asyncio.run(growth(group, port, subject.echo, connections))}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-n", "--connections", type=int, default=2000)
    parser.add_argument("-r", "--rounds", type=int, default=1, help="their median counts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SUBJECTS))
    options = parser.parse_args()
    count = options.connections
    allow_descriptors(count + 1100)
    subjects = choose(parser, options.names, lambda subject: subject.most > count + WARM_UP)
    found = take_turns(subjects, options.rounds, lambda each: measure(each, count))
    print("| subject | KiB per connection |\n|---|---|")
    for name, run in found.items():
        print(f"| {name} | {run['kib']:.1f} |")
    load = {"connections": count}
    write_json(options.json, [{"subject": name, **load, **run} for name, run in found.items()])


if __name__ == "__main__":
    main()
