"""The chat over many workers and machines: a group for each room, kept for those who come back."""

import os
from datetime import datetime, timezone

from flask import Flask, render_template
from marshmallow import Schema, fields, validate

from flask_wsviews import BrokerUnavailable, GeventWebSocket, WebSocketView, message

MAX_NAME = 20
MAX_TEXT = 500

app = Flask(__name__)
app.config["WSVIEWS_MAX_MESSAGE_SIZE"] = 16 * 1024
app.config["WSVIEWS_BROKER_URL"] = os.environ.get("BROKER_URL", "redis://localhost:6379/0")
websocket = GeventWebSocket(app)

# To see who serves a visitor, when several do.
INSTANCE = os.environ.get("INSTANCE", "alone")


class Query(Schema):
    name = fields.Str(required=True, validate=validate.Length(1, MAX_NAME))
    since = fields.Str()


class Say(Schema):
    """Say something to everybody in the room."""

    text = fields.Str(required=True, validate=validate.Length(1, MAX_TEXT))


class Said(Schema):
    """Somebody said something."""

    name = fields.Str(required=True)
    text = fields.Str(required=True)
    at = fields.AwareDateTime(required=True)


class Visitor(Schema):
    """Somebody came or went."""

    name = fields.Str(required=True)


class Position(Schema):
    """You are in, and have seen the room up to here."""

    message_id = fields.Str(required=True)
    server = fields.Str(required=True)


@websocket.route("/chat/<any(lobby, python, music):room>")
class Chat(WebSocketView):
    """A room of the chat. Whoever comes back tells the last id, and misses nothing."""

    groups = ["room:{room}"]
    history = 500
    emits = {"position": Position, "said": Said, "joined": Visitor, "left": Visitor}
    query_schema = Query

    def resume_from(self, ws, group):
        return ws.query.get("since")

    def on_joined(self, ws, joined):
        server = f"{INSTANCE}, worker {os.getpid()}"
        ws.send_message("position", {"message_id": joined.position, "server": server})

    def on_connect(self, ws, room):
        self.group = f"room:{room}"
        self.name = ws.query["name"]
        if "since" not in ws.query:
            self.announce("joined", {"name": self.name})

    @message("say", schema=Say)
    def say(self, ws, data):
        """Say something to everybody in the room, yourself included."""
        now = datetime.now(timezone.utc)
        self.announce("said", {"name": self.name, "text": data["text"], "at": now})

    def on_close(self, ws, code, reason):
        # Who lost the connection, or was sent away by a restart, is about to come back.
        if code in (1000, 1001) and hasattr(self, "name"):
            try:
                self.announce("left", {"name": self.name})
            except BrokerUnavailable:
                app.logger.warning("nobody was told that %s has left", self.name)

    def announce(self, kind, event):
        # Who comes and goes is news for those who are there; it isn't replayed.
        websocket.send_message(self.group, kind, event, keep=kind == "said", view=Chat)


@app.route("/")
def index():
    return render_template("chat.html", max_name=MAX_NAME, max_text=MAX_TEXT)


if __name__ == "__main__":
    host, port = os.environ.get("HOST", "localhost"), int(os.environ.get("PORT", "5000"))
    app.run(host=host, port=port, gevent=100, processes=2)
