"""Flask-SocketIO: an event that is echoed, and one that goes to a room."""

from __future__ import annotations

from flask import Flask
from flask_socketio import SocketIO, emit, join_room

app = Flask(__name__)
socketio = SocketIO(app, async_mode="gevent", ping_interval=600)


@socketio.on("connect")
def connect():
    join_room("members")


@socketio.on("echo")
def echo(message):
    emit("echo", message)


@socketio.on("fanout")
def fanout(message):
    emit("fanout", message, to="members")
