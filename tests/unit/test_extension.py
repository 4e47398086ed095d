"""The extension: setting applications up, what it refuses, and what requests get."""

from __future__ import annotations

import logging
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import flask
import pytest
from flask import Flask
from support.peers import UPGRADE_HEADERS

from flask_wsviews import (
    AsyncioWebSocket,
    Blueprint,
    ConfigError,
    EngineError,
    GeventWebSocket,
    RegistrationError,
    ServerError,
    UpgradeRequired,
    WebSocket,
    WebSocketClient,
    WebSocketMiddleware,
    WebSocketView,
    extension,
)
from flask_wsviews.engines import make_engine
from flask_wsviews.servers.uwsgi import command
from flask_wsviews.servers.uwsgi.command import DEBUG_VARIABLE


def talk(ws: Any, **view_args: Any) -> None: ...


async def later(ws: Any) -> None: ...


class Chat(WebSocketView):
    pass


class LateChat(WebSocketView):
    async def on_message(self, ws: Any, message: Any) -> None: ...


def websocket_rules(app: Flask) -> dict[str, str]:
    return {rule.rule: rule.endpoint for rule in app.url_map.iter_rules() if rule.websocket}


# -- setting up ---------------------------------------------------------------------------------


def test_set_up_by_the_constructor() -> None:
    app = Flask("site")
    ws = WebSocket(app)
    assert ws.app is app
    assert app.extensions["wsviews"] is ws
    assert type(app.wsgi_app) is WebSocketMiddleware
    assert ws.engine.name == "blocking"
    assert WebSocket.middleware.client is WebSocketClient


@pytest.mark.parametrize(
    "extension_class", [WebSocket, GeventWebSocket, AsyncioWebSocket], ids=lambda one: one.__name__
)
def test_a_middleware_of_ones_own(extension_class: Any) -> None:
    """Whether the package is compiled or not: its classes can be subclassed and extended."""

    class Client(extension_class.middleware.client):  # type: ignore[misc]
        pass

    class Middleware(extension_class.middleware):  # type: ignore[misc]
        client = Client

    app = Flask("site")
    middleware: Any = Middleware(app.wsgi_app, WebSocket(app))
    is_async = extension_class is AsyncioWebSocket
    assert middleware.client_for(SimpleNamespace(is_async=is_async)) is Client
    middleware.note = "set by an application"
    assert middleware.note == "set by an application"


def test_set_up_by_a_factory() -> None:
    ws = WebSocket()
    assert ws.app is None

    @ws.route("/talk/<room>", endpoint="talking", strict_slashes=False)
    def inner(ws: Any, room: str) -> None: ...

    assert inner.__name__ == "inner"
    ws.route("/chat")(Chat)
    blueprint = Blueprint("bp", __name__)
    blueprint.add_websocket_rule("/bp", "talk", talk)
    ws.register_blueprint(blueprint)
    app = Flask("site")
    ws.init_app(app)
    assert websocket_rules(app) == {"/talk/<room>": "talking", "/chat": "Chat", "/bp": "bp.talk"}


def test_rules_are_for_every_application() -> None:
    ws = WebSocket()
    ws.route("/before", subprotocols=["a"])(talk)
    one, two = Flask("one"), Flask("two")
    ws.init_app(one)
    ws.add_url_rule("/between", "between", Chat)
    ws.init_app(two)
    assert ws.app is two
    rules = {"/before": "talk", "/between": "between"}
    assert websocket_rules(one) == websocket_rules(two) == rules
    assert one.view_functions["talk"] is not two.view_functions["talk"]


def test_one_application_is_not_set_up_twice() -> None:
    ws = WebSocket()
    app = Flask("site")
    ws.init_app(app)
    wsgi_app = app.wsgi_app
    for other in (ws, WebSocket()):
        with pytest.raises(RegistrationError, match="WebSocket is already set up for 'site'"):
            other.init_app(app)
    assert app.wsgi_app is wsgi_app


@pytest.mark.parametrize(
    ("key", "value"),
    [("WSVIEWS_MAX_MESSAGE_SIZE", "1000"), ("WSVIEWS_ALLOWED_ORIGINS", "x"), ("WSVIEWS_TYPO", 1)],
)
def test_bad_configuration_is_found_at_once(key: str, value: Any) -> None:
    app = Flask("site")
    app.config[key] = value
    wsgi_app = app.wsgi_app
    with pytest.raises(ConfigError, match=key):
        WebSocket(app)
    assert app.wsgi_app == wsgi_app
    assert "wsviews" not in app.extensions


