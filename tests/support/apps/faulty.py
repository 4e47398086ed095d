"""Views that fail in many ways, on the engine from the environment."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import time

from flask import Flask, request

import flask_wsviews
from flask_wsviews import WebSocketView

app = Flask(__name__)
websocket = getattr(flask_wsviews, os.environ["ENGINE"])(app)


@app.get("/")
def index():
    return str(os.getpid())


@app.get("/descriptors")
def descriptors():
    return str(len(os.listdir("/proc/self/fd")))


@app.get("/connections")
def connections():
    """Return the engine's number of connections, and how many places are taken."""
    return [websocket.engine.connections, websocket.admission._count]


taken: list[int] = []


@app.get("/leave/<int:count>")
def leave(count):
    """Open descriptors until only so many are left for this process."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.dup(0))
    while count:
        os.close(taken.pop())
        count -= 1
    return str(os.getpid())


@app.get("/give-back")
def give_back():
    while taken:
        os.close(taken.pop())
    return ""


class Faulty:
    def answer(self, message):
        if message == "exit":
            sys.exit(3)
        if message == "greenlet exit":
            from greenlet import GreenletExit

            raise GreenletExit
        if message == "interrupt":
            raise KeyboardInterrupt
        if message == "recursion":
            return self.answer(message)
        if message == "memory":
            return str(len(bytes(1 << 60)))
        if message == "hang":
            time.sleep(float(request.args["seconds"]))
        return f"{os.getpid()} {message}"


if os.environ.get("HOOKS") == "async":

    @websocket.route("/faulty")
    class Coroutines(Faulty, WebSocketView):
        async def on_message(self, ws, message):
            await ws.send(self.answer(message))
else:

    @websocket.route("/faulty")
    class Plain(Faulty, WebSocketView):
        def on_message(self, ws, message):
            ws.send(self.answer(message))
