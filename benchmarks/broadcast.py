"""How many deliveries a second a group's members get, beside other libraries.

``python benchmarks/broadcast.py [NAME …] [-m MEMBERS …] [-b BYTES] [-k INFLIGHT] [-s SECONDS]
[-r ROUNDS] [--json FILE]`` connects members to one group in the memory of one server; one of them
sends what all of them get. It prints deliveries per second and microseconds of the server's CPU per
delivery. The client is broadcast.c; it and the server have a core each.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

from idle import allow_descriptors
from serving import Figures, add_options, choose, compile_client, drive, take_turns, write_json
from subjects import SUBJECTS, Subject


def measure(client: Path, members: int, options: argparse.Namespace, subject: Subject) -> Figures:
    assert subject.fanout is not None
    numbers = [members, options.bytes, options.inflight, options.seconds]
    used, deliveries, took = drive(client, subject, subject.fanout, *numbers)
    return {"deliveries": deliveries / took, "cpu": used / deliveries * 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-m", "--members", type=int, nargs="+", default=[500, 5000])
    parser.add_argument("-b", "--bytes", type=int, default=100)
    parser.add_argument("-k", "--inflight", type=int, default=16, help="messages under way")
    add_options(parser, [name for name, subject in SUBJECTS.items() if subject.fanout])
    options = parser.parse_args()
    allow_descriptors(max(options.members) + 1100)
    subjects = choose(parser, options.names, lambda subject: subject.fanout is not None)
    client = compile_client("broadcast")
    rows: list[dict[str, object]] = []
    print("| subject | members | deliveries/s | CPU, µs per delivery |")
    print("|---|---|---|---|")
    for members in options.members:
        able = {name: each for name, each in subjects.items() if each.most >= members}
        run_one = functools.partial(measure, client, members, options)
        found = take_turns(able, options.rounds, run_one)
        for name, run in found.items():
            print(f"| {name} | {members:,} | {run['deliveries']:,.0f} | {run['cpu']:.2f} |")
            rows.append({"subject": name, "members": members, "bytes": options.bytes, **run})
    write_json(options.json, rows)


if __name__ == "__main__":
    main()
