"""An application for the documented API of Flask-uWSGI-WebSocket; only the import has changed."""

import os
from collections import deque
from contextlib import suppress

from flask import Blueprint, Flask, request

import flask_wsviews

app = Flask(__name__)
extension = getattr(flask_wsviews, os.environ["ENGINE"])


class ShoutingClient(extension.middleware.client):
    def receive(self):
        message = super().receive()
        return message if message is None else message.upper()


class ShoutingMiddleware(extension.middleware):
    client = ShoutingClient


class ShoutingWebSocket(extension):
    middleware = ShoutingMiddleware


chosen = ShoutingWebSocket if os.environ.get("SHOUT") else extension
websocket = chosen(app, timeout=2)

users = {}
backlog = deque(maxlen=3)


@app.route("/")
def index():
    return str(len(users))


@websocket.route("/echo")
def echo(ws):
    while True:
        message = ws.receive()
        if message is None:
            return
        ws.send(message)


@websocket.route("/endless")
def endless(ws):
    while True:
        ws.send(ws.receive())


@websocket.route("/chat")
def chat(ws):
    users[ws.id] = ws
    for message in backlog:
        ws.send(message)
    while True:
        message = ws.recv()
        if message is None:
            break
        backlog.append(message)
        # On engines with threads a client may leave in the meantime.
        for user in list(users.values()):
            if user is not ws:
                with suppress(OSError):
                    user.send(message)
    del users[ws.id]


@websocket.route("/polled")
def polled(ws):
    polls = 0
    while ws.connected:
        message = ws.recv_nb()
        if message == "":
            polls += 1
            continue
        if message is None:
            return
        ws.send(f"{message} after {min(polls, 1)} or more")
        ws.close()


@websocket.route("/binary")
def binary(ws):
    ws.send_binary(b"one")
    ws.send(b"two", binary=True)
    ws.send("three", binary=False)
    ws.send(f"{ws.timeout} {ws.fd > 0} {ws.environ['QUERY_STRING']}")


@websocket.route("/context")
def context(ws):
    with app.request_context(ws.environ):
        ws.send(request.args["name"])


blueprint = Blueprint("plain", __name__)


@blueprint.route("/<name>")
def greet(ws, name):
    ws.send(f"hello {name}")


websocket.register_blueprint(blueprint, url_prefix="/greet")
