"""The WSGI servers that give access to the client's socket."""

from __future__ import annotations

from collections.abc import Callable, Collection

from ..common.registry import Registry
from ..exceptions import ServerError
from ..typing import Environ
from . import environ as environs
from .base import Adapter

__all__ = [
    "REGISTRY",
    "Adapter",
    "adapter_of",
    "check_start",
    "detach_environ",
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
# The keys of all adapters' own objects in an environ.
_environ_keys: tuple[str, ...] = ()


def adapters() -> Collection[Adapter]:
    """Return this process's adapters, in the registry's order. Each is made once."""
    global _made, _environ_keys
    if _made.keys() != REGISTRY.keys():
        made = {name: _made.get(name) or REGISTRY.load(name)() for name in REGISTRY}
        _environ_keys = tuple(key for adapter in made.values() for key in adapter.environ_keys)
        # Last, because another thread may look meanwhile.
        _made = made
    return _made.values()


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

    Most servers show themselves with the first request only: see :meth:`Adapter.check`.

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


def detach_environ(environ: Environ) -> None:
    """Detach *environ*, in place, from the server, so that it can be kept after the request."""
    adapters()
    environs.detach(environ, _environ_keys)
