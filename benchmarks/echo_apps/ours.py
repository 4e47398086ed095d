"""Flask-WSViews on the engine of ENGINE: echoes, a typed view, a fan-out, a handshake."""

from __future__ import annotations

import os

import know_user
from flask import Flask
from marshmallow import Schema, fields

from flask_wsviews import AsyncioWebSocket, GeventWebSocket, WebSocket, WebSocketView, message

app = Flask(__name__)
know_user.init_app(app)
engine = {"gevent": GeventWebSocket, "asyncio": AsyncioWebSocket, "blocking": WebSocket}
websocket = engine[os.environ["ENGINE"]](app)

if os.environ["ENGINE"] == "asyncio":

    @websocket.route("/function")
    async def function(ws):
        async for received in ws:
            await ws.send(received)

    @websocket.route("/class")
    class Echo(WebSocketView):
        async def on_message(self, ws, received):
            ws.send(received)

    @websocket.route("/fanout")
    class Fanout(WebSocketView):
        groups = ("members",)

        async def on_message(self, ws, received):
            websocket.broadcast("members", received)
else:

    @websocket.route("/function")
    def function(ws):
        for received in ws:
            ws.send(received)

    @websocket.route("/class")
    class Echo(WebSocketView):
        def on_message(self, ws, received):
            ws.send(received)

    @websocket.route("/fanout")
    class Fanout(WebSocketView):
        groups = ("members",)

        def on_message(self, ws, received):
            websocket.broadcast("members", received)


class Say(Schema):
    """Three fields."""

    text = fields.Str(required=True)
    room = fields.Str()
    number = fields.Int()


@websocket.route("/typed")
class Typed(WebSocketView):
    """Loads, routes and dumps."""

    @message("say", schema=Say, reply=Say)
    def say(self, ws, data):
        return data


websocket.add_url_rule("/handshake", "handshake", Echo)
