"""What fanout.py measures: a view whose connections join a group, and a page that publishes."""

import os

from flask import Flask

import flask_wsviews
from flask_wsviews import WebSocketView

app = Flask(__name__)
app.config["WSVIEWS_PING_INTERVAL"] = 600
app.config["WSVIEWS_BROKER_URL"] = os.environ["BENCH_BROKER"]
websocket = getattr(flask_wsviews, os.environ["BENCH_EXTENSION"])(app)


@app.route("/")
def index():
    return str(os.getpid())


@app.route("/publish/<int:count>")
def publish(count):
    for _ in range(count):
        websocket.broadcast("team", "x" * 100)
    return ""


@websocket.route("/idle")
class Member(WebSocketView):
    groups = ("team",)

    def on_connect(self, ws):
        ws.send("ready")
