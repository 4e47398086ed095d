"""The application that benchmarks/typed.py talks to."""

from __future__ import annotations

import json

from flask import Flask
from marshmallow import Schema, fields, validate

from flask_wsviews import GeventWebSocket, WebSocketView, message

MESSAGE = json.dumps(
    {"type": "say", "text": "Hello, everybody!", "room": "lobby", "tags": ["a", "b"], "ref": 1}
)


class Say(Schema):
    """A message of a usual size."""

    text = fields.Str(required=True, validate=validate.Length(1, 500))
    room = fields.Str(required=True)
    tags = fields.List(fields.Str())


class Raw(WebSocketView):
    """Sends back what came."""

    def on_message(self, ws, message):
        ws.send(message)


class Json(WebSocketView):
    """Reads and writes JSON by itself, and checks nothing."""

    def on_message(self, ws, message):
        ws.send_json(json.loads(message))


class Typed(WebSocketView):
    """Loads, routes, dumps and checks."""

    @message("say", schema=Say, reply=Say)
    def say(self, ws, data):
        return data


class Unchecked(Typed):
    """The same with ``WSVIEWS_VALIDATE_OUTGOING = False``."""


def make_app(**config: object) -> Flask:
    app = Flask(__name__)
    app.config.update(config)
    websocket = GeventWebSocket(app)
    for rule, view in (
        ("/raw", Raw),
        ("/json", Json),
        ("/typed", Typed),
        ("/unchecked", Unchecked),
    ):
        websocket.add_url_rule(rule, view_func=view)
    return app


try:
    import uwsgi  # noqa: F401
except ImportError:  # the benchmark itself looks at the classes only
    pass
else:
    checked = make_app()
    unchecked = make_app(WSVIEWS_VALIDATE_OUTGOING=False)

    def app(environ, start_response):
        chosen = unchecked if environ["PATH_INFO"] == "/unchecked" else checked
        return chosen(environ, start_response)
