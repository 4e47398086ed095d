"""The chat with typed messages: marshmallow schemas both ways, and a page that documents them."""

import os
from collections import deque
from contextlib import suppress
from datetime import datetime, timezone
from itertools import count

from flask import Flask, abort, render_template, request
from marshmallow import Schema, fields, validate

from flask_wsviews import (
    AsyncAPI,
    Blueprint,
    ConnectionClosed,
    GeventWebSocket,
    InvalidMessage,
    WebSocketView,
    message,
)

ROOMS = ("lobby", "python", "music")
MAX_NAME = 20
MAX_TEXT = 500

# Who is in each room, and the last things said there: in this process, so run only one.
members = {room: set() for room in ROOMS}
history = {room: deque(maxlen=50) for room in ROOMS}


class Trimmed(fields.Str):
    """Text without space around it."""

    def _deserialize(self, value, attr, data, **kwargs):
        return super()._deserialize(value, attr, data, **kwargs).strip()


class Join(Schema):
    """Enter the room."""

    name = Trimmed(required=True, validate=validate.Length(1, MAX_NAME))


class Say(Schema):
    """Say something to everybody in the room."""

    text = Trimmed(required=True, validate=validate.Length(1, MAX_TEXT))


class Said(Schema):
    """Somebody said something."""

    name = fields.Str(required=True)
    text = fields.Str(required=True)
    at = fields.AwareDateTime(required=True)


class Visitor(Schema):
    """Somebody came or went."""

    name = fields.Str(required=True)


class Welcome(Schema):
    """You are in: your name, which may have got a number, who else is here, and what was said."""

    name = fields.Str(required=True)
    people = fields.List(fields.Str(), required=True)
    history = fields.List(fields.Nested(Said), required=True)


chat = Blueprint("chat", __name__)


@chat.route("/")
def index():
    return render_template("chat.html", rooms=ROOMS, max_name=MAX_NAME, max_text=MAX_TEXT)


@chat.websocket("/chat/<any(lobby, python, music):room>")
class Chat(WebSocketView):
    """A room of the chat.

    Join with a name first, then say something. What is wrong with a message is answered with an
    error frame, and the conversation goes on.
    """

    emits = {"joined": Visitor, "left": Visitor, "said": Said}
    name = None

    def on_connect(self, ws, room):
        self.ws = ws
        self.room = room

    @message("join", schema=Join, reply=Welcome, reply_type="welcome")
    def join(self, ws, data):
        """Enter the room under a name that nobody else has there."""
        if self.name is not None:
            raise InvalidMessage({"name": ["You have joined already."]})
        people = [member.name for member in members[self.room]]
        self.name = unused(" ".join(data["name"].split()), people)
        self.announce("joined", {"name": self.name})
        members[self.room].add(self)
        return {
            "name": self.name,
            "people": sorted([*people, self.name]),
            "history": history[self.room],
        }

    @message("say", schema=Say)
    def say(self, ws, data):
        """Say something to everybody in the room, yourself included."""
        if self.name is None:
            raise InvalidMessage({"_schema": ["Join with a name first."]})
        said = {"name": self.name, "text": data["text"], "at": datetime.now(timezone.utc)}
        history[self.room].append(said)
        self.announce("said", said)

    def on_close(self, ws, code, reason):
        if self.name is not None:
            members[self.room].remove(self)
            self.announce("left", {"name": self.name})

    def announce(self, kind, event):
        # A copy: others may come and go while a send() waits.
        for member in list(members[self.room]):
            with suppress(ConnectionClosed):
                member.ws.send_message(kind, event)


def unused(name, people):
    if name not in people:
        return name
    return next(other for n in count(2) if (other := f"{name} {n}") not in people)


def only_here():
    """The documents are for those who work on this machine."""
    if request.remote_addr not in ("127.0.0.1", "::1"):
        abort(403)


app = Flask(__name__)
app.config["WSVIEWS_MAX_MESSAGE_SIZE"] = 16 * 1024
app.register_blueprint(chat)
GeventWebSocket(app)
AsyncAPI(app, title="Chat", version="1.0.0", url="/docs/ws", guard=only_here)

if __name__ == "__main__":
    host, port = os.environ.get("HOST", "localhost"), int(os.environ.get("PORT", "5000"))
    app.run(host=host, port=port, gevent=100)
