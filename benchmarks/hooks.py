"""What the request context of a hook costs, beside those that Flask makes of a request.

``python benchmarks/hooks.py [-r ROUNDS] [--json FILE]`` opens and closes contexts in this process,
and prints microseconds for each.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from flask import Flask, session
from flask.sessions import SecureCookieSessionInterface
from serving import write_json
from werkzeug.test import EnvironBuilder

from flask_wsviews.conversation.context import Handshake

REPEAT = 20_000


def microseconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    for _ in range(REPEAT):
        function()
    return (time.perf_counter() - began) / REPEAT * 1e6


def make_app() -> Flask:
    app = Flask(__name__)
    app.secret_key = "benchmarks"
    return app


def hook(app: Flask) -> Callable[[], None]:
    with app.test_request_context("/"):
        session["user"] = "Ada"
        handshake = Handshake.current()

    def run() -> None:
        with handshake.hook_context():
            pass

    return run


def with_teardown() -> Flask:
    app = make_app()
    app.teardown_request(lambda error: None)
    return app


def whole_request(app: Flask) -> Callable[[], None]:
    signer = SecureCookieSessionInterface().get_signing_serializer(app)
    assert signer is not None
    cookie = f"session={signer.dumps({'user': 'Ada'})}"
    environ = EnvironBuilder(path="/", headers={"Cookie": cookie}).get_environ()

    def run() -> None:
        with app.request_context(environ):
            pass

    return run


def app_context(app: Flask) -> Callable[[], None]:
    def run() -> None:
        with app.app_context():
            pass

    return run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-r", "--rounds", type=int, default=7, help="their median counts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    ways = {
        "hook": hook(make_app()),
        "hook-teardown": hook(with_teardown()),
        "app-context": app_context(make_app()),
        "request-context": whole_request(make_app()),
    }
    runs: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, run in ways.items():
            runs[name].append(microseconds(run))
    print("| context | µs |\n|---|---|")
    rows: list[dict[str, object]] = []
    for name, found in runs.items():
        took = statistics.median(found)
        print(f"| {name} | {took:.1f} |")
        rows.append({"subject": name, "microseconds": took})
    write_json(options.json, rows)


if __name__ == "__main__":
    main()
