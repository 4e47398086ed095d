"""Mistakes in views: each is found at registration or when it runs, and named with its fix."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import FunctionType, MethodType
from typing import Any

import pytest
import uvloop
from flask import Flask
from hypothesis import given, reject
from hypothesis import strategies as st
from support.engines import EXTENSIONS

import flask_wsviews
from flask_wsviews import (
    AsyncioWebSocket,
    Blueprint,
    ConnectionClosed,
    RegistrationError,
    WebSocket,
    WebSocketView,
    message,
)
from flask_wsviews.common.steps import is_coroutine_function
from flask_wsviews.registration import mistakes
from flask_wsviews.testing import HandshakeRejected, websocket_connect

# libuv opens a pipe for signals with its first loop, and keeps it.
uvloop.new_event_loop().close()


def view(bases: tuple[type[Any], ...] = (WebSocketView,), **attributes: Any) -> type[WebSocketView]:
    return type("Chat", bases, attributes)


def register(target: Any, rule: str = "/", extension: Any = WebSocket, **options: Any) -> Flask:
    app = Flask("site")
    extension(app).add_url_rule(rule, view_func=target, **options)
    return app


def refused(target: Any, match: str, rule: str = "/", **options: Any) -> None:
    """It is refused on the application, and on a blueprint that is registered in either order."""
    with pytest.raises(RegistrationError, match=match):
        register(target, rule, AsyncioWebSocket, endpoint="chat", **options)
    for register_on in (_blueprint_first, _extension_first, _extension_without_application):
        with pytest.raises(RegistrationError, match=match):
            register_on(rule, target, options)


def _blueprint_first(rule: str, target: Any, options: Any) -> None:
    app = Flask("site")
    _on_blueprint(app, rule, target, options)
    AsyncioWebSocket(app)


def _extension_first(rule: str, target: Any, options: Any) -> None:
    app = Flask("site")
    AsyncioWebSocket(app)
    _on_blueprint(app, rule, target, options)


def _on_blueprint(app: Flask, rule: str, target: Any, options: Any) -> None:
    blueprint = Blueprint("bp", "bp", url_prefix="/bp")
    blueprint.add_websocket_rule(rule, "chat", target, **options)
    app.register_blueprint(blueprint)


def _extension_without_application(rule: str, target: Any, options: Any) -> None:
    websocket = AsyncioWebSocket()
    websocket.add_url_rule(rule, "chat", target, **options)
    websocket.init_app(Flask("site"))


def method(*_: Any, **__: Any) -> None: ...


# -- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("on_mesage", "did you mean on_message?"),
        ("on_messages", "did you mean on_message?"),
        ("on_conect", "did you mean on_connect?"),
        ("on_closed", "did you mean on_close?"),
        ("on_open", "did you mean on_connect?"),
        ("on_disconnect", "did you mean on_close?"),
        ("onmessage", "did you mean on_message?"),
        ("onMessage", "did you mean on_message?"),
        ("on_Message", "did you mean on_message?"),
        ("on_hand_shake", "did you mean on_handshake?"),
        ("on_xyzzy", "hooks are on_handshake, "),
        ("authorise_group", "did you mean authorize_group?"),
        ("authorize_groups", "did you mean authorize_group?"),
        ("resume_form", "did you mean resume_from?"),
        ("members_meta", "did you mean member_meta?"),
        ("rate_limits_key", "did you mean rate_limit_key?"),
    ],
)
def test_a_name_that_is_no_hook(name: str, meant: str) -> None:
    refused(view(**{name: method}), rf"Chat\.{name} isn't a hook.*{meant.replace('?', '[?]')}")
    refused(view(**{name: staticmethod(method)}), name)

    async def later(*_: Any) -> None: ...

    refused(view(**{name: later}), name)


@pytest.mark.parametrize("value", [None, "echo", 5, property(lambda self: 5)], ids=type)
@pytest.mark.parametrize("hook", ["on_message", "on_close", "resume_from", "on_handshake"])
def test_a_hook_that_can_not_be_called(hook: str, value: Any) -> None:
    refused(view(**{hook: value}), rf"Chat\.{hook} is .*, which can't be called")


@pytest.mark.parametrize(
    "value", ["chat", b"chat", ["a b"], [""], [5], None, 5], ids=lambda value: repr(value)
)
def test_subprotocols_that_no_client_can_offer(value: Any) -> None:
    refused(view(subprotocols=value), r'Chat\.subprotocols must be a list such as \["chat\.v1"\]')
    refused(talk, "subprotocols of 'chat' must be a list", subprotocols=value)


@pytest.mark.parametrize("value", ["no", 1, None])
def test_presence_that_is_no_flag(value: Any) -> None:
    error = "presence must be True or False"
    refused(view(groups=["lobby"], presence=value), error)
    refused(talk, error, groups=["lobby"], presence=value)


def test_emits_that_is_no_dict() -> None:
    with pytest.raises(RegistrationError, match=r"Chat\.emits must be a dict"):
        view(emits=["said"])


@pytest.mark.parametrize(
    ("name", "meant"), [("group", "groups"), ("allowed_origin", "allowed_origins")]
)
@pytest.mark.parametrize("where", ["extension", "blueprint"])
def test_a_misspelt_option(where: str, name: str, meant: str) -> None:
    app = Flask("site")
    websocket = WebSocket(app)
    route = websocket.route if where == "extension" else Blueprint("bp", "bp").websocket
    with pytest.raises(RegistrationError, match=f"no option {name}: did you mean {meant}[?]"):
        route("/chat", **{name: ["lobby"]})(lambda ws: None)


def test_a_misspelt_hook_of_a_base_or_a_mixin() -> None:
    base = view(on_mesage=method)
    refused(view((base,)), "on_mesage")
    mixin = type("Mixin", (), {"on_mesage": method})
    refused(view((mixin, WebSocketView)), r"Mixin\.on_mesage.*did you mean on_message")


@pytest.mark.parametrize(
    "target",
    [
        view(_on_mesage=method, on_message=method),
        view(on_mesage=5, on_message=method),
        view((type("Mixin", (), {"on_event": method, "open": method}), WebSocketView)),
        view(message=method, close=method, connect=method, handshake=method, say=method),
        view(authorize_group=method, authorize_groups=method),
        view(on_say=message("say")(lambda self, ws, data: None)),
        view(on_close=functools.partialmethod(method)),
        view(
            (view(on_say=message("say")(lambda self, ws, data: None)),),
            on_say=lambda self, ws, data: None,
        ),
    ],
    ids=[
        *("private", "value", "mixin", "other", "helper", "handler", "partial"),
        "overridden-handler",
    ],
)
def test_names_that_are_fine(target: Any) -> None:
    register(target)


# -- signatures ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hook", "function", "definition"),
    [
        ("on_message", lambda self, ws: None, r"on_message\(self, ws, message\)"),
        ("on_message", lambda self: None, "on_message"),
        ("on_message", lambda self, ws, message, more: None, "on_message"),
        ("on_close", lambda self, ws: None, r"on_close\(self, ws, code, reason\)"),
        ("on_close", lambda self, ws, code: None, "on_close"),
        ("on_error", lambda self, ws: None, r"on_error\(self, ws, error\)"),
        ("on_invalid", lambda self: None, r"on_invalid\(self, ws, error\)"),
        ("on_joined", lambda self, ws: None, r"on_joined\(self, ws, joined\)"),
        ("authorize_group", lambda self, ws: None, r"authorize_group\(self, ws, group\)"),
        ("resume_from", lambda self, ws: None, r"resume_from\(self, ws, group\)"),
        ("member_meta", lambda self, ws: None, r"member_meta\(self, ws, group\)"),
        ("say", message("say")(lambda self, ws: None), r"say\(self, ws, data\)"),
    ],
)
def test_a_hook_that_can_not_take_its_arguments(hook: str, function: Any, definition: str) -> None:
    refused(view(**{hook: function}), rf"Chat\.{hook} can't be called with ws.*{definition}")


@pytest.mark.parametrize("hook", ["on_handshake", "on_connect", "rate_limit_key"])
@pytest.mark.parametrize(
    ("rule", "function", "problem"),
    [
        ("/<room>", lambda self, ws: None, "'room'"),
        ("/<int:room>/<seat>", lambda self, ws, room: None, "'seat'"),
        ("/", lambda self, ws, room: None, "'room'"),
        ("/<rom>", lambda self, ws, room: None, "'roo?m'"),
        ("/<room>", lambda self, ws, room, /: None, "room"),
        ("/<room>", lambda self: None, "ws|room|positional"),
    ],
    ids=["missing", "one-missing", "extra", "misspelt", "positional-only", "none"],
)
def test_a_hook_that_can_not_take_the_variables(
    hook: str, rule: str, function: Any, problem: str
) -> None:
    refused(
        view(**{hook: function}), rf"Chat\.{hook} can't be called for the rule.*{problem}", rule
    )


@pytest.mark.parametrize(
    ("rule", "function", "options"),
    [
        ("/<room>", lambda ws: None, {}),
        ("/", lambda ws, room: None, {}),
        ("/", lambda: None, {}),
        ("/<room>", functools.partial(lambda x, ws: None, 1), {}),
        ("/", lambda ws: None, {"defaults": {"room": "lobby"}}),
    ],
    ids=["missing", "extra", "no-ws", "partial", "defaults"],
)
def test_a_function_that_can_not_take_the_variables(
    rule: str, function: Any, options: dict[str, Any]
) -> None:
    refused(function, r"chat\(\) can't be called for the rule", rule, **options)


def passing(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def adding_user(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, user="me", **kwargs)

    return wrapper


class Talking:
    def __call__(self, ws: Any, room: str) -> None: ...


@pytest.mark.parametrize(
    ("rule", "target", "options"),
    [
        ("/<room>", view(on_connect=lambda self, ws, room, more=None: None), {}),
        ("/<room>", view(on_connect=lambda self, ws, **view_args: None), {}),
        ("/<room>", view(on_connect=lambda *args, **view_args: None), {}),
        ("/<room>", view(on_connect=lambda self, ws, *, room: None), {}),
        ("/<room>", view(on_connect=lambda self, client, room: None), {}),
        ("/<room>", view(on_connect=staticmethod(lambda ws, room: None)), {}),
        ("/<room>", view(on_connect=classmethod(lambda cls, ws, room: None)), {}),
        ("/<room>", view(on_connect=adding_user(lambda self, ws, room, user: None)), {}),
        ("/", view(on_connect=functools.partialmethod(method, "x")), {}),
        ("/", lambda ws, room: None, {"defaults": {"room": "lobby"}}),
        ("/<room>", lambda ws, room: None, {"defaults": {"room": "lobby"}}),
        ("/", lambda ws, room="lobby": None, {}),
        ("/<room>", passing(lambda ws, room: None), {}),
        ("/<room>", Talking(), {}),
        ("/<room>", functools.partial(lambda x, ws, room: None, 1), {}),
        ("/<any(a, b):room>", lambda ws, room: None, {}),
        ("/<string(length=2):room>", lambda ws, room: None, {}),
        ("/", view(on_message=lambda self, ws, text, *more: None), {}),
        # A decorator of the view may take a variable, or add one.
        ("/<room>", lambda ws: None, {"decorators": [passing]}),
        ("/<room>", view(decorators=[passing], on_connect=lambda self, ws: None), {}),
        ("/<room>", passing(view(on_connect=lambda self, ws: None).as_view("v")), {}),
        (
            "/<room>",
            view(
                on_connect=lambda self, ws: None,
                dispatch_request=lambda self, room: WebSocketView.dispatch_request(self),
            ),
            {},
        ),
    ],
)
def test_signatures_that_fit(rule: str, target: Any, options: dict[str, Any]) -> None:
    register(target, rule, endpoint="chat", **options)
    app = Flask("site")
    WebSocket(app)
    blueprint = Blueprint("bp", "bp", url_prefix="/bp")
    blueprint.add_websocket_rule(rule, "chat", target, **options)
    app.register_blueprint(blueprint)


def test_several_rules_of_one_endpoint() -> None:
    def talk(ws: Any, room: str = "lobby") -> None: ...

    app = Flask("site")
    websocket = WebSocket(app)
    websocket.route("/talk")(websocket.route("/talk/<room>")(talk))
    with pytest.raises(RegistrationError, match=r"'/seats/<seat>'.*'seat'"):
        websocket.route("/seats/<seat>")(talk)


def test_variables_of_a_blueprints_prefix() -> None:
    app = Flask("site")
    WebSocket(app)
    outer = flask_wsviews.Blueprint("outer", "outer", url_prefix="/<lang>")
    inner = flask_wsviews.Blueprint("inner", "inner")
    inner.add_websocket_rule("/<room>", "talk", lambda ws, lang, room: None)
    outer.register_blueprint(inner)
    app.register_blueprint(outer)
    inner = flask_wsviews.Blueprint("other", "other", url_prefix="/<lang>")
    inner.add_websocket_rule("/<room>/other", "talk", lambda ws, room: None)
    with pytest.raises(RegistrationError, match="'lang'"):
        app.register_blueprint(inner)


@pytest.mark.parametrize("where", ["app", "blueprint"])
def test_variables_that_a_preprocessor_takes_away(where: str) -> None:
    app = Flask("site")
    websocket = WebSocket(app)
    blueprint = Blueprint("bp", "bp", url_prefix="/<lang>")

    def take(endpoint: Any, values: Any) -> None:
        values.pop("lang")

    (app if where == "app" else blueprint).url_value_preprocessor(take)
    blueprint.add_websocket_rule("/talk", "talk", lambda ws: ws.send("hello"))
    app.register_blueprint(blueprint)
    with app.test_client() as client, websocket_connect(client, "/en/talk") as ws:
        assert ws.receive() == "hello"
    websocket.stop()


def test_a_class_that_takes_arguments() -> None:
    class Chat(WebSocketView):
        def __init__(self, database: Any) -> None: ...

    refused(Chat, r"Chat\(\) can't be called without arguments.*as_view")
    register(Chat.as_view("chat", "database"))


def test_as_view_that_was_not_called() -> None:
    refused(view().as_view, r'Chat\.as_view\("chat"\)')


@pytest.mark.parametrize("decorator", ["route", "websocket", "message"])
def test_a_decorator_without_parentheses(decorator: str) -> None:
    functions: dict[str, Callable[[Any], Any]] = {
        "route": WebSocket(Flask("site")).route,
        "websocket": Blueprint("bp", "bp").websocket,
        "message": message,
    }
    with pytest.raises(RegistrationError, match=r"parentheses|message of talk needs a type"):

        @functions[decorator]
        def talk(ws: Any) -> None: ...


# -- generators and coroutines ------------------------------------------------------------------


def generator(*_: Any, **__: Any) -> Any:
    yield 1


async def async_generator(*_: Any, **__: Any) -> Any:
    yield 1


async def coroutine(*_: Any, **__: Any) -> None: ...


class Generating:
    def __call__(self, ws: Any) -> Any:
        yield 1


class Awaiting:
    async def __call__(self, *_: Any, **__: Any) -> None: ...


EVERY_HOOK = [
    *("on_handshake", "authorize_group", "resume_from", "member_meta", "on_joined", "on_connect"),
    *("on_message", "on_invalid", "on_close", "on_error", "on_pong", "rate_limit_key"),
]


@pytest.mark.parametrize("made", [generator, async_generator], ids=["generator", "async-generator"])
@pytest.mark.parametrize("hook", [*EVERY_HOOK, "handler"])
def test_a_generator_as_a_hook(made: Any, hook: str) -> None:
    # A copy, since the decorator marks the function that it is given.
    made = FunctionType(made.__code__, globals(), made.__name__)
    attributes = {"handler": message("say")(made)} if hook == "handler" else {hook: made}
    refused(view(**attributes), rf"Chat\.{hook} is a generator")


@pytest.mark.parametrize(
    "made", [generator, async_generator, functools.partial(generator), Generating()]
)
def test_a_generator_as_a_function_route(made: Any) -> None:
    refused(made, "is a generator")


@pytest.mark.parametrize("hook", [*EVERY_HOOK, "handler"])
def test_a_coroutine_behind_a_plain_decorator(hook: str) -> None:
    made = passing(coroutine)
    attributes = {"handler": message("say")(made)} if hook == "handler" else {hook: made}
    refused(view(**attributes), rf"Chat\.{hook} is async def behind a decorator")


def test_a_function_route_behind_a_plain_decorator() -> None:
    refused(passing(coroutine), r"chat\(\) is async def behind a decorator")
    refused(functools.partial(passing(coroutine)), "is async def behind a decorator")


def running(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return asyncio.run(function(*args, **kwargs))

    return wrapper


def test_a_decorator_that_runs_the_coroutine() -> None:
    register(view(on_message=running(coroutine)))
    register(running(coroutine), endpoint="chat")


@pytest.mark.parametrize(
    "target",
    [Awaiting(), functools.partial(Awaiting()), functools.partial(coroutine)],
    ids=["object", "partial-object", "partial"],
)
def test_what_is_a_coroutine_function_in_disguise(target: Any) -> None:
    assert is_coroutine_function(target)
    with pytest.raises(RegistrationError, match="async def needs AsyncioWebSocket"):
        register(target, endpoint="chat")
    with pytest.raises(RegistrationError, match=r"Chat\.on_message: async def"):
        register(view(on_message=target))
    register(target, extension=AsyncioWebSocket, endpoint="chat")


def hiding(function: Any) -> Any:
    """A decorator that leaves no trace."""
    return lambda *args, **kwargs: function(*args, **kwargs)


@pytest.fixture(params=EXTENSIONS)
def websocket(request: pytest.FixtureRequest) -> Iterator[WebSocket]:
    app = Flask("site")
    made: WebSocket = getattr(flask_wsviews, request.param)(app)
    yield made
    made.stop()


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (coroutine, "returned a coroutine that nothing awaits"),
        (generator, "returned a generator that nothing iterates"),
        (async_generator, "returned a generator that nothing iterates"),
    ],
    ids=["coroutine", "generator", "async-generator"],
)
@pytest.mark.parametrize(
    "hook", ["on_connect", "on_message", "handler", "authorize_group", "function"]
)
def test_what_is_seen_only_when_it_runs(
    websocket: WebSocket, made: Any, text: str, hook: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = websocket.app
    assert app is not None
    hidden = hiding(made)
    if hook == "function":
        websocket.add_url_rule("/", "chat", hidden)
    elif hook == "handler":
        websocket.add_url_rule("/", "chat", view(handler=message("say")(hidden)))
    else:
        websocket.add_url_rule("/", "chat", view(groups=["lobby"], **{hook: hidden}))
    with app.test_client() as client, websocket_connect(client, "/") as ws:
        with suppress(ConnectionClosed):
            ws.send('{"type": "say"}')
        ws.assert_closed(1011)
    assert text in caplog.text


def test_an_object_that_is_async_runs() -> None:
    class Talk:
        async def __call__(self, ws: Any) -> None:
            await ws.send(await ws.receive())

    app = Flask("site")
    websocket = AsyncioWebSocket(app)
    websocket.add_url_rule("/", "talk", Talk())
    with app.test_client() as client, websocket_connect(client, "/") as ws:
        ws.send("hello")
        assert ws.receive() == "hello"
    websocket.stop()


# -- rules --------------------------------------------------------------------------------------


@pytest.mark.parametrize("methods", [["POST"], ["GET", "POST"], "POST", [], ["get", "put"]])
def test_methods_that_no_handshake_has(methods: Any) -> None:
    refused(view(), "a WebSocket handshake is a GET request", methods=methods)
    refused(lambda ws: None, "a WebSocket handshake is a GET request", methods=methods)
    refused(view(methods=methods), r"Chat\.methods.*a WebSocket handshake is a GET request")


@pytest.mark.parametrize("methods", [["GET"], ("get", "HEAD"), {"GET", "OPTIONS"}, "GET", None])
def test_methods_that_are_fine(methods: Any) -> None:
    register(view(), methods=methods)


def test_a_rule_that_is_no_websocket() -> None:
    refused(view(), "websocket=False", websocket=False)


def talk(ws: Any, **view_args: Any) -> None: ...


def other(ws: Any, **view_args: Any) -> None: ...


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (("/chat", {}), ("/chat", {})),
        (("/<room>", {}), ("/<seat>", {})),
        (("/<room>", {}), ("/<string:seat>", {})),
        (("/<int(min=1):room>/x", {}), ("/<int(min=1):seat>/x", {})),
        (("/chat", {"defaults": {"a": 1}}), ("/chat", {})),
        (("/chat", {"subdomain": "a"}), ("/chat", {"subdomain": "a"})),
    ],
    ids=["same", "variables", "converters", "arguments", "defaults", "subdomain"],
)
def test_two_views_on_one_path(one: Any, two: Any) -> None:
    match = "is already the WebSocket rule of 'talk', so 'other' would never be reached"
    app = Flask("site")
    websocket = WebSocket(app)
    websocket.add_url_rule(one[0], "talk", talk, **one[1])
    with pytest.raises(RegistrationError, match=match):
        websocket.add_url_rule(two[0], "other", other, **two[1])
    # And if the extension comes last.
    blueprint = Blueprint("bp", "bp", url_prefix="/bp")
    blueprint.add_websocket_rule(one[0], "talk", talk, **one[1])
    blueprint.add_websocket_rule(two[0], "other", other, **two[1])
    app = Flask("site")
    app.register_blueprint(blueprint)
    with pytest.raises(RegistrationError, match=r"already the WebSocket rule of 'bp\.talk'"):
        WebSocket(app)


def test_one_path_on_the_application_and_a_blueprint() -> None:
    app = Flask("site")
    WebSocket(app).route("/bp/chat")(talk)
    blueprint = Blueprint("bp", "bp", url_prefix="/bp")
    blueprint.websocket("/chat")(other)
    with pytest.raises(RegistrationError, match=r"'/bp/chat' is already.*'bp\.other'"):
        app.register_blueprint(blueprint)


def test_paths_that_differ() -> None:
    app = Flask("site", subdomain_matching=True)
    app.config["SERVER_NAME"] = "example.org"
    websocket = WebSocket(app)
    rules: list[tuple[str, dict[str, Any]]] = [
        ("/chat", {}),
        ("/chat/", {}),
        ("/chat", {"subdomain": "a"}),
        ("/chat", {"subdomain": "<name>"}),
        ("/<room>", {}),
        ("/<int:room>", {}),
        ("/<int(min=1):room>", {}),
        ("/<path:room>", {}),
    ]
    for number, (rule, options) in enumerate(rules):
        websocket.add_url_rule(rule, f"view{number}", talk, **options)
    app.add_url_rule("/chat", "page", lambda: "page")
    # The same view twice is no conflict.
    websocket.route("/again")(websocket.route("/again")(talk))


def test_what_is_for_urls_only_is_no_conflict() -> None:
    websocket = WebSocket(Flask("site"))
    websocket.add_url_rule("/chat", "talk", talk)
    websocket.add_url_rule("/chat", "other", other, build_only=True)


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize(
    ("path", "target", "error"),
    [
        ("/chat", view(), "'/chat' is already the WebSocket rule of 'talk'"),
        ("/other", view(on_mesage=method), "did you mean on_message"),
    ],
    ids=["path", "hook"],
)
def test_rules_that_flask_has_been_given(
    extension: str, path: str, target: Any, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    """They are checked before the first handshake, or when the extension is set up."""
    app = Flask("site")
    websocket = getattr(flask_wsviews, extension)(app)
    websocket.route("/chat")(talk)
    app.add_url_rule(path, view_func=target.as_view("other"), websocket=True)
    with app.test_client() as client, pytest.raises(HandshakeRejected) as caught:
        websocket_connect(client, "/chat")
    websocket.stop()
    assert caught.value.status_code == 500
    assert error in caplog.text
    app = Flask("site")
    app.add_url_rule("/chat", view_func=view().as_view("talk"), websocket=True)
    app.add_url_rule(path, view_func=target.as_view("other"), websocket=True)
    with pytest.raises(RegistrationError, match=error):
        WebSocket(app)


# -- handlers of presence ---------------------------------------------------------------------


def yields(group: str, member: Any) -> Any:
    yield group


@pytest.mark.parametrize("event", ["on_join", "on_leave"])
@pytest.mark.parametrize(
    ("handler", "error"),
    [
        (yields, r"yields\(\) is a generator"),
        (lambda: None, r"can't be called with group, member.*Define it with \(group, member\)"),
        (lambda group, member, more: None, "can't be called with group, member"),
        (None, "need a function, not None"),
    ],
    ids=["generator", "no-arguments", "arguments", "none"],
)
def test_a_presence_handler_that_can_not_be_called(event: str, handler: Any, error: str) -> None:
    websocket = WebSocket(Flask("site"))
    with pytest.raises(RegistrationError, match=error):
        getattr(websocket, event)("present:{name}")(handler)


# -- an extension without an application --------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        lambda websocket: websocket.broadcast("lobby", "hello"),
        lambda websocket: websocket.send_message("lobby", "said", {}),
        lambda websocket: websocket.members("lobby"),
        lambda websocket: websocket.count("lobby"),
        lambda websocket: websocket.run(),
    ],
    ids=["broadcast", "send_message", "members", "count", "run"],
)
@pytest.mark.parametrize("extension", EXTENSIONS)
def test_what_needs_init_app(extension: str, use: Callable[[Any], Any]) -> None:
    websocket = getattr(flask_wsviews, extension)()
    websocket.route("/chat")(talk)
    with pytest.raises(RegistrationError, match=r"call init_app\(\) first"):
        use(websocket)


def test_the_testing_client_needs_init_app() -> None:
    with (
        Flask("site").test_client() as client,
        pytest.raises(RuntimeError, match=r"'site'.*init_app\(\)"),
        websocket_connect(client, "/chat"),
    ):
        pass


_PARAMETERS = st.lists(
    st.sampled_from(["ws", "message", "room", "room=None", "*", "*args", "/"]),
    max_size=4,
    unique_by=lambda one: one.partition("=")[0],
)


@given(
    parameters=_PARAMETERS,
    has_more=st.booleans(),
    positional=st.sampled_from([("ws",), ("ws", "message")]),
    named=st.sampled_from([(), ("room",), ("message", "room")]),
)
def test_arguments_that_are_taken_exactly_can_be_bound(
    parameters: list[str], has_more: bool, positional: tuple[str, ...], named: tuple[str, ...]
) -> None:
    namespace: dict[str, Any] = {}
    more = ["**more"] if has_more else []
    try:
        exec(f"def method({', '.join(['self', *parameters, *more])}): ...", namespace)
    except SyntaxError:
        reject()
    method = MethodType(namespace["method"], object())
    if mistakes._takes_exactly(method, positional, named):
        inspect.signature(method).bind(*positional, **dict.fromkeys(named))
