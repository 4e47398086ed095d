"""Registrations of an extension: applied to its application, and to those set up later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask, request
from flask.signals import request_started

from ..protocol.opening import is_handshake

#: Registers a rule, a blueprint or a handler with an application.
Registration = Callable[[Flask], None]


class DeferredRegistrations:
    """What was registered on an extension, for all of its applications.

    :param extension_name: the name of the extension's class, for the log.
    """

    def __init__(self, extension_name: str) -> None:
        self._extension_name = extension_name
        self._registrations: list[Registration] = []

    def add(self, registration: Registration, app: Flask | None) -> None:
        """Add a registration.

        :param app: the extension's application, which gets it at once; ``None`` if there is none.
        """
        if app is not None:
            registration(app)
        elif not self._registrations:
            # Until an application is set up, only a 404 Not Found would show the mistake.
            request_started.connect(self._explain_not_found)
        self._registrations.append(registration)

    def apply(self, app: Flask) -> None:
        """Apply all registrations to an application that is being set up."""
        request_started.disconnect(self._explain_not_found)
        for registration in self._registrations:
            registration(app)

    def _explain_not_found(self, app: Flask, **more: Any) -> None:
        """Log why no rule matches a handshake."""
        if is_handshake(request.environ) and request.routing_exception is not None:
            name = self._extension_name
            app.logger.error(
                "no rule matches the handshake for %r, and %s() has rules but no application: "
                "call its init_app(app), or make it with %s(app)",
                request.path,
                name,
                name,
            )
