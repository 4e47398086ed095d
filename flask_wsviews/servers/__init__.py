"""The WSGI servers that give access to the client's socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..common.registry import Registry
from ..exceptions import ServerError
from ..typing import Environ, Transport
from . import environ as environs
from .base import Adapter

__all__ = [
    "REGISTRY",
    "Adapter",
    "before_exit",
    "check_server",
    "check_start",
    "detach_environ",
    "take_socket",
    "when_worker_starts",
]

#: The adapters by name. The first one whose :meth:`Adapter.serves` accepts a request handles it.
REGISTRY = Registry(
    {
        "uwsgi": ("flask_wsviews.servers.uwsgi.adapter", "UWSGIAdapter"),
        "werkzeug": ("flask_wsviews.servers.werkzeug", "WerkzeugAdapter"),
        "gunicorn": ("flask_wsviews.servers.gunicorn", "GunicornAdapter"),
        "testing": ("flask_wsviews.servers.testing", "TestingAdapter"),
    }
)

_made: dict[str, Adapter] = {}


def adapters() -> Iterator[Adapter]:
    """Yield this process's adapters, in the registry's order."""
    for name in REGISTRY:
        if name not in _made:
            _made[name] = REGISTRY.load(name)()
        yield _made[name]


def adapter_of(environ: Environ) -> Adapter:
    """Return the adapter of the server behind a request.

    :raises ServerError: if there is none. The message lists the servers that work.
    """
    for adapter in adapters():
        if adapter.serves(environ):
            return adapter
    name = environ.get("SERVER_SOFTWARE") or "This WSGI server"
    raise ServerError(
        f"{name} gives no access to the client's socket, so it can't serve WebSockets. "
        "Run the application under uWSGI (app.run() starts it), `flask run`, or gunicorn "
        "with gthread or gevent workers."
    )


def check_start() -> None:
    """Check, while an application is set up, that its server can serve WebSockets.

    Most servers show themselves with the first request only: see :func:`check_server`.

    :raises ServerError: if the server can't. The message names the option to change.
    """
    for adapter in adapters():
        adapter.check_start()


def when_worker_starts(function: Callable[[], object]) -> None:
    """Call *function* in each worker that the server forks later, if it has a hook for that.

    :param function: doesn't raise.
    """
    for adapter in adapters():
        adapter.when_worker_starts(function)


def check_server(environ: Environ) -> None:
    """Check that the socket behind a request can be taken.

    :raises ServerError: if it can't. The message names the server, or the option to change.
    """
    adapter_of(environ).check(environ)


def before_exit(
    environ: Environ, ending_signal: Callable[[], int | None], farewell: Callable[[int], None]
) -> None:
    """Call *farewell* once when the server behind a request ends this process.

    See :meth:`Adapter.before_exit`.
    """
    adapter_of(environ).before_exit(ending_signal, farewell)


def take_socket(environ: Environ) -> Transport:
    """Return the client's socket. Call :func:`check_server` first.

    :raises OSError: if no descriptor is left.
    """
    return adapter_of(environ).take_socket(environ)


def detach_environ(environ: Environ) -> None:
    """Detach *environ*, in place, from the server, so that it can be kept after the request."""
    keys = [key for adapter in adapters() for key in adapter.environ_keys]
    environs.detach(environ, keys)
