"""Which engine fits the server that this process belongs to."""

from __future__ import annotations

import sys
from typing import Any


def find_uwsgi() -> Any:
    """UWSGI's module, which exists in its own processes only, or ``None``."""
    try:
        import uwsgi
    except ImportError:
        return None
    return uwsgi


def in_uwsgi_loop(name: bytes) -> bool:
    """Whether this is a process of uWSGI's that runs the loop called *name*."""
    uwsgi = find_uwsgi()
    return uwsgi is not None and bool(uwsgi.loop == name)


def choose_engine() -> str:
    """Name the engine for where this is called, while the application is being set up.

    Under uWSGI its loop decides; without one, ``--threads`` means a thread per connection, and
    else an event loop beside the only thread there is. Elsewhere it is gevent where the standard
    library has been patched by it, as gunicorn's gevent workers do, and threads where not.
    """
    uwsgi = find_uwsgi()
    if uwsgi is None:
        return "gevent" if is_patched() else "blocking"
    if uwsgi.loop in (b"gevent", b"asyncio"):
        return str(uwsgi.loop, "ascii")
    return "blocking" if "threads" in uwsgi.opt else "asyncio"


def is_patched() -> bool:
    """Whether gevent has replaced the standard library's threads."""
    # Who has patched has imported it.
    if sys.modules.get("gevent.monkey") is None:
        return False
    from gevent.monkey import is_module_patched

    return bool(is_module_patched("threading"))
