"""The short request context in which one hook runs.

A message is not a request: its context has a fresh ``g`` and runs the teardown functions when the
hook ends, but the request, the session and the matched URL are the handshake's. Nothing is opened
or matched again, which is most of what a full context costs.
"""

from __future__ import annotations

from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any

from flask import Flask
from flask.ctx import AppContext, RequestContext
from flask.globals import _cv_app, _cv_request, app_ctx, request_ctx
from flask.signals import appcontext_popped as _popped
from flask.signals import appcontext_pushed as _pushed
from flask.signals import appcontext_tearing_down as _app_ends
from flask.signals import request_tearing_down as _request_ends

if TYPE_CHECKING:
    from flask import Request
    from flask.ctx import _AppCtxGlobals
    from flask.sessions import SessionMixin
    from flask.typing import AfterRequestCallable
    from werkzeug.routing import MapAdapter


_SESSION_IS_PROPERTY = hasattr(RequestContext, "session")


class Handshake:
    """What stays of the handshake's request for the hooks.

    :param context: the request context that is being torn down when the 101 goes out.
    """

    __slots__ = ("_is_plain", "_url_adapter", "app", "app_url_adapter", "request", "session")

    def __init__(self, context: RequestContext) -> None:
        self.app: Flask = context.app
        self.request: Request = context.request
        # From Flask 3.1.3 on `session` is a property, which marks the session as accessed.
        self.session: SessionMixin | None = (
            context._session if _SESSION_IS_PROPERTY else context.session
        )
        self._url_adapter: MapAdapter | None = None
        self.app_url_adapter: MapAdapter | None = app_ctx.url_adapter
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
    def nobody_watches(self) -> bool:
        """Whether a context may come and go without a word to anybody."""
        app = self.app
        return (
            self._is_plain
            and not app.teardown_request_funcs
            and not app.teardown_appcontext_funcs
            and not _pushed.receivers
            and not _request_ends.receivers
            and not _app_ends.receivers
            and not _popped.receivers
        )

    @classmethod
    def current(cls) -> Handshake:
        """The handshake that Flask is dispatching right now."""
        return cls(request_ctx._get_current_object())  # type: ignore[attr-defined]

    def hook_context(self) -> HookContext:
        """A context for one hook, to be entered with ``with``."""
        return HookContext(self)


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
            self.session = handshake.session  # type: ignore[misc, assignment]
        self._cv_tokens = []

    @cached_property
    def _after_request_functions(self) -> list[AfterRequestCallable[Any]]:  # type: ignore[override]
        """What ``after_this_request`` is given, in vain."""
        return []

    @property
    def url_adapter(self) -> MapAdapter | None:  # type: ignore[override]
        """See :attr:`Handshake.url_adapter`."""
        return self._handshake.url_adapter

    def __enter__(self) -> HookContext:
        if self._cv_tokens or not self._handshake.nobody_watches or _cv_app.get(None) is not None:
            self.push()
            return self
        # What push() does, as far as there is something to do.
        app_context = _HookAppContext(self._handshake)
        app_context._cv_tokens.append(_cv_app.set(app_context))
        self._cv_tokens.append((_cv_request.set(self), app_context))
        return self

    def __exit__(
        self,
        exc_type: type | None,
        exc_value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if (
            len(self._cv_tokens) != 1
            or not self._handshake.nobody_watches
            or _cv_request.get(None) is not self
        ):
            self.pop(exc_value)
            return
        token, app_context = self._cv_tokens.pop()
        _cv_request.reset(token)
        if app_context is not None:
            _cv_app.reset(app_context._cv_tokens.pop())

    def copy(self) -> HookContext:
        """Another one, for ``copy_current_request_context``."""
        return HookContext(self._handshake)

    def match_request(self) -> None:
        """The handshake's rule and view arguments stand."""


class _HookAppContext(AppContext):
    """An application context whose URL adapter is there already."""

    def __init__(self, handshake: Handshake) -> None:
        # Not AppContext.__init__, which makes that anew.
        self.app = handshake.app
        self.url_adapter = handshake.app_url_adapter
        self._cv_tokens = []

    @cached_property
    def g(self) -> _AppCtxGlobals:  # type: ignore[override]
        """Made for those who use it."""
        return self.app.app_ctx_globals_class()
