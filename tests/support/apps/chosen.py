"""An application that leaves the choice of its engine to the server."""

import os

from flask import Flask

from flask_wsviews import WebSocket

app = Flask(__name__)
app.config["WSVIEWS_ENGINE"] = os.environ.get("OVERRIDE")
websocket = WebSocket(app, engine="auto")


@app.get("/")
def index():
    return "ready"


@websocket.route("/engine")
def engine(ws):
    ws.send(websocket.engine.name)
    for message in ws:
        ws.send(message)
