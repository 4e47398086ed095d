"""What idle.py measures: a class-based view; the engine is taken from the environment."""

import os
import sys

from flask import Flask

import flask_wsviews
from flask_wsviews import WebSocketView

if os.environ["BENCH_LOOP"] != "uvloop":
    # As if it weren't installed.
    sys.modules["uvloop"] = None

app = Flask(__name__)
# No Ping goes out while something is measured; the timers are there all the same.
app.config["WSVIEWS_PING_INTERVAL"] = 600
websocket = getattr(flask_wsviews, os.environ["BENCH_EXTENSION"])(app)


@app.route("/")
def index():
    return str(os.getpid())


class Plain(WebSocketView):
    def on_connect(self, ws):
        ws.send("ready")

    def on_message(self, ws, message):
        ws.send(message)


class Coroutines(WebSocketView):
    async def on_connect(self, ws):
        await ws.send("ready")

    async def on_message(self, ws, message):
        await ws.send(message)


view = {"def": Plain, "async def": Coroutines}[os.environ["BENCH_HOOKS"]]
websocket.add_url_rule("/idle", view_func=view)
