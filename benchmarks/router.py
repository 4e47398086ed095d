"""What uWSGI's router adds to a round trip.

``python benchmarks/router.py [-s SECONDS] [-r ROUNDS] [--json FILE] [NAME …]`` echoes messages of
several sizes on one connection, first through an --http-socket, then through --http, and prints
medians of the round trips.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from serving import Figures, add_options, choose, compile_client, drive, take_turns, write_json
from subjects import SUBJECTS, Subject

# Where the length takes another form (RFC 6455 5.2), and where packets fill up.
SIZES = (32, 125, 126, 1024, 4096, 16384, 65536)

NAMES = ("asyncio-class", "gevent-class", "blocking-class")


def routed(subject: Subject) -> Subject:
    """The same server behind the router."""
    command = ["--http" if word == "--http-socket" else word for word in subject.command]
    return replace(subject, command=[*command, "--http-websockets", "--http-buffer-size", "65536"])


def measure(client: Path, subject: Subject, size: int, seconds: float) -> Figures:
    ways = {"direct": subject, "routed": routed(subject)}
    return {
        way: drive(client, each, each.echo, 1, size, "binary", seconds)[3]
        for way, each in ways.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, NAMES)
    options = parser.parse_args()
    if set(options.names) - set(NAMES):
        parser.error(f"only {', '.join(NAMES)} have a router")
    subjects = choose(parser, options.names or list(NAMES), lambda subject: subject in OURS)
    client = compile_client("load")
    rows: list[dict[str, object]] = []
    print("| subject | bytes | direct, µs | through the router, µs |\n|---|---|---|---|")
    for size in SIZES:
        found = take_turns(
            subjects,
            options.rounds,
            lambda each, size=size: measure(client, each, size, options.seconds),
        )
        for name, run in found.items():
            print(f"| {name} | {size:,} | {run['direct']:,.0f} | {run['routed']:,.0f} |")
            rows.append({"subject": name, "bytes": size, **run})
    write_json(options.json, rows)


OURS = [SUBJECTS[name] for name in NAMES]

if __name__ == "__main__":
    main()
