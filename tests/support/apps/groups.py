"""Groups on the engine and the broker from the environment."""

from __future__ import annotations

import json
import os

from flask import Flask, request
from marshmallow import Schema, fields

import flask_wsviews
from flask_wsviews import (
    BrokerUnavailable,
    GroupError,
    GroupMember,
    GroupRefused,
    WebSocketView,
    message,
)

app = Flask(__name__)
for key, value in os.environ.items():
    if key.startswith("SET_"):
        app.config[f"WSVIEWS_{key.removeprefix('SET_')}"] = json.loads(value)
websocket = getattr(flask_wsviews, os.environ["ENGINE"])(app)
websocket.configure_group("kept:{name}", history=20_000)
websocket.configure_group("short:{name}", history=3)
websocket.configure_group("present:{name}", presence=True)


@websocket.on_join("present:{name}")
def joined(group, member):
    websocket.broadcast(group, json.dumps(["joined", member.id, member.meta]))


@websocket.on_leave("present:{name}")
def left(group, member):
    websocket.broadcast(group, json.dumps(["left", member.id, member.meta]))


@app.get("/")
def index():
    return str(os.getpid())


@app.post("/broadcast/<group>")
def broadcast(group):
    message = request.get_data() if request.args.get("binary") else request.get_data(as_text=True)
    try:
        outcome = websocket.broadcast(group, message, exclude=request.args.getlist("exclude"))
    except BrokerUnavailable as error:
        return str(error), 503
    # A page can't wait with uWSGI's own asyncio loop.
    return str(getattr(outcome, "_result", outcome))


@app.post("/disconnect")
def disconnect():
    """Disconnect the clients in the query, from a page."""
    arguments = request.args.to_dict()
    code = int(arguments.pop("code", 1008))
    websocket.disconnect(code=code, **arguments)
    return str(os.getpid())


@app.get("/count/<group>")
def count(group):
    return str(websocket.groups.local_count(group))


@app.get("/members/<group>")
def members(group):
    try:
        found, count = websocket.members(group), websocket.count(group)
    except BrokerUnavailable as error:
        return str(error), 503
    if hasattr(found, "__await__"):  # with uWSGI's own asyncio loop
        return "can't wait here", 501
    return {"members": found, "count": count, "pid": os.getpid()}


@app.get("/counters")
def counters():
    return vars(websocket.groups.counters)


class Commands:
    """Runs a client's commands: JSON lists of a name and its arguments."""

    def authorize_group(self, ws, group):
        return not group.startswith("secret")

    def start(self, ws, message):
        """Start a command. The result may be awaitable."""
        name, *arguments = json.loads(message)
        if name == "join":
            return ws.join(*arguments)
        if name == "leave":
            return ws.leave(*arguments)
        if name == "others":
            return websocket.broadcast(*arguments, exclude=ws)
        if name == "broadcast":
            return websocket.broadcast(*arguments)
        if name == "say":
            return websocket.broadcast(*arguments[:2], **arguments[2])
        if name == "disconnect":
            return websocket.disconnect(**arguments[0])
        if name == "members":
            return websocket.members(*arguments)
        if name == "count":
            return websocket.count(*arguments)
        return {"groups": sorted(ws.groups), "id": ws.id, "pid": os.getpid()}[name]

    def tell(self, ws, result):
        if hasattr(result, "position"):
            result = {"position": result.position, "lost": result.lost, "sent": result.replayed}
        if isinstance(result, list):
            result = [[e.id, e.meta] if isinstance(e, GroupMember) else e for e in result]
        ws.send(json.dumps({"result": result}))

    def tell_error(self, ws, error):
        ws.send(json.dumps({"error": type(error).__name__, "text": str(error)}))


ERRORS = (TypeError, GroupError, GroupRefused, BrokerUnavailable)


class Plain(Commands, WebSocketView):
    def on_message(self, ws, message):
        try:
            result = self.start(ws, message)
        except ERRORS as error:
            self.tell_error(ws, error)
        else:
            self.tell(ws, getattr(result, "_result", result))


