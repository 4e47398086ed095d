"""The short request context in which one hook runs.

A message is not a request: its context has a fresh ``g``, with nothing but the identity that the
handshake has found out, and runs the teardown functions when the hook ends, but the request, the
session and the matched URL are the handshake's. Nothing is opened
or matched again, which is most of what a full context costs.
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

# All that each message asks for is Final: once compiled, it is at hand.

# Who listens to the signals; blinker changes these, and never makes others.
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
    """What stays of the handshake's request for the hooks.

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
        #: What hooks find on their ``g``, by name; ``None`` for nothing.
        self.identity: dict[str, Any] | None = None
        self._url_adapter: MapAdapter | None = None
        self.app_url_adapter: MapAdapter | None = _app_in_use().url_adapter
        self._is_plain = (
            type(self.app).app_context is Flask.app_context and self.session is not None
        )

    @property
    def url_adapter(self) -> MapAdapter | None:
        """What builds URLs; made anew for those that do, since few connections ever use it."""
        if self._url_adapter is None:
            self._url_adapter = self.app.create_url_adapter(self.request)
        return self._url_adapter

    @property
    def is_watched(self) -> bool:
        """Whether somebody has to be told when a context comes or goes."""
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
        """The handshake that Flask is dispatching right now."""
        proxy: Any = request_ctx
        return cls(proxy._get_current_object())

    def hook_context(self) -> HookContext:
        """A context for one hook, to be entered with ``with``."""
        return HookContext(self)


@mypyc_attr(native_class=False)
class HookContext(RequestContext):
    """A request context that reuses what the handshake's had."""

    flashes = None

    def __init__(self, handshake: Handshake) -> None:
        # Not RequestContext.__init__, which makes a URL adapter anew.
        self._handshake = handshake
        self.app = handshake.app
        self.request = handshake.request
        if _SESSION_IS_PROPERTY:
            self._session = handshake.session
        else:
            # A property without a setter in the Flask that types are taken from.
            self.session = handshake.session  # type: ignore[misc, assignment]
        self._cv_tokens = []

    # Attributes of Flask's class; as properties they cost nothing until somebody asks.
    @property
    def _after_request_functions(self) -> list[AfterRequestCallable[Any]]:  # type: ignore[override]
        """What ``after_this_request`` is given, in vain."""
        return []

    @property
    def url_adapter(self) -> MapAdapter | None:  # type: ignore[override]
        """See :attr:`Handshake.url_adapter`."""
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
        """Another one, for ``copy_current_request_context``."""
        return HookContext(self._handshake)

    def match_request(self) -> None:
        """The handshake's rule and view arguments stand."""


@mypyc_attr(native_class=False)
class _HookAppContext(AppContext):
    """An application context whose URL adapter is there already."""

    _identity: dict[str, Any] | None = None

    def __init__(self, handshake: Handshake) -> None:
        # Not AppContext.__init__, which makes that anew.
        self.app = handshake.app
        self.url_adapter = handshake.app_url_adapter
        self._cv_tokens = []

    # Once compiled, a cached_property would be a plain one, and make another each time.
    def __getattr__(self, name: str) -> Any:
        """Make ``g`` for those who use it."""
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
    handshake = context._handshake
    if context._cv_tokens or handshake.is_watched or _app_in_use(None) is not None:
        before = _request_in_use(None)
        context.push()
        # A copy of the context within its hook shares the hook's g.
        if handshake.identity is not None and not isinstance(before, HookContext):
            _fill(_app_in_use().g, handshake.identity)
        return
    # What push() does, as far as there is something to do.
    app_context = _HookAppContext(handshake)
    if handshake.identity is not None:
        app_context._identity = handshake.identity
    app_context._cv_tokens.append(_use_app(app_context))
    context._cv_tokens.append((_use_request(context), app_context))


def leave(context: HookContext, error: BaseException | None = None) -> None:
    """Take :func:`enter` back.

    :param error: what the hook has raised, for teardown functions.
    """
    tokens = context._cv_tokens
    if len(tokens) != 1 or context._handshake.is_watched or _request_in_use(None) is not context:
        context.pop(error)
        return
    token, app_context = tokens.pop()
    _reset_request(token)
    if app_context is not None:
        _reset_app(app_context._cv_tokens.pop())
