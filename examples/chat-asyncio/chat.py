"""A chat with several rooms: a WebSocketView on a Blueprint, one asyncio task per connection."""

import json
import os
from collections import deque
from contextlib import suppress
from itertools import count
from time import time

from flask import Flask, abort, render_template

from flask_wsviews import AsyncioWebSocket, Blueprint, ConnectionClosed, WebSocketView

ROOMS = ("lobby", "python", "music")
MAX_NAME = 20
MAX_TEXT = 500

# Who is in each room, and the last things said there: in this process, so run only one. Only
# coroutines change them, so they change nowhere but on the event loop.
members = {room: set() for room in ROOMS}
history = {room: deque(maxlen=50) for room in ROOMS}

chat = Blueprint("chat", __name__)


class Mistake(Exception):
    """Something that the visitor did wrong; the text tells what."""


@chat.route("/")
def index():
    return render_template("chat.html", rooms=ROOMS, max_name=MAX_NAME, max_text=MAX_TEXT)


@chat.websocket("/chat/<room>")
class Chat(WebSocketView):
    """One visitor in a room: every connection has an instance of its own.

    Other visitors' hooks run whenever one of these awaits. So whatever belongs together is done
    before the first ``await``: a name is chosen and taken, a message is on its way to everybody.
    """

    name = None

    def on_handshake(self, ws, room):
        if room not in ROOMS:
            abort(404)

    async def on_connect(self, ws, room):
        self.ws = ws
        self.room = room

    async def on_message(self, ws, message):
        event = read_event(message)
        if event.get("type") == "join" and self.name is None:
            await self.join(read_text(event, "name", MAX_NAME))
        elif event.get("type") == "say" and self.name is not None:
            await self.say(read_text(event, "text", MAX_TEXT))
        else:
            raise Mistake("Join once with your name, then say something.")

    async def on_close(self, ws, code, reason):
        if self.name is not None:
            members[self.room].remove(self)
            self.announce({"type": "leave", "name": self.name})

    async def on_error(self, ws, error):
        if isinstance(error, Mistake):
            await ws.send_json({"type": "error", "text": str(error)})
            return True  # the conversation goes on

    async def join(self, name):
        people = [member.name for member in members[self.room]]
        self.name = unused(" ".join(name.split()), people)
        self.announce({"type": "join", "name": self.name})
        members[self.room].add(self)
        await self.ws.send_json(
            {
                "type": "welcome",
                "name": self.name,
                "people": sorted([*people, self.name]),
                "history": list(history[self.room]),
            }
        )

    async def say(self, text):
        event = {"type": "say", "name": self.name, "text": text, "time": time()}
        history[self.room].append(event)
        self.announce(event)
        # Who says more than they listen to waits here, and nobody else does.
        await self.ws.send_json(event)

    def announce(self, event):
        """Tell the others in the room."""
        message = json.dumps(event)
        for member in members[self.room] - {self}:
            with suppress(ConnectionClosed):
                # Not awaited: it is sent all the same, and one slow client holds up nobody.
                member.ws.send(message)


def unused(name, people):
    if name not in people:
        return name
    return next(other for n in count(2) if (other := f"{name} {n}") not in people)


def read_event(message):
    try:
        event = json.loads(message)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict):
        raise Mistake("A message must be a JSON object.")
    return event


def read_text(event, field, limit):
    text = event.get(field)
    if not isinstance(text, str) or not text.strip():
        raise Mistake(f"The {field} is empty.")
    if len(text.strip()) > limit:
        raise Mistake(f"The {field} is too long: {limit} characters at most.")
    return text.strip()


app = Flask(__name__)
app.config["WSVIEWS_MAX_MESSAGE_SIZE"] = 16 * 1024
app.register_blueprint(chat)
AsyncioWebSocket(app)

if __name__ == "__main__":
    host, port = os.environ.get("HOST", "localhost"), int(os.environ.get("PORT", "5000"))
    app.run(host=host, port=port)