class Coroutines(Commands, WebSocketView):
    async def on_message(self, ws, message):
        try:
            result = self.start(ws, message)
            if hasattr(result, "__await__"):
                result = await result
        except ERRORS as error:
            self.tell_error(ws, error)
        else:
            self.tell(ws, result)


Base = Coroutines if os.environ.get("HOOKS") == "async" else Plain


@websocket.route("/commands")
class Talk(Base):
    pass


class Declared:
    groups = ("lobby", "room:{room}")
    history = 100

    def resume_from(self, ws, group):
        return request.args.get("since") if group.startswith("room:") else None

    def on_joined(self, ws, joined):
        ws.send(json.dumps([joined.group, joined.position, joined.lost]))


if os.environ.get("HOOKS") == "async":

    @websocket.route("/rooms/<room>")
    class Room(Declared, Base):
        async def on_connect(self, ws, room):
            await ws.send(f"welcome to {room}")

        async def on_close(self, ws, code, reason):
            await websocket.broadcast("lobby", f"closed {sorted(ws.groups)}")
else:

    @websocket.route("/rooms/<room>")
    class Room(Declared, Base):
        def on_connect(self, ws, room):
            ws.send(f"welcome to {room}")

        def on_close(self, ws, code, reason):
            websocket.broadcast("lobby", f"closed {sorted(ws.groups)}")


@websocket.route(
    "/function/<room>", groups=["function:{room}"], history=10, presence=True, slow_clients="close"
)
def function(ws, room):
    """Sends the members that are present."""
    ws.send(json.dumps([sorted(ws.groups), websocket.count(f"function:{room}")]))
    while ws.receive() is not None:
        pass


@websocket.route("/unawaited/<group>")
def unawaited(ws, group):
    """Joins and broadcasts that, without waiting."""
    ws.join(group)
    websocket.broadcast(group, "here I am")
    while ws.receive() is not None:
        pass


if os.environ.get("HOOKS") == "async":

    @websocket.route("/unawaited-async/<group>")
    async def unawaited_async(ws, group):
        ws.join(group)
        websocket.broadcast(group, "here I am")
        while await ws.receive() is not None:
            pass


@websocket.route("/fanout/<group>")
class Fanout(WebSocketView):
    """Joins in on_connect and confirms it. Publishes each message."""

    def on_connect(self, ws, group):
        ws.join(group)
        self.group = group
        ws.send("joined")

    def on_message(self, ws, message):
        websocket.broadcast(self.group, message)


class Numbers:
    def answer(self, ws, joined):
        ws.send(json.dumps({"type": "joined", "at": joined.position, "lost": joined.lost}))


if os.environ.get("HOOKS") == "async":

    @websocket.route("/numbers")
    class Resuming(Numbers, WebSocketView):
        async def on_message(self, ws, message):
            self.answer(ws, await ws.join("kept:numbers", json.loads(message)))
else:

    @websocket.route("/numbers")
    class Resuming(Numbers, WebSocketView):
        def on_message(self, ws, message):
            self.answer(ws, ws.join("kept:numbers", json.loads(message)))


class Said(Schema):
    text = fields.Str(required=True)


class Typed:
    groups = ("typed:{room}",)
    history = 3
    emits = {"said": Said}

    def resume_from(self, ws, group):
        return request.args.get("since")


if os.environ.get("HOOKS") == "async":

    @websocket.route("/typed/<room>")
    class TypedRoom(Typed, WebSocketView):
        @message("say", schema=Said)
        async def say(self, ws, data):
            await websocket.send_message(ws.group, "said", data)
else:

    @websocket.route("/typed/<room>")
    class TypedRoom(Typed, WebSocketView):
        @message("say", schema=Said)
        def say(self, ws, data):
            websocket.send_message(ws.group, "said", data)


@app.post("/say/<room>")
def say_to(room):
    websocket.send_message(f"typed:{room}", "said", {"text": request.get_data(as_text=True)})
    return ""