def test_the_timeout_is_a_default() -> None:
    ws = WebSocket(timeout=3)
    assert ws.read_settings({}).close_timeout == 3
    assert ws.read_settings({"WSVIEWS_CLOSE_TIMEOUT": 7}).close_timeout == 7
    assert WebSocket().read_settings({}).close_timeout == 5


# -- registration -------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [talk, Chat, Chat.as_view("Chat")])
def test_registered_rules(target: Any) -> None:
    app = Flask("site")
    WebSocket(app).add_url_rule("/<room>", view_func=target, defaults={"a": 1})
    [rule] = [rule for rule in app.url_map.iter_rules() if rule.websocket]
    assert rule.methods == {"GET", "HEAD"}
    assert rule.provide_automatic_options is False
    assert rule.defaults == {"a": 1}
    assert rule.endpoint == target.__name__


@pytest.mark.parametrize("target", [talk, Chat])
def test_a_target_can_have_two_rules(target: Any) -> None:
    app = Flask("site")
    ws = WebSocket(app)
    ws.route("/one")(ws.route("/two")(target))
    assert websocket_rules(app) == {"/one": target.__name__, "/two": target.__name__}


def test_an_endpoint_can_not_be_taken_twice() -> None:
    ws = WebSocket(Flask("site"))
    ws.add_url_rule("/one", "same", talk)
    with pytest.raises(AssertionError, match=r"overwriting an existing endpoint.*same"):
        ws.add_url_rule("/two", "same", lambda ws: None)


@pytest.mark.parametrize("target", [None, "talk", dict])
def test_what_is_no_view(target: Any) -> None:
    with pytest.raises(RegistrationError):
        WebSocket(Flask("site")).add_url_rule("/", "endpoint", target)


@pytest.mark.parametrize(
    ("target", "name"), [(later, "later"), (LateChat, r"LateChat\.on_message")]
)
def test_coroutines_need_an_engine_that_runs_them(target: Any, name: str) -> None:
    message = f"{name}: async def needs AsyncioWebSocket; WebSocket on the blocking engine"
    with pytest.raises(RegistrationError, match=message):
        WebSocket(Flask("site")).route("/")(target)
    unbound = WebSocket()
    unbound.route("/")(target)
    with pytest.raises(RegistrationError, match=message):
        unbound.init_app(Flask("site"))


