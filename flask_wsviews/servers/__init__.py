"""The WSGI servers that can hand over a client's socket. A new one is a module and a line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..exceptions import ServerError
from ..typing import Environ, Transport
from . import gunicorn, test, werkzeug
from .base import detach_environ
from .uwsgi import adapter as uwsgi

#: Asked in this order whether a request is theirs. An adapter is a module, or any object, with the
#: functions of ``gunicorn.py``: serves, check, take_socket, before_exit and when_worker_starts.
ADAPTERS: list[Any] = [uwsgi, werkzeug, gunicorn, test]

__all__ = [
    "before_exit",
    "check_server",
    "check_start",
    "detach_environ",
    "take_socket",
    "when_worker_starts",
]


def check_start() -> None:
    """Check, while an application is being set up, what is known of the server by then.

    :raises ServerError: if no WebSocket could be served, naming what to change.
    """
    for adapter in ADAPTERS:
        adapter.check_start()


def check_server(environ: Environ) -> None:
    """Check that the server behind a request can give us its socket.

    :raises ServerError: naming the server and those that work.
    """
    for adapter in ADAPTERS:
        if adapter.serves(environ):
            adapter.check(environ)
            return
    name = environ.get("SERVER_SOFTWARE") or "This WSGI server"
    raise ServerError(
        f"{name} gives no access to the client's socket, so it can't serve WebSockets. "
        "Run the application under uWSGI (app.run() starts it), `flask run`, or gunicorn "
        "with gthread or gevent workers."
    )


def before_exit(
    environ: Environ, ending_signal: Callable[[], int | None], farewell: Callable[[int], None]
) -> None:
    """Have *farewell* called when the server behind a request ends this process.

    To ask for the same *farewell* again changes nothing.

    :param ending_signal: asked, then, for the signal that ends it.
    :param farewell: called with the close code: 1012 if the process will be replaced, else 1001.
    """
    adapter = next(adapter for adapter in ADAPTERS if adapter.serves(environ))
    adapter.before_exit(ending_signal, farewell)


def when_worker_starts(function: Callable[[], object]) -> None:
    """Have *function* called in each worker that the server is about to fork, where it says so.

    :param function: must not raise anything.
    """
    for adapter in ADAPTERS:
        adapter.when_worker_starts(function)


def take_socket(environ: Environ) -> Transport:
    """The client's socket; call :func:`check_server` first.

    :raises OSError: if no descriptor is left.
    """
    adapter = next(adapter for adapter in ADAPTERS if adapter.serves(environ))
    transport: Transport = adapter.take_socket(environ)
    return transport
