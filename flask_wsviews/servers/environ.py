"""An ``environ`` that can be kept after its request: without the server's objects, and small."""

from __future__ import annotations

import io
from collections.abc import Iterable

from ..typing import Environ

# Objects of the server, or of a middleware around the application, that end with the request.
_REQUEST_OBJECTS = (
    "werkzeug.debug.preserve_context",
    "werkzeug.request",
    "wsgi.early_hints",
    "wsgi.file_wrapper",
    "x-wsgiorg.fdevent.readable",
    "x-wsgiorg.fdevent.timeout",
)

# Many handshakes have the same values here: equal strings are kept once.
_COMMON_FIELDS = (
    "HTTP_ACCEPT_ENCODING",
    "HTTP_ACCEPT_LANGUAGE",
    "HTTP_CACHE_CONTROL",
    "HTTP_CONNECTION",
    "HTTP_HOST",
    "HTTP_ORIGIN",
    "HTTP_PRAGMA",
    "HTTP_SEC_WEBSOCKET_EXTENSIONS",
    "HTTP_SEC_WEBSOCKET_PROTOCOL",
    "HTTP_SEC_WEBSOCKET_VERSION",
    "HTTP_USER_AGENT",
    "REQUEST_METHOD",
    "SERVER_PORT",
    "SERVER_PROTOCOL",
)
_MOST_COMMON = 1000
_LONGEST_COMMON = 300
_common: dict[str, str] = {}


class _NoInput(io.BytesIO):
    """The empty body of a handshake."""

    def close(self) -> None:
        """Do nothing: all handshakes share this object."""


_no_input = _NoInput()


def detach(environ: Environ, keys: Iterable[str]) -> None:
    """Detach *environ*, in place, from the server, so that it can be kept after the request.

    :param keys: the server's own objects in it.
    """
    for key in (*keys, *_REQUEST_OBJECTS):
        environ.pop(key, None)
    environ["wsgi.input"] = _no_input
    path = environ.get("PATH_INFO")
    if path is not None and environ.get("REQUEST_URI") == path:
        environ["REQUEST_URI"] = path
    if len(_common) > _MOST_COMMON:
        _common.clear()
    for key in _COMMON_FIELDS:
        value = environ.get(key)
        if value is not None and len(value) <= _LONGEST_COMMON:
            environ[key] = _common.setdefault(value, value)
