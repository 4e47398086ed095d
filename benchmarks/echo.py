"""What an echo costs the server, beside that of other libraries.

``python benchmarks/echo.py [-c CONNECTIONS] [-b BYTES] [--binary] [-s SECONDS] [-r ROUNDS]
[--json FILE] [NAME …]`` prints microseconds of the server's CPU per message, messages per second
and the median and 99th percentile of the round trips. The subjects take turns in each round;
medians count. The client is load.c, compiled on the spot; it and the server have a core each.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterable
from pathlib import Path

from idle import allow_descriptors
from serving import Figures, add_options, choose, compile_client, drive, take_turns, write_json
from subjects import SUBJECTS, Subject


def measure(
    client: Path, options: argparse.Namespace, subject: Subject, pace: Iterable[int] = ()
) -> Figures:
    """One run; *pace* is what load.c takes on top: the pause in ms, and how many are idle."""
    kind = "binary" if options.binary else "text"
    numbers = [options.connections, options.bytes, kind, options.seconds, *pace]
    used, count, took, median, worst = drive(client, subject, subject.echo, *numbers)
    return {"cpu": used / count * 1e6, "rate": count / took, "median": median, "p99": worst}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-c", "--connections", type=int, default=50)
    parser.add_argument("-b", "--bytes", type=int, default=32)
    parser.add_argument("--binary", action="store_true")
    add_options(parser, SUBJECTS)
    options = parser.parse_args()

    allow_descriptors(options.connections + 1100)

    def fits(subject: Subject) -> bool:
        return subject.most >= options.connections and (subject.binary or not options.binary)

    subjects = choose(parser, options.names, fits)
    run_one = functools.partial(measure, compile_client("load"), options)
    found = take_turns(subjects, options.rounds, run_one)
    print("| subject | CPU, µs per message | messages/s | median, µs | 99 %, µs |")
    print("|---|---|---|---|---|")
    for name, run in found.items():
        print(
            f"| {name} | {run['cpu']:.1f} | {run['rate']:,.0f} | {run['median']:,.0f} | "
            f"{run['p99']:,.0f} |"
        )
    load = {"connections": options.connections, "bytes": options.bytes}
    write_json(options.json, [{"subject": name, **load, **run} for name, run in found.items()])


if __name__ == "__main__":
    main()
