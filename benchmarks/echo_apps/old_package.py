"""Flask-uWSGI-WebSocket 0.6.1, with the client of CLIENT: what an echo in it looks like.

Its last release imports two names that are gone: asyncio.coroutine, which Python 3.11 dropped, and
flask.app.setupmethod, which Flask moved. They are put back; nothing that runs for a message is
touched.
"""

from __future__ import annotations

import asyncio
import os
import types

import flask.app
from flask import Flask
from flask.sansio.scaffold import setupmethod

asyncio.coroutine = types.coroutine
flask.app.setupmethod = setupmethod

from flask_uwsgi_websocket import GeventWebSocket, WebSocket  # noqa: E402

app = Flask(__name__)
websocket = {"gevent": GeventWebSocket, "blocking": WebSocket}[os.environ["CLIENT"]](app)


# Since 1.0 Werkzeug matches the rules of WebSockets apart.
@websocket.route("/", websocket=True)
def echo(ws):
    while ws.connected:
        message = ws.receive()
        # An empty one means that there was none.
        if message:
            ws.send(message.decode(), binary=False)