def test_an_engine_may_run_coroutines(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Flask("site")
    ws = WebSocket()
    monkeypatch.setattr(ws.engine, "runs_coroutines", True, raising=False)
    ws.route("/later")(later)
    ws.init_app(app)
    ws.route("/chat")(LateChat)
    assert websocket_rules(app) == {"/later": "later", "/chat": "LateChat"}


def test_pages_may_be_coroutines() -> None:
    app = Flask("site")

    @app.route("/")
    async def page() -> str:
        return "a page"

    ws = WebSocket(app)
    ws.route("/talk")(talk)
    assert websocket_rules(app) == {"/talk": "talk"}


# -- engines ------------------------------------------------------------------------------------


def test_an_engine_that_does_not_exist() -> None:
    with pytest.raises(EngineError, match=r"'steam': use .*blocking.*gevent"):
        make_engine("steam")


def test_an_engine_without_its_library() -> None:
    # In another process: once compiled, a module that has been imported isn't imported again.
    code = """
import sys
sys.modules["gevent"] = None
from flask_wsviews import GeventWebSocket
GeventWebSocket()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "EngineError" in ended.stderr
    assert "pip install 'flask-wsviews[gevent]'" in ended.stderr


@pytest.mark.parametrize(
    ("uwsgi", "option"),
    [
        (SimpleNamespace(has_threads=0, loop=None), "--enable-threads"),
        (SimpleNamespace(has_threads=1, loop=b"gevent"), "GeventWebSocket"),
        (SimpleNamespace(has_threads=1, loop=b"asyncio"), "AsyncioWebSocket"),
    ],
)
def test_uwsgi_without_what_the_engine_needs(
    uwsgi: Any, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", uwsgi)
    monkeypatch.setitem(sys.modules, "gevent.monkey", None)
    app = Flask("site")
    with pytest.raises(EngineError, match=option):
        WebSocket(app)
    assert "wsviews" not in app.extensions


def test_uwsgi_with_what_the_engine_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    uwsgi = SimpleNamespace(has_threads=1, loop=None, worker_id=lambda: 1)
    monkeypatch.setitem(sys.modules, "uwsgi", uwsgi)
    app = Flask("site")
    WebSocket(app)
    assert "wsviews" in app.extensions


# -- running ------------------------------------------------------------------------------------


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What uWSGI would have been started with."""
    calls: list[tuple[Any, ...]] = []
    for module in (extension, command):
        monkeypatch.setattr(module, "run_uwsgi", lambda *args, **kw: calls.append((*args, kw)))
    return calls


def test_app_run_starts_uwsgi(started: list[tuple[Any, ...]]) -> None:
    app = Flask("site")
    WebSocket(app)
    app.run()
    app.run("0.0.0.0", 80, True, gevent=100)
    app.run(host=None, port=None, debug=None)
    app.debug = True
    app.run(uwsgi_binary="mine")
    assert started == [
        (app, False, "localhost", 5000, {}),
        (app, True, "0.0.0.0", 80, {"gevent": 100}),
        (app, False, "localhost", 5000, {}),
        (app, True, "localhost", 5000, {"uwsgi_binary": "mine"}),
    ]


def test_the_extensions_run(started: list[tuple[Any, ...]]) -> None:
    app = Flask("site")
    ws = WebSocket()
    with pytest.raises(RegistrationError, match="init_app"):
        ws.run()
    ws.run("module:app", host="::1")
    ws.init_app(app)
    ws.run(debug=True, port=80, master=False)
    ws.run("module:factory()", uwsgi_binary="mine")
    app.debug = True
    ws.run()
    assert started == [
        ("module:app", False, "::1", 5000, None, {}),
        (app, True, "localhost", 80, None, {"master": False}),
        ("module:factory()", False, "localhost", 5000, "mine", {}),
        (app, True, "localhost", 5000, None, {}),
    ]


def test_two_applications_run_each_itself(started: list[tuple[Any, ...]]) -> None:
    ws = WebSocket()
    one, two = Flask("one"), Flask("two")
    ws.init_app(one)
    ws.init_app(two)
    one.run()
    assert started[0][0] is one


class Debugger:
    """Stands for Werkzeug's, which keeps shared memory for the life of the process."""

    def __init__(self, app: Any, evalex: bool) -> None:
        self.app = app
        self.evalex = evalex


def test_the_debugger_is_wrapped_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DEBUG_VARIABLE, "true")
    monkeypatch.setattr("werkzeug.debug.DebuggedApplication", Debugger)
    app = Flask("site")
    wsgi_app = app.wsgi_app
    WebSocket(app)
    assert app.debug
    assert isinstance(app.wsgi_app, WebSocketMiddleware)
    debugger = app.wsgi_app.wsgi_app
    assert isinstance(debugger, Debugger)
    assert debugger.evalex is True
    assert debugger.app == wsgi_app


def test_no_debugger_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DEBUG_VARIABLE, raising=False)
    app = Flask("site")
    wsgi_app = app.wsgi_app
    WebSocket(app)
    assert not app.debug
    assert isinstance(app.wsgi_app, WebSocketMiddleware)
    assert app.wsgi_app.wsgi_app == wsgi_app


# -- requests -----------------------------------------------------------------------------------


@pytest.fixture
def app() -> Flask:
    app = Flask("site")
    app.add_url_rule("/page", "page", lambda: "a page", methods=["GET", "POST"])
    ws = WebSocket(app)
    ws.route("/talk")(talk)
    ws.route("/both", endpoint="both")(talk)
    app.add_url_rule("/both", "both_page", lambda: "both")
    return app


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_pages_are_served_as_ever(app: Flask, method: str) -> None:
    response = app.test_client().open("/page", method=method)
    assert response.status_code == 200
    assert response.text == "a page"


def test_a_page_beside_a_websocket(app: Flask) -> None:
    assert app.test_client().get("/both").text == "both"


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/talk", {}, 426),
        ("/talk", {"Connection": "Upgrade"}, 426),
        ("/talk", {"Connection": "Upgrade", "Upgrade": "h2c"}, 426),
        ("/talk", {**UPGRADE_HEADERS, "Connection": "close"}, 400),
        ("/talk", {**UPGRADE_HEADERS, "Sec-WebSocket-Version": "8"}, 426),
        ("/talk", {**UPGRADE_HEADERS, "Sec-WebSocket-Key": "short"}, 400),
        ("/talk", {**UPGRADE_HEADERS, "Origin": "https://evil.org"}, 403),
        ("/page", UPGRADE_HEADERS, 400),
        ("/nowhere", UPGRADE_HEADERS, 404),
        ("/nowhere", {}, 404),
    ],
)
def test_refusals(app: Flask, path: str, headers: dict[str, str], status: int) -> None:
    response = app.test_client().get(path, headers=headers)
    assert response.status_code == status
    assert response.content_type.startswith("text/html")
    if status == 426:
        assert response.headers["Upgrade"] == "websocket"
        assert response.headers["Sec-WebSocket-Version"] == "13"


