"""Look through WSGI middlewares for the Flask application that they wrap."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Flask

# An application with more middlewares than this wraps itself.
_MOST_LAYERS = 100

# The attributes by which the usual middlewares, and bound methods, lead to what they wrap.
_ATTRIBUTES = ("__self__", "wsgi_app", "app", "_app", "application", "__wrapped__")


def wrapped(wsgi_app: object) -> Iterator[object]:
    """Yield a WSGI application and all that it wraps, down to the Flask application if possible."""
    for _ in range(_MOST_LAYERS):
        yield wsgi_app
        if isinstance(wsgi_app, Flask):
            return
        found = (getattr(wsgi_app, name, None) for name in _ATTRIBUTES)
        wsgi_app = next((one for one in found if callable(one)), None)
        if wsgi_app is None:
            return


def flask_app_in(wsgi_app: object) -> Flask | None:
    """Return the Flask application that a WSGI application leads to, or ``None``."""
    return next((one for one in wrapped(wsgi_app) if isinstance(one, Flask)), None)
