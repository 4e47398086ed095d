"""The contract application with a journal that outlives its worker: a line per event in a file."""

from __future__ import annotations

import os
import time

from contract import app, websocket
from flask import request

from flask_wsviews import WebSocketView
from flask_wsviews.servers.uwsgi.transport import DetachedTransport

if os.environ.get("ATEXIT"):
    import uwsgi

    uwsgi.atexit = lambda: tell("the application's atexit")


if os.environ.get("SIGNAL_AT_OPENING"):
    preface_of = DetachedTransport.preface

    def begin_and_be_told_to_end(self, fields):
        os.kill(os.getpid(), int(os.environ["SIGNAL_AT_OPENING"]))
        return preface_of(self, fields)

    DetachedTransport.preface = begin_and_be_told_to_end


def tell(*words: object) -> None:
    line = " ".join(str(word) for word in words)
    # A single write() of a short line isn't interleaved with those of other workers.
    with open(os.environ["EVENTS"], "a") as events:
        events.write(f"{line}\n")


@app.get("/pid")
def pid():
    return str(os.getpid())


@websocket.route("/parts")
class Parts(WebSocketView):
    """Sends its pid, echoes, and sleeps on command."""

    def on_connect(self, ws):
        ws.send(str(os.getpid()))

    def on_message(self, ws, message):
        command, _, seconds = message.partition(" ")
        ws.send(message)
        if command == "sleep":
            time.sleep(float(seconds))

    def on_close(self, ws, code, reason):
        tell("close", request.args.get("key"), code)


@websocket.route("/counts")
class Counts(WebSocketView):
    """Stores each number before acknowledging it."""

    def on_connect(self, ws):
        ws.send(str(os.getpid()))

    def on_message(self, ws, message):
        tell("count", request.args["key"], message)
        ws.send(message)


__all__ = ["app"]
