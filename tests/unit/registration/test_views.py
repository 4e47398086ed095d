"""Views: what can be registered, under which name, and the order of the hooks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.views import MethodView, View
from support.peers import UPGRADE_HEADERS, open_client

from flask_wsviews.client import WebSocketClient
from flask_wsviews.exceptions import ConfigError, RegistrationError
from flask_wsviews.registration.declaration import Declaration, declaration_of
from flask_wsviews.registration.function_view import FunctionView
from flask_wsviews.registration.view_functions import view_function
from flask_wsviews.views import HOOKS, UPGRADER, WebSocketView


def function(ws: WebSocketClient) -> None:
    """Function's own docstring."""


async def coroutine(ws: WebSocketClient) -> None: ...


class Echo(WebSocketView):
    def on_message(self, ws: WebSocketClient, message: Any) -> None:
        ws.send(message)


def register(
    target: Any,
    endpoint: str | None = None,
    known: dict[str, Callable[..., Any]] | None = None,
    **options: Any,
) -> tuple[str, Any]:
    return view_function(target, endpoint, options, known or {})


def declared(view: Callable[..., Any]) -> Declaration:
    declaration = declaration_of(view)
    assert declaration is not None
    return declaration


# -- registration -------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [None, 1, "function", [function]])
def test_what_is_not_callable(target: Any) -> None:
    with pytest.raises(RegistrationError, match="a function or a WebSocketView") as caught:
        register(target, "endpoint")
    assert repr(target) in str(caught.value)
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize(
    "target", [View, MethodView, dict, View.as_view("page"), type("Page", (MethodView,), {})]
)
def test_what_is_no_view_function(target: Any) -> None:
    with pytest.raises(RegistrationError, match="isn't a WebSocketView"):
        register(target)


def test_what_has_no_name_needs_an_endpoint() -> None:
    target = functools.partial(function)
    with pytest.raises(RegistrationError, match="endpoint="):
        register(target)
    assert register(target, "named")[0] == "named"


@pytest.mark.parametrize(
    ("target", "endpoint"),
    [(function, "function"), (Echo, "Echo"), (Echo.as_view("echo"), "echo")],
)
def test_endpoint_names(target: Any, endpoint: str) -> None:
    assert register(target)[0] == endpoint
    assert register(target, "mine")[0] == "mine"


def test_a_class_becomes_its_view() -> None:
    _, view = register(Echo)
    assert view.view_class is Echo
    assert declared(view).target is Echo
    assert view.__name__ == "Echo"


def test_as_view_is_taken_as_it_is() -> None:
    made = Echo.as_view("echo")
    assert register(made)[1] is made


def test_a_function_becomes_a_view() -> None:
    _, view = register(function, "endpoint")
    assert issubclass(view.view_class, FunctionView)
    assert declared(view).target is function
    assert view.__name__ == "endpoint"
    assert view.__doc__ == function.__doc__
    assert view.__module__ == function.__module__
    assert tuple(view.methods) == ("GET",)
    assert view.provide_automatic_options is False


def test_options_for_a_function_reach_its_view() -> None:
    options = {
        "allowed_origins": ["https://example.org"],
        "subprotocols": ["chat"],
        "strict_slashes": False,
    }
    _, view = view_function(function, None, options, {})
    assert options == {"strict_slashes": False}
    made = called_view(view)
    assert made.allowed_origins == ["https://example.org"]
    assert made.subprotocols == ["chat"]
    assert made.function is function


def called_view(view: Callable[..., Any], **view_args: Any) -> Any:
    """The instance that a view function makes for a connection."""
    seen = []

    def upgrade(instance: WebSocketView, args: dict[str, Any]) -> str:
        assert args == view_args
        seen.append(instance)
        return "answer"

    with Flask("site").test_request_context(environ_overrides={UPGRADER: upgrade}):
        assert view(**view_args) == "answer"
    [instance] = seen
    return instance


def test_decorators_wrap_in_the_order_of_flasks_views() -> None:
    calls = []

    def decorator(name: str) -> Callable[[Any], Any]:
        def wrap(view: Any) -> Any:
            @functools.wraps(view)
            def wrapped(**view_args: Any) -> Any:
                calls.append(name)
                return view(**view_args)

            return wrapped

        return wrap

    _, view = register(function, decorators=[decorator("inner"), decorator("outer")])
    assert declared(view).target is function
    assert isinstance(called_view(view, room="lobby"), FunctionView)
    assert calls == ["outer", "inner"]

    class Decorated(WebSocketView):
        decorators = (decorator("first"), decorator("second"))

    calls.clear()
    called_view(register(Decorated)[1])
    assert calls == ["second", "first"]


