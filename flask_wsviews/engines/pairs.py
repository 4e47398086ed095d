"""Which engine runs where: one table for the start, for handshakes and for ``flask ws doctor``.

Each cell is tested: ``tests/deployment/test_pairs.py`` runs what works, and sees the rest refused.
"""

from __future__ import annotations

import logging
import os
from typing import Final, NamedTuple

from ..common.process import find_gunicorn, find_uwsgi, patched_by
from ..exceptions import EngineError

logger = logging.getLogger("flask_wsviews")


class Place(NamedTuple):
    """Where an application runs.

    :param server: ``"uwsgi"`` or ``"gunicorn"``; empty for the others.
    :param worker: the kind of gunicorn's worker, or what uWSGI runs: ``"threads"``,
        ``"no threads"``, ``"gevent"``, ``"asyncio"`` or ``"asyncio without greenlet"``.
    :param patched: the library that has replaced the standard library's threads, if any.
    """

    server: str = ""
    worker: str = ""
    patched: str = ""


class Row(NamedTuple):
    """Why each engine can't run in a place, and what to change; empty if it can."""

    blocking: str = ""
    gevent: str = ""
    asyncio: str = ""


_NEEDS_LOOP: Final = "GeventWebSocket needs uWSGI's gevent loop: add --gevent 100, or use WebSocket"
_NEEDS_THREADS: Final = "but this uWSGI runs without Python threads: add --enable-threads"
_NO_SOCKET: Final = Row(
    *["this gunicorn worker gives no access to the client's socket: use -k gthread or -k gevent"]
    * len(Row._fields)
)
_NO_HUB: Final = (
    "gevent has patched the standard library, but uWSGI runs no gevent loop, so no connection "
    "would be served: add --gevent 100 and use GeventWebSocket, or leave monkey.patch_all() out"
)
_NO_THREADS: Final = (
    "gevent has patched the standard library, which stops gunicorn's gthread worker at its first "
    "WebSocket: use -k gevent, or leave monkey.patch_all() out"
)
_LOOP_BLOCKS_HUB: Final = (
    "AsyncioWebSocket would stop this process at its first WebSocket, because gevent has patched "
    "the standard library: use GeventWebSocket, or run without gevent (gunicorn: -k gthread)"
)
_EVENTLET: Final = (
    "eventlet has patched the standard library, and no engine runs there: leave "
    "eventlet.monkey_patch() out, and on gunicorn use -k gthread or -k gevent"
)

#: The table. A place that isn't here is as the one without its worker, then without its server.
PAIRS: Final[dict[Place, Row]] = {
    Place(): Row(),
    Place(patched="gevent"): Row(asyncio=_LOOP_BLOCKS_HUB),
    Place(patched="eventlet"): Row(*[_EVENTLET] * len(Row._fields)),
    Place("uwsgi", "threads"): Row(gevent=_NEEDS_LOOP),
    Place("uwsgi", "no threads"): Row(
        f"WebSocket runs a thread for each connection, {_NEEDS_THREADS} (or --threads N)",
        _NEEDS_LOOP,
        f"AsyncioWebSocket runs its event loop and plain handlers in threads, {_NEEDS_THREADS}",
    ),
    Place("uwsgi", "gevent"): Row(
        blocking="WebSocket would block uWSGI's gevent loop: use GeventWebSocket, or leave "
        "--gevent out",
        asyncio="AsyncioWebSocket can't run in uWSGI's gevent loop: leave --gevent out, "
        "or use GeventWebSocket",
    ),
    Place("uwsgi", "asyncio"): Row(
        "WebSocket would block uWSGI's asyncio loop: use AsyncioWebSocket, or leave --asyncio out",
        _NEEDS_LOOP,
    ),
    Place("uwsgi", "asyncio without greenlet"): Row(
        "WebSocket would block uWSGI's asyncio loop: use AsyncioWebSocket, or leave --asyncio out",
        _NEEDS_LOOP,
        "uWSGI's asyncio loop needs a greenlet for each request: add --greenlet",
    ),
    Place("uwsgi", patched="gevent"): Row(_NO_HUB, _NEEDS_LOOP, _NO_HUB),
    Place("gunicorn", "gthread", "gevent"): Row(*[_NO_THREADS] * len(Row._fields)),
    Place("gunicorn", "gevent"): Row(asyncio=_LOOP_BLOCKS_HUB),
    Place("gunicorn", "gevent_pywsgi"): _NO_SOCKET,
    Place("gunicorn", "gevent_pywsgi", "gevent"): _NO_SOCKET,
    Place("gunicorn", "eventlet"): _NO_SOCKET,
    Place("gunicorn", "tornado"): _NO_SOCKET,
}

#: What gunicorn's sync worker does; it runs, badly, so this is only logged.
SYNC_WORKER: Final = (
    "gunicorn's sync worker serves one WebSocket and no page meanwhile%s: use "
    "-k gthread --threads 100, or -k gevent"
)

# The process in which an engine was last checked at a handshake.
_checked: dict[str, int] = {}

# What has been warned of its sync worker: the process, and those that it forks.
_warned: list[str] = []


def problem(engine: str, place: Place) -> str:
    """Why *engine* can't run in a place, and what to change; empty if it can."""
    keys = (place, Place(place.server, "", place.patched), Place("", "", place.patched))
    row = next(PAIRS[key] for key in keys if key in PAIRS)
    return str(getattr(row, engine))


def here() -> Place:
    """Where this process runs its application, as far as that is known."""
    uwsgi, patched = find_uwsgi(), patched_by()
    if uwsgi is not None:
        if uwsgi.loop == b"gevent":
            # That it is patched is right there, by gevent.
            return Place("uwsgi", "gevent", "" if patched == "gevent" else patched)
        if not getattr(uwsgi, "has_threads", 1):
            return Place("uwsgi", "no threads")
        if uwsgi.loop == b"asyncio":
            has_greenlets = "greenlet" in getattr(uwsgi, "opt", {})
            worker = "asyncio" if has_greenlets else "asyncio without greenlet"
            return Place("uwsgi", worker, patched)
        return Place("uwsgi", "threads", patched)
    gunicorn = find_gunicorn()
    if gunicorn is not None:
        return Place("gunicorn", gunicorn.kind, patched)
    return Place("", "", patched)


def check_start(engine: str) -> None:
    """Check that *engine* can run in this process, while the application is being set up.

    Where no server is known yet, only the first handshake can tell: a program may set the
    application up without serving it.

    :raises EngineError: naming what to change.
    """
    place = here()
    if not place.server:
        return
    if refusal := problem(engine, place):
        raise EngineError(refusal)
    if place.worker == "sync":
        _warn_of_sync_worker()


def check_handshake(engine: str) -> None:
    """Check, at the first handshake of a process, that *engine* can run here.

    Only then is it known what a worker has patched after the application was loaded.

    :raises EngineError: naming what to change.
    """
    pid = os.getpid()
    if _checked.get(engine) == pid:
        return
    if refusal := problem(engine, here()):
        raise EngineError(refusal)
    _checked[engine] = pid


def _warn_of_sync_worker() -> None:
    gunicorn = find_gunicorn()
    if gunicorn is not None and not _warned:
        _warned.append("sync")
        timeout = gunicorn.cfg.timeout
        killed = f", and is killed after --timeout ({timeout} s) with the WebSocket open"
        logger.warning(SYNC_WORKER, killed if timeout else "")
