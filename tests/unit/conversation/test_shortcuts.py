"""Each shortcut of a hook's bracket and context does what the plain way does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from typing import Any

import flask
import pytest
from flask import Flask, abort, appcontext_pushed, g, got_request_exception, request, session
from hypothesis import example, given
from hypothesis import strategies as st
from support.peers import UPGRADE_HEADERS, bounded, open_client
from werkzeug.exceptions import Forbidden

from flask_wsviews.blueprints import Blueprint
from flask_wsviews.conversation.context import Handshake, HookContext
from flask_wsviews.conversation.hooks import HookRunner
from flask_wsviews.exceptions import CloseConnection
from flask_wsviews.observers import Observer
from flask_wsviews.views import WebSocketView


class Watcher(Observer):
    """An observer of hooks: with one, the bracket is the generator."""

    watches_hooks = True


class Odd(Exception):
    """An exception of the application."""


def fail(error: BaseException) -> Any:
    raise error


#: What a hook, ``on_error``, an error handler or a teardown function may do, by name.
ACTS: dict[str, Callable[[], Any]] = {
    "return": lambda: None,
    "return true": lambda: True,
    "return a generator": lambda: (x for x in ()),
    "raise": lambda: fail(Odd("text")),
    "raise StopIteration": lambda: fail(StopIteration(1)),
    "raise StopAsyncIteration": lambda: fail(StopAsyncIteration()),
    "close": lambda: fail(CloseConnection(4001, "enough")),
    "abort": lambda: abort(403),
    "fail": lambda: abort(500),
    "exit": lambda: fail(SystemExit(3)),
}
acts = st.sampled_from(list(ACTS))


def run_hook(
    is_plain: bool, is_coroutine: bool, hook: str, on_error: str, handler: str, teardown: str
) -> list[Any]:
    """Run one hook; returns all that could be seen of it."""
    seen: list[Any] = []
    app = Flask("site")
    app.secret_key = "secret"
    app.logger.handlers = [Handler(seen)]
    app.logger.propagate = False
    blueprint = Blueprint("chat", __name__)
    blueprint.add_websocket_rule("/chat/<room>", "talk", lambda ws, room: None)
    app.register_blueprint(blueprint)
    if handler != "return":
        app.register_error_handler(Odd, lambda error: ACTS[handler]())
    if teardown != "return":

        @app.teardown_request
        def tear_down(error: BaseException | None) -> None:
            seen.append(("teardown", repr(error)))
            if "in" in seen:
                ACTS[teardown]()

    def act(*args: Any, **kwargs: Any) -> Any:
        seen.append(("hook", args, kwargs, request.path, list(g), session.get("user")))
        g.used = True
        return ACTS[hook]()

    async def act_async(*args: Any, **kwargs: Any) -> Any:
        return act(*args, **kwargs)

    class View(WebSocketView):
        def on_error(self, ws: Any, error: Exception) -> Any:
            seen.append(("on_error", repr(error), "used" in g))
            return ACTS[on_error]()

        if is_coroutine:

            async def on_message(self, ws: Any, message: Any) -> None:
                """Make it a view of coroutines."""

    client, peer = open_client(app)
    with app.test_request_context("/chat/lobby", headers=UPGRADE_HEADERS):
        handshake = Handshake.current()
        handshake.identity = {"name": "ann"}
    observers = (Watcher(),) if is_plain else ()
    runner = HookRunner(handshake, View(), client, observers, keeps_thread=False)

    def signal(sender: Flask, exception: BaseException, **extra: Any) -> None:
        seen.append(("signal", repr(exception)))

    seen.append("in")
    with got_request_exception.connected_to(signal, app):
        try:
            if is_coroutine:
                loop = asyncio.new_event_loop()
                try:
                    run = runner.run_async(InLoop(), act_async, (1,), {"name": 2})  # type: ignore[arg-type]
                    outcome: Any = loop.run_until_complete(run)
                finally:
                    loop.close()
            else:
                outcome = runner.run(act, (1,), {"name": 2})
        except BaseException as error:
            outcome = repr(error)
    seen += [outcome, peer.sent(), flask.has_app_context(), flask.has_request_context()]
    return seen


class Handler(logging.Handler):
    def __init__(self, seen: list[Any]) -> None:
        super().__init__()
        self._seen = seen

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self._seen.append(("log", record.getMessage(), repr(error)))


class InLoop:
    """What a hook needs of a driver: plain functions are called at once."""

    async def call_in_thread(self, function: Callable[[], Any], *, keep: bool = False) -> Any:
        return function()


@bounded
@given(st.booleans(), acts, acts, acts, acts)
@example(True, "return a generator", "return", "return", "return")
def test_the_bracket(
    is_coroutine: bool, hook: str, on_error: str, handler: str, teardown: str
) -> None:
    acts = (hook, on_error, handler, teardown)
    assert run_hook(False, is_coroutine, *acts) == run_hook(True, is_coroutine, *acts)


@contextmanager
def plainly(is_plain: bool) -> Any:
    """With a receiver of Flask's signal, contexts are pushed and popped."""
    with ExitStack() as stack:
        if is_plain:
            stack.enter_context(appcontext_pushed.connected_to(lambda sender, **extra: None))
        yield


def walk(is_plain: bool, steps: list[str], identity: dict[str, Any] | None) -> list[Any]:
    """Enter and leave contexts of two connections; returns what hooks would see."""
    app = Flask("site")
    app.secret_key = "secret"
    app.add_url_rule("/page", "page", lambda: "")
    contexts: list[HookContext] = []
    handshakes = []
    for name in ("ann", "ben"):
        with app.test_request_context(f"/?name={name}"):
            kept = Handshake.current()
            session["user"] = name
            kept.identity = identity
        handshakes.append(kept)
    seen: list[Any] = []
    with plainly(is_plain):
        for step in steps:
            if step in ("ann", "ben"):
                contexts.append(handshakes[step == "ben"].hook_context())
                contexts[-1].__enter__()
            elif step == "copy" and contexts:
                contexts.append(contexts[-1].copy())
                contexts[-1].__enter__()
            elif step == "leave" and contexts:
                contexts.pop().__exit__(None, None, None)
            elif step == "mark" and contexts:
                g.marked = len(seen)
            seen.append(what_is_seen())
        while contexts:
            contexts.pop().__exit__(None, None, None)
            seen.append(what_is_seen())
    return seen


def what_is_seen() -> Any:
    if not flask.has_request_context():
        return flask.has_app_context()
    marks = {name: g.get(name) for name in sorted(g)}
    return request.args["name"], session["user"], marks, flask.url_for("page")


@bounded
@given(
    st.lists(st.sampled_from(["ann", "ben", "copy", "leave", "mark"]), max_size=8),
    st.sampled_from([None, {"who": "x"}]),
)
def test_the_context(steps: list[str], identity: dict[str, Any] | None) -> None:
    assert walk(False, steps, identity) == walk(True, steps, identity)


@pytest.mark.parametrize("error", [None, Forbidden()])
def test_the_context_is_left_with_what_the_hook_raised(error: Exception | None) -> None:
    """A teardown function that is registered meanwhile ends the shortcut."""
    app = Flask("site")
    seen: list[BaseException | None] = []
    with app.test_request_context("/"):
        kept = Handshake.current()
    context = kept.hook_context()
    context.__enter__()
    app.teardown_appcontext(seen.append)
    context.__exit__(None if error is None else type(error), error, None)
    assert seen == [error]
    assert not flask.has_app_context()
