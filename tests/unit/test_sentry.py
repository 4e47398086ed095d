"""What Sentry's Flask integration reports of a hook: one event, which nobody has handled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback

import pytest


def report(kind: str) -> None:
    """Break a hook, and look at what goes to Sentry.

    :param kind: of the extension and of its handlers.
    """
    from typing import Any

    import sentry_sdk
    from flask import Flask
    from sentry_sdk.integrations.flask import FlaskIntegration

    import flask_wsviews
    from flask_wsviews.testing import websocket_connect

    events: list[Any] = []

    class Memory(sentry_sdk.Transport):
        def capture_envelope(self, envelope: Any) -> None:
            if (event := envelope.get_event()) is not None:
                events.append(event)

    sentry_sdk.init(
        "https://key@sentry.invalid/1",
        integrations=[FlaskIntegration()],
        transport=Memory,
    )
    extension, _, handlers = kind.partition("-")
    app = Flask("site")
    websocket = getattr(flask_wsviews, extension)(app)

    class Plain(flask_wsviews.WebSocketView):
        def on_message(self, ws: Any, message: Any) -> None:
            raise ValueError("from a hook")

    class Coroutine(flask_wsviews.WebSocketView):
        async def on_message(self, ws: Any, message: Any) -> None:
            raise ValueError("from a hook")

    def function(ws: Any) -> None:
        ws.receive()
        raise ValueError("from a function")

    views = {"plain": Plain, "coroutines": Coroutine, "function": function}
    websocket.add_url_rule("/broken", "broken", views[handlers])
    with app.test_client() as client, websocket_connect(client, "/broken") as ws:
        ws.send("hello")
        ws.assert_closed(1011)
    websocket.stop()
    [event] = events
    [raised] = event["exception"]["values"]
    assert raised["type"] == "ValueError", raised
    assert raised["mechanism"] == {"type": "flask", "handled": False}, raised["mechanism"]
    assert event["transaction"] == "broken", event
    assert event["request"]["url"].endswith("/broken"), event


KINDS = [
    "WebSocket-plain",
    "WebSocket-function",
    "GeventWebSocket-plain",
    "AsyncioWebSocket-plain",
    "AsyncioWebSocket-function",
    "AsyncioWebSocket-coroutines",
]


def report_all() -> None:
    """Report each kind in a process that is forked for it: importing Sentry takes a second."""
    import flask  # noqa: F401
    import sentry_sdk.integrations.flask  # noqa: F401

    import flask_wsviews.testing  # noqa: F401

    problems: dict[str, str] = {}
    for kind in KINDS:
        read, write = os.pipe()
        if os.fork() == 0:
            try:
                report(kind)
            except BaseException:
                os.write(write, traceback.format_exc()[-4000:].encode())
                os._exit(1)
            os._exit(0)
        os.close(write)
        with open(read, errors="replace") as pipe:
            problems[kind] = pipe.read()
        _, status = os.wait()
        problems[kind] = problems[kind] or (f"ended with {status}" if status else "")
    print(json.dumps(problems))


@pytest.fixture(scope="module")
def problems() -> dict[str, str]:
    """What each kind fails with, from a process apart: Sentry changes Flask for good."""
    done = subprocess.run(
        [sys.executable, __file__], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_failed_hook(kind: str, problems: dict[str, str]) -> None:
    assert problems[kind] == ""


if __name__ == "__main__":
    report_all()
