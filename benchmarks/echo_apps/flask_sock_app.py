"""Flask-Sock: an echo, a fan-out to all that connected there, and a handshake with a session."""

from __future__ import annotations

import know_user
from flask import Flask
from flask_sock import Sock

app = Flask(__name__)
know_user.init_app(app)
sock = Sock(app)
members = set()


def echo(ws):
    while True:
        ws.send(ws.receive())


for path in ("/", "/handshake"):
    sock.route(path, endpoint=path)(echo)


@sock.route("/fanout")
def fanout(ws):
    members.add(ws)
    try:
        while True:
            message = ws.receive()
            for member in list(members):
                member.send(message)
    finally:
        members.discard(ws)
