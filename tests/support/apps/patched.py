"""An application whose standard library gevent patches before or after the extension is set up."""

from __future__ import annotations

import os

if os.environ.get("PATCH") == "before":
    from gevent import monkey

    monkey.patch_all()

from flask import Flask

import flask_wsviews

app = Flask(__name__)
websocket = getattr(flask_wsviews, os.environ["ENGINE"])(app, engine=os.environ.get("CHOSEN"))


@app.get("/")
def index():
    return websocket.engine.name


@app.post("/broadcast")
def broadcast():
    return str(websocket.broadcast("lobby", "to all"))


@websocket.route("/echo")
class Echo(flask_wsviews.WebSocketView):
    def on_message(self, ws, message):
        ws.send(message)


@websocket.route("/joins")
class Joins(flask_wsviews.WebSocketView):
    def on_connect(self, ws):
        ws.join("lobby")
        ws.send("joined")


if os.environ.get("GROUPS"):

    @websocket.route("/declares")
    class Declares(flask_wsviews.WebSocketView):
        groups = ("lobby",)

        def on_connect(self, ws):
            ws.send("joined")


if os.environ.get("PATCH") == "after":
    from gevent import monkey

    monkey.patch_all()
