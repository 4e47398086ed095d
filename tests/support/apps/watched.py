"""An application with every kind of observer, on the engine from the environment."""

from __future__ import annotations

import logging
import os
import sys

from flask import Flask, abort, current_app
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import flask_wsviews
from flask_wsviews import Blueprint, WebSocketView, signals
from flask_wsviews.metrics import Metrics
from flask_wsviews.tracing import Tracing

app = Flask(__name__)
websocket = getattr(flask_wsviews, os.environ["ENGINE"])(app)

connections = logging.getLogger("flask_wsviews.connections")
connections.setLevel(logging.INFO)
connections.addHandler(logging.StreamHandler(sys.stderr))

app.register_blueprint(Metrics(websocket).blueprint)
exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
Tracing(websocket, provider)

journal: list[list[object]] = []


def note(name):
    def receiver(sender, ws=None, **arguments):
        if sender is not app or current_app.name != app.name:
            journal.append([name, "not its application"])
        if "summary" in arguments:
            summary = arguments["summary"]
            arguments = {"code": summary.close_code, "messages": summary.traffic.messages_received}
        arguments.pop("environ", None)
        if ws is not None:
            arguments["endpoint"] = ws.endpoint
            arguments["connected"] = ws.connected
        journal.append([name, arguments])
        if arguments.get("message") == "break the receiver":
            raise ValueError("a receiver that is broken")

    return receiver


RECEIVERS = {
    name: note(name)
    for name in (
        "websocket_connected",
        "websocket_disconnected",
        "message_received",
        "message_sent",
        "handshake_rejected",
    )
}
for name, receiver in RECEIVERS.items():
    getattr(signals, name).connect(receiver, app)


@app.get("/")
def index():
    return str(os.getpid())


@app.get("/journal")
def read_journal():
    return journal


@app.get("/spans")
def spans():
    return [
        {
            "name": span.name,
            "span": span.context.span_id,
            "trace": f"{span.context.trace_id:032x}",
            "parent": None if span.parent is None else span.parent.span_id,
            "status": span.status.status_code.name,
            "events": [event.name for event in span.events],
            "attributes": dict(span.attributes),
        }
        for span in exporter.get_finished_spans()
    ]


@app.get("/broadcast/<group>/<message>")
def broadcast(group, message):
    websocket.broadcast(group, message)
    return ""


bp = Blueprint("chat", __name__)


class Hooks:
    # Metrics in memory cover a single worker.
    groups = () if "PROMETHEUS_MULTIPROC_DIR" in os.environ else ("room",)

    def answer(self, message):
        if message == "fail":
            raise ArithmeticError("failed as it was asked to")
        return message.upper()

    def on_handshake(self, ws, name):
        if name == "nobody":
            abort(401)


if os.environ.get("HOOKS") == "async":

    @bp.websocket("/chat/<name>")
    class Chat(Hooks, WebSocketView):
        async def on_message(self, ws, message):
            await ws.send(self.answer(message))

    @websocket.route("/echo")
    async def echo(ws):
        async for message in ws:
            await ws.send(message)
else:

    @bp.websocket("/chat/<name>")
    class Chat(Hooks, WebSocketView):
        def on_message(self, ws, message):
            ws.send(self.answer(message))

    @websocket.route("/echo")
    def echo(ws):
        for message in ws:
            ws.send(message)


app.register_blueprint(bp)
