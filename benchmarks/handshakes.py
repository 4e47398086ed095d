"""How many handshakes a second a server does, beside other libraries.

``python benchmarks/handshakes.py [NAME …] [-c ATONCE] [-s SECONDS] [-r ROUNDS] [--json FILE]``
opens WebSockets and closes them again, so many at once, and prints handshakes per second and
microseconds of the server's CPU for each. Those with Flask read a session's cookie in a
before_request hook; the others have no such things, and only shake hands. flask-only-… only have
Flask answer 101, as the part of it that no engine can save. The client is handshakes.c; it and the
server have a core each.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

from echo_apps.know_user import session_cookie
from serving import Figures, add_options, choose, compile_client, drive, take_turns, write_json
from subjects import SUBJECTS, Subject


def measure(client: Path, cookie: str, options: argparse.Namespace, subject: Subject) -> Figures:
    assert subject.handshake is not None
    numbers = [options.connections, options.seconds, cookie]
    used, count, took = drive(client, subject, subject.handshake, *numbers)
    return {"handshakes": count / took, "cpu": used / count * 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-c", "--connections", type=int, default=20, help="under way at once")
    add_options(parser, [name for name, subject in SUBJECTS.items() if subject.handshake])
    options = parser.parse_args()
    subjects = choose(parser, options.names, lambda subject: subject.handshake is not None)
    run_one = functools.partial(measure, compile_client("handshakes"), session_cookie(), options)
    found = take_turns(subjects, options.rounds, run_one)
    print("| subject | handshakes/s | CPU, µs per handshake |")
    print("|---|---|---|")
    for name, run in found.items():
        print(f"| {name} | {run['handshakes']:,.0f} | {run['cpu']:.0f} |")
    load = {"connections": options.connections}
    write_json(options.json, [{"subject": name, **load, **run} for name, run in found.items()])


if __name__ == "__main__":
    main()