@pytest.mark.parametrize("option", ["decorators", "allowed_origins", "subprotocols"])
def test_a_class_has_its_options_as_attributes(option: str) -> None:
    with pytest.raises(RegistrationError, match=f"{option}: .* attributes of Echo"):
        register(Echo, **{option: ()})


def test_each_connection_has_an_instance_of_its_own() -> None:
    _, view = register(Echo)
    assert called_view(view) is not called_view(view)


def test_an_instance_can_be_shared() -> None:
    class Shared(WebSocketView):
        init_every_request = False

    _, view = register(Shared)
    assert called_view(view) is called_view(view)


@pytest.mark.parametrize("target", [function, Echo])
def test_a_target_on_two_rules_is_one_view(target: Any) -> None:
    endpoint, view = register(target)
    assert register(target, None, {endpoint: view}) == (endpoint, view)


@pytest.mark.parametrize("target", [function, Echo])
def test_another_target_under_the_same_name_is_another_view(target: Any) -> None:
    def other(ws: WebSocketClient) -> None: ...

    known = dict([register(other, "taken")])
    assert register(target, "taken", known)[1] is not known["taken"]
    page = {"taken": lambda: "page"}
    assert register(target, "taken", page)[1] is not page["taken"]


def test_a_function_with_options_is_not_the_one_without() -> None:
    endpoint, view = register(function)
    assert register(function, None, {endpoint: view}, subprotocols=["a"])[1] is not view


def test_without_the_extension_a_view_says_what_is_missing() -> None:
    _, view = register(function)
    with (
        Flask("site").test_request_context("/chat", headers=UPGRADE_HEADERS),
        pytest.raises(RuntimeError, match=r"/chat is a WebSocket, but no WebSocket\(app\)"),
    ):
        view()


# -- coroutines ---------------------------------------------------------------------------------


class HalfAsync(WebSocketView):
    async def on_message(self, ws: WebSocketClient, message: Any) -> None: ...  # type: ignore[override]

    async def on_close(  # type: ignore[override]
        self, ws: WebSocketClient, code: int, reason: str
    ) -> None: ...


@pytest.mark.parametrize(
    ("target", "names"),
    [
        (function, []),
        (coroutine, ["coroutine"]),
        (Echo, []),
        (HalfAsync, ["HalfAsync.on_message", "HalfAsync.on_close"]),
        (HalfAsync.as_view("half"), ["HalfAsync.on_message", "HalfAsync.on_close"]),
        (type("Heir", (HalfAsync,), {}), ["Heir.on_message", "Heir.on_close"]),
    ],
)
def test_coroutines_are_found(target: Any, names: list[str]) -> None:
    assert declared(register(target)[1]).coroutines() == names


def test_each_hook_is_looked_at() -> None:
    async def hook(self: Any, *arguments: Any, **view_args: Any) -> None: ...

    named = [
        *("on_handshake", "authorize_group", "resume_from", "member_meta", "on_joined"),
        *("on_connect", "on_message", "on_invalid", "on_pong", "on_close", "on_error"),
    ]
    assert sorted(HOOKS) == sorted(named)
    for name in HOOKS:
        view_class = type("Chat", (WebSocketView,), {name: hook})
        assert declared(register(view_class)[1]).coroutines() == [f"Chat.{name}"]


@pytest.mark.parametrize("page", [function, coroutine, View.as_view("page")])
def test_pages_may_be_coroutines(page: Any) -> None:
    assert declaration_of(page) is None


def test_hooks_do_nothing_unless_overridden() -> None:
    ws, peer = open_client(Flask("site"))
    view = WebSocketView()
    assert view.on_handshake(ws, room="lobby") is None
    assert view.on_connect(ws, room="lobby") is None
    assert view.on_message(ws, "ignored") is None
    assert view.on_error(ws, ValueError()) is None
    assert view.on_close(ws, 1001, "") is None
    assert peer.sent() == []


@pytest.mark.parametrize("allowed", ["https://example.org", ["example.org"], 1])
def test_origins_that_are_none_fail_at_the_registration(allowed: Any) -> None:
    class Odd(WebSocketView):
        allowed_origins = allowed

    for target, options in (
        (Odd, {}),
        (Odd.as_view("odd"), {}),
        (lambda ws: None, {"allowed_origins": allowed}),
    ):
        with pytest.raises(ConfigError, match="allowed_origins"):
            view_function(target, "odd", dict(options), {})
