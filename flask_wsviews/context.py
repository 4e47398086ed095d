"""The short request context in which one hook runs.

A message is not a request: its context has a fresh ``g`` and runs the teardown functions when the
hook ends, but the request, the session and the matched URL are the handshake's. Nothing is opened
or matched again, which is most of what a full context costs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask.ctx import RequestContext
from flask.globals import request_ctx

if TYPE_CHECKING:
    from flask import Flask, Request
    from flask.sessions import SessionMixin
    from werkzeug.routing import MapAdapter


_SESSION_IS_PROPERTY = hasattr(RequestContext, "session")


class Handshake:
    """What stays of the handshake's request for the hooks.

    :param context: the request context that is being torn down when the 101 goes out.
    """

    def __init__(self, context: RequestContext) -> None:
        self.app: Flask = context.app
        self.request: Request = context.request
        # From Flask 3.1.3 on `session` is a property, which marks the session as accessed.
        self.session: SessionMixin | None = (
            context._session if _SESSION_IS_PROPERTY else context.session
        )
        self.url_adapter: MapAdapter | None = context.url_adapter

    @classmethod
    def current(cls) -> Handshake:
        """The handshake that Flask is dispatching right now."""
        return cls(request_ctx._get_current_object())  # type: ignore[attr-defined]

    def hook_context(self) -> HookContext:
        """A context for one hook, to be entered with ``with``."""
        return HookContext(self)


class HookContext(RequestContext):
    """A request context that reuses what the handshake's had."""

    def __init__(self, handshake: Handshake) -> None:
        # Not RequestContext.__init__, which makes a URL adapter anew.
        self._handshake = handshake
        self.app = handshake.app
        self.request = handshake.request
        self.url_adapter = handshake.url_adapter
        self.flashes = None
        if _SESSION_IS_PROPERTY:
            self._session = handshake.session
        else:
            self.session = handshake.session  # type: ignore[misc, assignment]
        self._after_request_functions = []
        self._cv_tokens = []

    def copy(self) -> HookContext:
        """Another one, for ``copy_current_request_context``."""
        return HookContext(self._handshake)

    def match_request(self) -> None:
        """The handshake's rule and view arguments stand."""
