"""Handlers that are coroutines. Tests read their journal over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections import defaultdict, deque
from contextvars import ContextVar
from types import coroutine

import loop  # noqa: F401
from flask import Flask, abort, g, request, session
from marshmallow import Schema, fields

import flask_wsviews
from flask_wsviews import (
    AsyncioWebSocket,
    CloseConnection,
    ConnectionClosed,
    WebSocketView,
)

app = Flask(__name__)
app.secret_key = "for tests"
app.config["WSVIEWS_CLOSE_TIMEOUT"] = 1
app.config.update(json.loads(os.environ.get("SETTINGS", "{}")))
websocket = AsyncioWebSocket(app)

journal: dict[str, list[object]] = defaultdict(list)


def note(*entry: object) -> None:
    journal[request.args.get("key", "")].append(list(entry))


@app.get("/")
def index():
    return "ready"


@app.get("/journal/<key>")
def read_journal(key):
    return journal[key]


@app.get("/tasks")
def tasks():
    """Return how many tasks of the engine are running."""
    return str(len(websocket.engine._loop_thread.get().tasks))


word: ContextVar[str] = ContextVar("word", default="")


@websocket.route("/variable")
class Variable(WebSocketView):
    """Sends the variable that the previous hook has set."""

    async def on_connect(self, ws):
        word.set("connected")

    async def on_message(self, ws, message):
        before = word.get()
        word.set(message)
        await ws.send(before)


@websocket.route("/loops")
async def loops(ws):
    """Starts again after each "next"."""
    for number in range(3):
        async for message in ws:
            await ws.send(f"{number} {message}")
            if message == "next":
                break
    await ws.send(await anext(ws))


@websocket.route("/task")
class LikeATask(WebSocketView):
    """Uses asyncio's functions that need a task."""

    async def on_message(self, ws, message):
        task = asyncio.current_task()
        if message == "gather":
            both = await asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2))
            await ws.send(f"{both}")
        elif message == "wait for":
            try:
                await asyncio.wait_for(asyncio.sleep(60), 0.01)
            except asyncio.TimeoutError:
                await ws.send("timed out")
        elif message == "timeout":
            try:
                async with asyncio.timeout(0.01):
                    await ws.receive()
            except TimeoutError:
                await ws.send("nothing came")
        elif message == "next":
            await ws.send(f"then {await ws.receive()}")
        elif message == "next in another task":
            await ws.send(f"then {await asyncio.wait_for(ws.receive(), 60)}")
        elif message == "same":
            await asyncio.sleep(0)
            await ws.send(str(task is asyncio.current_task()))
        elif message == "cancel":
            task.cancel()
            await asyncio.sleep(60)


@app.teardown_request
def torn_down(error):
    if request.args.get("key"):
        note("teardown", None if error is None else type(error).__name__)


@app.errorhandler(LookupError)
def app_error(error):
    note("app error handler", str(error))


@websocket.route("/echo")
async def echo(ws):
    async for message in ws:
        await ws.send(message)


@websocket.route("/asks")
async def asks(ws):
    """Runs the commands that it receives."""
    while (command := await ws.receive()) is not None:
        if command == "names":
            await ws.send_json(sorted({type(ws).__name__, str(ws.connected)}))
            await ws.a_send("a_send")
            ws.send("not awaited")
            ws.send_nb("send_nb")
            await ws.send_binary("binary")
            ws.send(await ws.a_recv())
            ws.send(await ws.recv())
        elif command == "nb":
            ws.send_json(ws.recv_nb())
        elif command == "timeout":
            try:
                await ws.receive(timeout=0.05)
            except TimeoutError as error:
                ws.send(str(error))
        elif command == "big":
            try:
                await asyncio.wait_for(send_much(ws), 0.5)
            except asyncio.TimeoutError:
                note("waited")
            await ws.send("the rest")
            note("sent it all")
        elif command in ("send_nb", "send"):
            try:
                for _ in range(100):
                    getattr(ws, command)(b"x" * 1024 * 1024)
            except ConnectionClosed as error:
                note("flood", type(error).__name__)
        elif command == "tasks":
            await asyncio.gather(*(talk(ws, name) for name in "abc"))
            ws.send("done")
        elif command == "close":
            await ws.close(4001, "as you wish")
            try:
                ws.send_nb("too late")
            except ConnectionClosed as error:
                note("send_nb", type(error).__name__)
    note("after the end", ws.close_code, ws.recv_nb(), await ws.receive())


async def send_much(ws):
    """Sends more than the kernel's buffers hold on any machine."""
    for _ in range(64):
        await ws.send(b"x" * 1024 * 1024)


async def talk(ws, name):
    for number in range(20):
        await ws.send(f"{name}{number} " + "." * 20_000)
        await asyncio.sleep(0)


class Say(Schema):
    text = fields.Str(required=True)


@websocket.route("/typed")
class Typed(WebSocketView):
    """Has coroutines and plain functions as handlers."""

    emits = {"more": Say}

    @flask_wsviews.message("say", schema=Say, reply=Say)
    async def say(self, ws, data):
        await ws.send_message("more", data)
        return {"text": f"{data['text']} {asyncio.current_task() is not None}"}

    @flask_wsviews.message("plain", schema=Say, reply=Say)
    def plain(self, ws, data):
        ws.send_message("more", data)
        return {"text": f"{data['text']} {threading.current_thread().name}"}

    async def on_invalid(self, ws, error):
        await ws.send_error(error)


@websocket.route("/typed-function", message_schema=Say, emits={"more": Say})
async def typed_function(ws):
    async for said in ws:
        await ws.send_message("more", said)


@websocket.route("/all/<name>")
class All(WebSocketView):
    """Has coroutines and plain functions as hooks."""

    async def on_handshake(self, ws, name):
        await asyncio.sleep(0)
        if name == "refused":
            abort(401, "who are you?")
        session["name"] = name

    async def on_connect(self, ws, name):
        g.connected = True
        self.count = 0
        note("connect", name)
        await ws.send(f"hello {session['name']}")

    async def on_message(self, ws, message):
        self.count += 1
        before = self.count
        if message == "slow":
            await asyncio.sleep(0.3)
            note("slow", self.count == before, hasattr(g, "connected"))
        elif message == "value":
            raise ValueError(message)
        elif message == "lookup":
            raise LookupError(message)
        elif message == "survive":
            raise ArithmeticError
        elif message == "close":
            raise CloseConnection(4002)
        else:
            await ws.send(f"{message} in {request.path}")

    async def on_error(self, ws, error):
        await asyncio.sleep(0)
        note("on_error", type(error).__name__)
        return isinstance(error, ArithmeticError)

    def on_close(self, ws, code, reason):
        note("close", code, reason, request.endpoint)


# -- as users of the old package wrote it, before async def ---------------------------------------

users: dict[str, object] = {}
backlog: deque = deque(maxlen=10)


@websocket.route("/old-echo")
@coroutine
def old_echo(ws):
    while True:
        message = yield from ws.receive()
        if message is None:
            return
        yield from ws.send(message)


@websocket.route("/old-chat")
@coroutine
def old_chat(ws):
    users[ws.id] = ws
    for message in backlog:
        yield from ws.send(message)
    while True:
        message = yield from ws.receive()
        if message is None:
            break
        backlog.append(message)
        for name in users:
            if name != ws.id:
                yield from users[name].send(message)
    del users[ws.id]
