"""Middlewares that an application makes itself, as it could with the old package."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import uvloop
from flask import Flask
from support.peers import UPGRADE_HEADERS
from support.servers import poll
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.profiler import ProfilerMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

import flask_wsviews
from flask_wsviews import (
    AsyncioWebSocket,
    Blueprint,
    RegistrationError,
    WebSocket,
    WebSocketClient,
    WebSocketMiddleware,
)
from flask_wsviews.handshake.wrapping import wrapped
from flask_wsviews.servers.uwsgi.command import DEBUG_VARIABLE
from flask_wsviews.testing import websocket_connect

# libuv opens a pipe for signals with its first loop, and keeps it.
uvloop.new_event_loop().close()

FLAVOURS = ("WebSocket", "GeventWebSocket", "AsyncioWebSocket")
PAIRS = list(itertools.product(FLAVOURS, FLAVOURS))


def echo(ws: Any) -> None:
    for message in ws:
        ws.send(message)


@contextmanager
def stopping(*extensions: WebSocket) -> Iterator[None]:
    with ExitStack() as stack:
        for extension in extensions:
            stack.callback(extension.stop)
        yield


def assert_echoes(app: Flask, path: str = "/echo") -> None:
    with app.test_client() as client, websocket_connect(client, path) as ws:
        ws.send("hello")
        assert ws.receive() == "hello"


def direct(app: Flask, middleware: Any, extension: Any) -> WebSocket:
    """Without ``init_app()``, and the rule after that."""
    websocket: WebSocket = extension()
    app.wsgi_app = middleware(app.wsgi_app, websocket)  # type: ignore[method-assign]
    websocket.route("/echo")(echo)
    return websocket


def rules_first(app: Flask, middleware: Any, extension: Any) -> WebSocket:
    websocket: WebSocket = extension()
    websocket.route("/echo")(echo)
    app.wsgi_app = middleware(app.wsgi_app, websocket)  # type: ignore[method-assign]
    return websocket


def init_app_later(app: Flask, middleware: Any, extension: Any) -> WebSocket:
    websocket = rules_first(app, middleware, extension)
    websocket.init_app(app)
    return websocket


def init_app_before(app: Flask, middleware: Any, extension: Any) -> WebSocket:
    """Wrapped twice."""
    websocket: WebSocket = extension()
    websocket.init_app(app)
    return wrap_again(app, middleware, websocket)


def in_one_line(app: Flask, middleware: Any, extension: Any) -> WebSocket:
    """The application is set up while the line is evaluated."""
    made = middleware(app.wsgi_app, extension(app))
    app.wsgi_app = made  # type: ignore[method-assign]
    websocket: WebSocket = made.websocket
    websocket.route("/echo")(echo)
    return websocket


def wrap_again(app: Flask, middleware: Any, websocket: WebSocket) -> WebSocket:
    app.wsgi_app = middleware(app.wsgi_app, websocket)  # type: ignore[method-assign]
    websocket.route("/echo")(echo)
    return websocket


def behind_others(app: Flask, middleware: Any, extension: Any) -> WebSocket:
    app.wsgi_app = ProfilerMiddleware(ProxyFix(app.wsgi_app), stream=None)  # type: ignore[method-assign]
    websocket = rules_first(app, middleware, extension)
    app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]
    return websocket


WAYS = [direct, rules_first, init_app_later, init_app_before, in_one_line, behind_others]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize(("middleware", "extension"), PAIRS, ids="-".join)
def test_every_middleware_with_every_extension(
    middleware: str, extension: str, way: Callable[..., WebSocket]
) -> None:
    app = Flask("site")
    app.add_url_rule("/page", "page", lambda: "a page")
    middleware_class = getattr(flask_wsviews, f"{middleware}Middleware")
    websocket = way(app, middleware_class, getattr(flask_wsviews, extension))
    with stopping(websocket):
        assert_echoes(app)
        assert app.test_client().get("/page").text == "a page"
        assert app.test_client().get("/echo").status_code == 426
        assert (websocket.engine.connections, websocket.admission._count) == (0, 0)


def test_the_outer_of_two_middlewares_makes_the_client() -> None:
    class Client(WebSocketClient):
        name = "mine"

    class Middleware(WebSocketMiddleware):
        client = Client

    app = Flask("site")
    websocket = WebSocket(app)
    app.wsgi_app = Middleware(app.wsgi_app, websocket)  # type: ignore[method-assign]

    @websocket.route("/name")
    def name(ws: Any) -> None:
        ws.send(ws.name)

    with (
        stopping(websocket),
        app.test_client() as client,
        websocket_connect(client, "/name") as ws,
    ):
        assert ws.receive() == "mine"


def test_what_watches_connections_watches_those_of_a_middleware_made_by_hand(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for way in (direct, in_one_line, init_app_before):
        caplog.clear()
        app = Flask("site")
        websocket = way(app, WebSocketMiddleware, WebSocket)
        with caplog.at_level(logging.INFO, "flask_wsviews.connections"), stopping(websocket):
            assert_echoes(app)
            # The thread of the connection logs its end.
            poll(lambda: "endpoint='echo'" in caplog.text)
        assert caplog.text.count("endpoint='echo'") == 1


def test_coroutines_on_a_middleware_made_by_hand() -> None:
    app = Flask("site")
    websocket = AsyncioWebSocket()
    app.wsgi_app = WebSocketMiddleware(app.wsgi_app, websocket)  # type: ignore[method-assign]

    @websocket.route("/echo")
    async def echo(ws: Any) -> None:
        async for message in ws:
            await ws.send(message)

    with stopping(websocket):
        assert_echoes(app)


def test_an_application_mounted_in_another() -> None:
    """Each has an extension: that of the application which serves the path takes the socket."""
    outer, inner = Flask("outer"), Flask("inner")
    one, other = WebSocket(inner), WebSocket(outer)
    one.route("/echo")(echo)
    mounted = DispatcherMiddleware(outer.wsgi_app, {"/inner": inner})
    outer.wsgi_app = WebSocketMiddleware(mounted, other)  # type: ignore[method-assign]
    other.route("/echo")(echo)
    with stopping(one, other):
        assert_echoes(outer)
        assert_echoes(outer, "/inner/echo")
        assert one.engine is not other.engine


def test_a_middleware_that_finds_no_application() -> None:
    def wsgi_app(environ: Any, start_response: Any) -> list[bytes]:
        return []

    with pytest.raises(RegistrationError, match=r"GeventWebSocketMiddleware: .* init_app\(app\)"):
        flask_wsviews.GeventWebSocketMiddleware(wsgi_app, WebSocket())


def test_a_middleware_with_another_extension() -> None:
    app = Flask("site")
    websocket = WebSocket(app)
    wsgi_app = app.wsgi_app
    with pytest.raises(RegistrationError, match="another extension is set up for 'site'"):
        WebSocketMiddleware(app.wsgi_app, WebSocket())
    assert app.wsgi_app is wsgi_app
    assert app.extensions["wsviews"] is websocket


def test_an_application_is_still_set_up_once() -> None:
    app = Flask("site")
    websocket = direct(app, WebSocketMiddleware, WebSocket)
    websocket.init_app(app)
    for other in (websocket, WebSocket()):
        with pytest.raises(RegistrationError, match="is already set up"):
            other.init_app(app)
    assert sum(isinstance(one, WebSocketMiddleware) for one in wrapped(app.wsgi_app)) == 1


def test_init_app_wraps_where_the_middleware_went_elsewhere() -> None:
    app = Flask("site")
    websocket = WebSocket()
    websocket.route("/echo")(echo)
    WebSocketMiddleware(app.wsgi_app, websocket)
    websocket.init_app(app)
    with stopping(websocket):
        assert_echoes(app)


def test_the_debugger_is_within_a_middleware_made_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    class Debugger:
        def __init__(self, app: Any, evalex: bool) -> None:
            self.app = app

    monkeypatch.setenv(DEBUG_VARIABLE, "1")
    monkeypatch.setattr("werkzeug.debug.DebuggedApplication", Debugger)
    app = Flask("site")
    websocket = direct(app, WebSocketMiddleware, WebSocket)
    assert isinstance(app.wsgi_app, WebSocketMiddleware)
    assert isinstance(app.wsgi_app.wsgi_app, Debugger)
    assert app.debug
    websocket.stop()


# -- an extension without an application --------------------------------------------------------


@pytest.mark.parametrize("extension", FLAVOURS)
def test_a_handshake_for_an_extension_without_an_application(
    extension: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = Flask("site")
    websocket = getattr(flask_wsviews, extension)()
    websocket.route("/echo")(echo)
    client = app.test_client()
    assert client.get("/echo", headers=UPGRADE_HEADERS).status_code == 404
    assert f"{extension}() has rules but no application: call its init_app(app)" in caplog.text
    caplog.clear()
    # Pages that don't exist are nobody's fault.
    assert client.get("/echo").status_code == 404
    other = Flask("other")
    websocket.init_app(other)
    assert client.get("/echo", headers=UPGRADE_HEADERS).status_code == 404
    assert not caplog.text
    websocket.stop()


def test_a_blueprint_of_an_application_without_an_extension(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = Flask("site")
    blueprint = Blueprint("chat", __name__)
    blueprint.websocket("/echo")(echo)
    app.register_blueprint(blueprint)
    assert app.test_client().get("/echo", headers=UPGRADE_HEADERS).status_code == 500
    assert "no WebSocket(app) handles this application" in caplog.text
