"""Sends every message back: a function as WebSocket, one thread per connection."""

import os

from flask import Flask, render_template

from flask_wsviews import WebSocket

app = Flask(__name__)
websocket = WebSocket(app)


@app.route("/")
def index():
    return render_template("echo.html")


@websocket.route("/echo")
def echo(ws):
    for message in ws:
        ws.send(message)


if __name__ == "__main__":
    host, port = os.environ.get("HOST", "localhost"), int(os.environ.get("PORT", "5000"))
    app.run(host=host, port=port, threads=4)
