"""The short request context in which one hook runs.

A message isn't a request. Its context has a fresh ``g`` that holds only the identity found in the
handshake, and teardown functions run when the hook ends. The request, the session and the matched
URL are the handshake's: opening and matching them again would be most of a full context's cost.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from flask import Flask
from flask.ctx import AppContext, RequestContext
from flask.globals import _cv_app, _cv_request, request_ctx
from flask.signals import (
    appcontext_popped,
    appcontext_pushed,
    appcontext_tearing_down,
    request_tearing_down,
)
from mypy_extensions import mypyc_attr

if TYPE_CHECKING:
    from flask import Request
    from flask.sessions import SessionMixin
    from flask.typing import AfterRequestCallable
    from werkzeug.routing import MapAdapter


# From Flask 3.1.3 on, where it marks the session as accessed.
_SESSION_IS_PROPERTY: Final = hasattr(RequestContext, "session")

# Final, so that compiled code needs no lookup for each message.

# The signals' receivers: blinker changes these dictionaries in place.
_pushed: Final = appcontext_pushed.receivers
_popped: Final = appcontext_popped.receivers
_request_ends: Final = request_tearing_down.receivers
_app_ends: Final = appcontext_tearing_down.receivers

_use_app: Final = _cv_app.set
_app_in_use: Final = _cv_app.get
_reset_app: Final = _cv_app.reset
_use_request: Final = _cv_request.set
_request_in_use: Final = _cv_request.get
_reset_request: Final = _cv_request.reset


class Handshake:
    """The parts of the handshake's request that hooks see.

    :param context: the request context that is being torn down when the 101 goes out.
    """

    __slots__ = (
        "_is_plain",
        "_url_adapter",
        "app",
        "app_url_adapter",
        "identity",
        "request",
        "session",
    )

    def __init__(self, context: RequestContext) -> None:
        self.app: Flask = context.app
        self.request: Request = context.request
        self.session: SessionMixin | None = (
            context._session if _SESSION_IS_PROPERTY else context.session
        )
        #: Attributes to set on each hook's ``g``, by name; ``None`` for none.
        self.identity: dict[str, Any] | None = None
        self._url_adapter: MapAdapter | None = None
        self.app_url_adapter: MapAdapter | None = _app_in_use().url_adapter
        self._is_plain = (
            type(self.app).app_context is Flask.app_context and self.session is not None
        )

    @property
    def url_adapter(self) -> MapAdapter | None:
        """The adapter that builds URLs, made when it is first used: few connections need it."""
        if self._url_adapter is None:
            self._url_adapter = self.app.create_url_adapter(self.request)
        return self._url_adapter

    @property
    def is_watched(self) -> bool:
        """Whether code of others runs when a context is pushed or popped."""
        app = self.app
        return bool(
            not self._is_plain
            or app.teardown_request_funcs
            or app.teardown_appcontext_funcs
            or _pushed
            or _popped
            or _request_ends
            or _app_ends
        )

    @classmethod
    def current(cls) -> Handshake:
        """Return the handshake that Flask is dispatching now."""
        proxy: Any = request_ctx
        return cls(proxy._get_current_object())

    def hook_context(self) -> HookContext:
        """Return a context for one hook, to enter with ``with``."""
        return HookContext(self)


@mypyc_attr(native_class=False)
class HookContext(RequestContext):
    """A request context that reuses the parts of the handshake's context."""

    flashes = None

    def __init__(self, handshake: Handshake) -> None:
        # Not RequestContext.__init__, which makes another URL adapter.
        self._handshake = handshake
        self.app = handshake.app
        self.request = handshake.request
        if _SESSION_IS_PROPERTY:
            self._session = handshake.session
        else:
            # A property without a setter in the Flask that types are taken from.
            self.session = handshake.session  # type: ignore[misc, assignment]
        self._cv_tokens = []

    # Attributes of Flask's class: as properties they cost nothing until they are used.
    @property
    def _after_request_functions(self) -> list[AfterRequestCallable[Any]]:  # type: ignore[override]
        """An empty list: a hook has no response for ``after_this_request`` to change."""
        return []

    @property
    def url_adapter(self) -> MapAdapter | None:  # type: ignore[override]
        """The handshake's URL adapter."""
        return self._handshake.url_adapter

    def __enter__(self) -> HookContext:
        enter(self)
        return self

    def __exit__(
        self,
        exc_type: type | None,
        exc_value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        leave(self, exc_value)

    def copy(self) -> HookContext:
        """Return another context of the same handshake, for ``copy_current_request_context``."""
        return HookContext(self._handshake)

    def match_request(self) -> None:
        """Do nothing: the handshake's request has its rule and view arguments already."""


@mypyc_attr(native_class=False)
class _HookAppContext(AppContext):
    """An application context that reuses the handshake's URL adapter."""

    _identity: dict[str, Any] | None = None

    def __init__(self, handshake: Handshake) -> None:
        # Not AppContext.__init__, which makes another URL adapter.
        self.app = handshake.app
        self.url_adapter = handshake.app_url_adapter
        self._cv_tokens = []

    # mypyc compiles a cached_property to a plain one, which would make another g each time.
    def __getattr__(self, name: str) -> Any:
        """Make ``g`` when it is first used."""
        if name != "g":
            raise AttributeError(name)
        self.g = self.app.app_ctx_globals_class()
        if self._identity is not None:
            _fill(self.g, self._identity)
        return self.g


def _fill(g: object, identity: dict[str, Any]) -> None:
    for name, value in identity.items():
        setattr(g, name, value)


def enter(context: HookContext) -> None:
    """Make a context the current one."""
    handshake, tokens = context._handshake, context._cv_tokens
    if not tokens and not handshake.is_watched and _app_in_use(None) is None:
        _enter_shortcut(context, handshake, tokens)
        return
    before = _request_in_use(None)
    context.push()
    # A copy of the context that is entered within its hook shares the hook's g.
    if handshake.identity is not None and not isinstance(before, HookContext):
        _fill(_app_in_use().g, handshake.identity)


def leave(context: HookContext, error: BaseException | None = None) -> None:
    """Leave the current context.

    :param error: the exception that the hook raised, for teardown functions.
    """
    tokens = context._cv_tokens
    is_last = len(tokens) == 1 and _request_in_use(None) is context
    if is_last and not context._handshake.is_watched:
        _leave_shortcut(tokens)
        return
    context.pop(error)


# -- shortcut: set the context variables without Flask's push() and pop() -------------------------
#
# Only if no teardown function or signal receiver would run. Saves half of the instructions of an
# echo: 45,000.


def _enter_shortcut(context: HookContext, handshake: Handshake, tokens: list[Any]) -> None:
    app_context = _HookAppContext(handshake)
    if handshake.identity is not None:
        app_context._identity = handshake.identity
    app_context._cv_tokens.append(_use_app(app_context))
    tokens.append((_use_request(context), app_context))


def _leave_shortcut(tokens: list[Any]) -> None:
    token, app_context = tokens.pop()
    _reset_request(token)
    # push() notes None where the application's context was there already.
    if app_context is not None:
        _reset_app(app_context._cv_tokens.pop())
