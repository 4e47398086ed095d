"""Blueprints with WebSocket rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import flask
from flask.blueprints import BlueprintSetupState

from .app_state import STATE, state_of
from .registration.rules import registering, rule_options, rule_variables
from .registration.view_functions import view_function

T = TypeVar("T", bound=Callable[..., Any])


class Blueprint(flask.Blueprint):
    """A :class:`flask.Blueprint` that also takes WebSocket rules::

        bp = Blueprint("chat", __name__, url_prefix="/chat")

        @bp.websocket("/<room>")
        class Chat(WebSocketView):
            ...

    Register it on the application as usual, before or after ``WebSocket(app)``.
    """

    def websocket(self, rule: str, **options: Any) -> Callable[[T], T]:
        """Decorate a function or a :class:`WebSocketView` class to serve *rule*.

        :param rule: the URL rule, with variables as in any Flask rule.
        :param options: as for :meth:`add_websocket_rule`.
        """
        return registering(self.add_websocket_rule, rule, options)

    def add_websocket_rule(
        self,
        rule: str,
        endpoint: str | None = None,
        view_func: Callable[..., Any] | None = None,
        **options: Any,
    ) -> None:
        """Register a WebSocket rule.

        :param rule: the URL rule.
        :param endpoint: the endpoint's name; by default that of the function or class.
        :param view_func: a function, a :class:`WebSocketView` class, or its ``as_view()``.
        :param options: of the :class:`werkzeug.routing.Rule`, where ``strict_slashes`` is
            ``False`` by default: ``/chat`` and ``/chat/`` both match. A function also takes the
            options that a class has as attributes: :meth:`flask_wsviews.WebSocket.add_url_rule`
            lists them.
        :raises RegistrationError: if *view_func* can't serve a WebSocket.
        """
        known = self.__dict__.setdefault("_websocket_views", {})
        endpoint, view = view_function(view_func, endpoint, options, known)
        known[endpoint] = view
        self.add_url_rule(rule, endpoint, view, **rule_options(options))
        defaults = options.get("defaults")
        self.record(partial(_check_rule, endpoint, rule_variables(rule, defaults)))


class _WebSocketSetupState(BlueprintSetupState):
    """Registers each rule of a blueprint as a WebSocket rule, except its static files."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._views: dict[str, Callable[..., Any]] = {}

    def add_url_rule(
        self,
        rule: str,
        endpoint: str | None = None,
        view_func: Callable[..., Any] | None = None,
        **options: Any,
    ) -> None:
        """Register a rule, with the prefixes of the blueprint."""
        if view_func is not None and view_func == getattr(self.blueprint, "send_static_file", None):
            super().add_url_rule(rule, endpoint, view_func, **options)
            return
        defaults = options.get("defaults")
        endpoint, view = view_function(view_func, endpoint, options, self._views)
        self._views[endpoint] = view
        super().add_url_rule(rule, endpoint, view, **rule_options(options))
        _check_rule(endpoint, rule_variables(rule, defaults), self)


def register_as_websockets(
    blueprint: flask.Blueprint, app: flask.Flask, options: dict[str, Any]
) -> None:
    """Register a blueprint, and those nested in it, with all of their rules as WebSockets.

    :param options: as for :meth:`flask.Flask.register_blueprint`.
    """
    blueprints = list(_with_nested(blueprint))
    for each in blueprints:
        make = partial(_WebSocketSetupState, each)
        each.make_setup_state = make
    try:
        blueprint.register(app, options)
    finally:
        for each in blueprints:
            vars(each).pop("make_setup_state", None)


def _with_nested(blueprint: Any) -> Iterator[Any]:
    """Yield a blueprint and those nested in it."""
    yield blueprint
    for nested, _ in blueprint._blueprints:
        yield from _with_nested(nested)


def _check_rule(endpoint: str, variables: frozenset[str], state: BlueprintSetupState) -> None:
    """Check a new rule, if the application is set up; otherwise ``init_app()`` checks it later."""
    app: Any = state.app
    if STATE in app.extensions:
        full_name = f"{state.name_prefix}.{state.name}.{endpoint}".lstrip(".")
        more = rule_variables(state.url_prefix or "", state.url_defaults)
        state_of(app).check_endpoint(full_name, variables | more)