@pytest.mark.parametrize(
    ("path", "headers", "kind"),
    [
        ("/talk", {}, UpgradeRequired),
        ("/talk", {**UPGRADE_HEADERS, "Sec-WebSocket-Version": "8"}, UpgradeRequired),
        ("/page", UPGRADE_HEADERS, 400),
        ("/talk", {**UPGRADE_HEADERS, "Connection": "close"}, 400),
        ("/talk", {**UPGRADE_HEADERS, "Origin": "https://evil.org"}, 403),
    ],
)
def test_refusals_have_the_applications_error_pages(
    app: Flask, path: str, headers: dict[str, str], kind: Any
) -> None:
    app.register_error_handler(kind, lambda error: (f"own page: {error.description}", error.code))
    response = app.test_client().get(path, headers=headers)
    assert response.text.startswith("own page: ")
    assert response.status_code == (426 if kind is UpgradeRequired else kind)


@pytest.mark.parametrize(
    ("origin", "configured", "attribute", "allowed"),
    [
        ("http://localhost", [], (), True),
        ("https://a.org", ["https://a.org"], (), True),
        ("https://a.org", [], ["https://a.org"], True),
        ("https://a.org", [], "*", True),
        ("https://a.org", "*", (), True),
        ("https://a.org", ["https://b.org"], ["https://c.org"], False),
    ],
)
def test_origins(origin: str, configured: Any, attribute: Any, allowed: bool) -> None:
    app = Flask("site")
    app.testing = True
    app.config["WSVIEWS_ALLOWED_ORIGINS"] = configured
    WebSocket(app).add_url_rule("/talk", "talk", talk, allowed_origins=attribute)
    client = app.test_client()
    headers = {**UPGRADE_HEADERS, "Origin": origin}
    if allowed:
        # It gets as far as the socket, which this client doesn't have.
        with pytest.raises(ServerError, match="gives no access to the client's socket"):
            client.get("/talk", headers=headers)
    else:
        assert client.get("/talk", headers=headers).status_code == 403


def test_a_before_request_function_may_refuse(app: Flask) -> None:
    app.before_request(lambda: flask.abort(401))
    assert app.test_client().get("/talk", headers=UPGRADE_HEADERS).status_code == 401


def test_a_server_without_sockets_is_named(app: Flask) -> None:
    app.testing = True
    with pytest.raises(ServerError, match=r"^SomeServer/1\.0 gives no access"):
        app.test_client().get(
            "/talk",
            headers=UPGRADE_HEADERS,
            environ_overrides={"SERVER_SOFTWARE": "SomeServer/1.0"},
        )


# -- which engine -------------------------------------------------------------------------------


def uwsgi_with(loop: bytes | None = None, **options: Any) -> SimpleNamespace:
    return SimpleNamespace(has_threads=1, loop=loop, opt=options, worker_id=lambda: 1)


@pytest.mark.parametrize(
    ("uwsgi", "name"),
    [
        (uwsgi_with(threads=b"8"), "blocking"),
        (uwsgi_with(), "asyncio"),
        (uwsgi_with(b"asyncio", asyncio=b"10", greenlet=True), "asyncio"),
        (None, "blocking"),
    ],
)
def test_the_server_chooses_the_engine(
    uwsgi: SimpleNamespace | None,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if uwsgi is not None:
        monkeypatch.setitem(sys.modules, "uwsgi", uwsgi)
    websocket = WebSocket(engine="auto")
    with pytest.raises(EngineError, match="when an application is set up"):
        _ = websocket.engine
    with caplog.at_level(logging.INFO, "flask_wsviews"):
        websocket.init_app(Flask(__name__))
    assert websocket.engine.name == name
    assert caplog.messages == [f"the {name} engine fits this server"]


def test_the_configuration_overrides_the_engine() -> None:
    app = Flask(__name__)
    app.config["WSVIEWS_ENGINE"] = "asyncio"
    assert WebSocket(app, engine="blocking").engine.name == "asyncio"
    app = Flask(__name__)
    app.config["WSVIEWS_ENGINE"] = "steam"
    with pytest.raises(EngineError, match="use auto, asyncio, blocking, gevent"):
        WebSocket(app)


@pytest.mark.parametrize("engine", [1, True, b"asyncio"])
def test_an_engine_is_a_name(engine: Any) -> None:
    app = Flask(__name__)
    app.config["WSVIEWS_ENGINE"] = engine
    with pytest.raises(ConfigError, match="WSVIEWS_ENGINE must be a name"):
        WebSocket(app)
