"""Views with limits, on the engine from the environment."""

from __future__ import annotations

import asyncio
import json
import os
import time

from flask import Flask, abort, request

import flask_wsviews
from flask_wsviews import WebSocketView

app = Flask(__name__)
for key, value in os.environ.items():
    if key.startswith("SET_"):
        app.config[f"WSVIEWS_{key.removeprefix('SET_')}"] = json.loads(value)
websocket = getattr(flask_wsviews, os.environ["ENGINE"])(app)


@app.get("/")
def index():
    return ""


@app.get("/time")
def wall_clock():
    return str(time.time())


class Keyed:
    rate_limit = "3/hour"

    def rate_limit_key(self, ws, name):
        return f"name:{name}"


if os.environ.get("HOOKS") == "async":

    @websocket.route("/rate/<name>")
    class Rate(Keyed, WebSocketView):
        async def on_message(self, ws, message):
            await ws.send(message)

    @websocket.route("/function", rate_limit="3/hour")
    async def function(ws):
        async for message in ws:
            await ws.send(message)
else:

    @websocket.route("/rate/<name>")
    class Rate(Keyed, WebSocketView):
        def on_message(self, ws, message):
            ws.send(message)

    @websocket.route("/function", rate_limit="3/hour")
    def function(ws):
        for message in ws:
            ws.send(message)


@app.get("/connections")
def connections():
    """Return the engine's number of connections, and how many places are taken."""
    return [websocket.engine.connections, websocket.admission._count]


if os.environ.get("HOOKS") == "async":

    @websocket.route("/slow")
    class Slow(WebSocketView):
        async def on_handshake(self, ws):
            await asyncio.sleep(0.3)
else:

    @websocket.route("/slow")
    class Slow(WebSocketView):
        def on_handshake(self, ws):
            time.sleep(0.3)


@websocket.route("/silent", idle_timeout=0.5)
def silent(ws):
    for message in ws:
        ws.send(message)


@websocket.route("/short")
class Short(WebSocketView):
    max_lifetime = 0.5


@websocket.route("/echo")
class Echo(WebSocketView):
    def on_handshake(self, ws):
        if "refuse" in request.args:
            abort(403)

    def on_message(self, ws, message):
        ws.send(message)
