"""Views with typed messages, on the contract application."""

from __future__ import annotations

import datetime
import decimal
import json
import uuid

from flask import abort, current_app, g, request
from marshmallow import EXCLUDE, Schema, fields, validate

from flask_wsviews import Blueprint, CloseConnection, InvalidMessage, WebSocketView, message

bp = Blueprint("typed", __name__, url_prefix="/typed")


class Say(Schema):
    text = fields.Str(required=True, validate=validate.Length(1, 20))
    when = fields.Date()


class Said(Schema):
    text = fields.Str(required=True)
    room = fields.Str(required=True)
    when = fields.Date()


class Values(Schema):
    when = fields.AwareDateTime()
    price = fields.Decimal(as_string=True)
    exact = fields.Decimal()
    key = fields.UUID()
    untouched = fields.Raw()


class Query(Schema):
    limit = fields.Int(load_default=10, validate=validate.Range(1, 100))
    tag = fields.List(fields.Str())


class Headers(Schema):
    version = fields.Int(required=True, data_key="X-Client-Version")


@bp.websocket("/room/<room>")
class Room(WebSocketView):
    """Has schemas for both directions."""

    emits = {"joined": Said, "values": Values}

    def on_connect(self, ws, room):
        self.room = room
        ws.send_message("joined", {"text": "hello", "room": room})

    @message("say", schema=Say, reply=Said, reply_type="said")
    def say(self, ws, data):
        assert request.view_args["room"] == self.room
        assert not vars(g)
        g.used = True
        if data["text"] == "abort":
            abort(403)
        if data["text"] == "close":
            raise CloseConnection(4001, "as you wish")
        if data["text"] == "rude":
            raise InvalidMessage({"text": ["Mind your language."]})
        if data["text"] == "boom":
            raise LookupError("on purpose")
        if data["text"] == "quiet":
            return None
        return {"room": self.room, **data}

    @message("values")
    def values(self, ws, data):
        key = uuid.UUID("12345678-1234-5678-1234-567812345678")
        when = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
        price = decimal.Decimal("1.10")
        values = {"when": when, "price": price, "exact": price, "key": key}
        ws.send_message("values", {**values, "untouched": when.date()})

    @message("wrong reply", reply=Said)
    def wrong_reply(self, ws, data):
        return {"text": "without a room"}

    @message("undeclared reply")
    def undeclared_reply(self, ws, data):
        return {"text": "without a schema"}


@bp.websocket("/strict")
class Strict(WebSocketView):
    """Answers invalid messages with its own on_invalid."""

    message_schema = Say(unknown=EXCLUDE)
    binary = False
    strikes = 0

    def on_message(self, ws, message):
        ws.send_json(message)

    def on_invalid(self, ws, error):
        self.strikes += 1
        if self.strikes == 3:
            raise CloseConnection(1008, "three strikes")
        ws.send_json({"strikes": self.strikes, "fields": list(error.errors), "ref": error.ref})


@bp.websocket("/both")
class Both(WebSocketView):
    """Routes text by type, and accepts binary messages without a schema."""

    discriminator = "kind"
    binary = True

    def on_message(self, ws, message):
        ws.send(message[::-1])

    @message("twice", schema=Say, reply=Say)
    def twice(self, ws, data):
        return {"text": data["text"] * 2}


@bp.websocket("/function", message_schema=Say, binary=False, emits={"said": Say})
def function(ws):
    first = ws.receive(timeout=10)
    ws.send_message("said", first)
    for said in ws:
        ws.send_message("said", said)


@bp.websocket("/declares")
class Declares(WebSocketView):
    """Loads the query and the headers of the handshake."""

    query_schema = Query
    headers_schema = Headers

    def on_handshake(self, ws):
        ws.response_headers["X-Limit"] = str(ws.query["limit"])

    def on_connect(self, ws):
        ws.send(json.dumps([ws.query, ws.headers, current_app.name]))
