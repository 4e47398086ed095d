"""Where an application runs, and whether an engine can run there.

Each engine lists the places that it refuses. They are checked at the start, and again at the first
handshake of a process: only then is it known what the process has patched.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final, NamedTuple

from ..common.per_process import PerProcess
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


#: The known places. A place that isn't listed counts as the one without its worker, or else as the
#: one without its server. ``tests/deployment/test_pairs.py`` runs each engine in each place, or
#: checks that it is refused.
PLACES: Final = (
    Place(),
    Place(patched="gevent"),
    Place(patched="eventlet"),
    Place("uwsgi", "threads"),
    Place("uwsgi", "no threads"),
    Place("uwsgi", "gevent"),
    Place("uwsgi", "asyncio"),
    Place("uwsgi", "asyncio without greenlet"),
    Place("uwsgi", patched="gevent"),
    Place("gunicorn", "gthread", "gevent"),
    Place("gunicorn", "gevent"),
    Place("gunicorn", "gevent_pywsgi"),
    Place("gunicorn", "gevent_pywsgi", "gevent"),
    Place("gunicorn", "eventlet"),
    Place("gunicorn", "tornado"),
)

_NO_SOCKET: Final = (
    "this gunicorn worker gives no access to the client's socket: use -k gthread or -k gevent"
)

#: Where no engine runs, and what to change.
REFUSED: Final[Mapping[Place, str]] = {
    Place(patched="eventlet"): "eventlet has patched the standard library, and no engine runs "
    "there: leave eventlet.monkey_patch() out, and on gunicorn use -k gthread or -k gevent",
    Place("gunicorn", "gthread", "gevent"): "gevent has patched the standard library, which stops "
    "gunicorn's gthread worker at its first WebSocket: use -k gevent, or leave monkey.patch_all() "
    "out",
    Place("gunicorn", "gevent_pywsgi"): _NO_SOCKET,
    Place("gunicorn", "gevent_pywsgi", "gevent"): _NO_SOCKET,
    Place("gunicorn", "eventlet"): _NO_SOCKET,
    Place("gunicorn", "tornado"): _NO_SOCKET,
}

#: Why an engine that runs threads can't run under a uWSGI that gevent has patched without its loop.
NO_HUB: Final = (
    "gevent has patched the standard library, but uWSGI runs no gevent loop, so no connection "
    "would be served: add --gevent 100 and use GeventWebSocket, or leave monkey.patch_all() out"
)

#: Only logged, because gunicorn's sync worker does serve WebSockets, one at a time.
SYNC_WORKER: Final = (
    "gunicorn's sync worker serves one WebSocket and no page meanwhile%s: use "
    "-k gthread --threads 100, or -k gevent"
)

# The engines that this process has checked at a handshake.
_checked: PerProcess[set[str]] = PerProcess(set)

# Set once the sync worker has been logged, for this process and those that it forks.
_warned: list[str] = []


def problem(refused: Mapping[Place, str], place: Place) -> str:
    """Return why an engine can't run in a place, and what to change; empty if it can.

    :param refused: the engine's own refusals, see :attr:`Engine.refused`.
    """
    keys = (place, Place(place.server, "", place.patched), Place("", "", place.patched))
    found = (refused.get(key) or REFUSED.get(key) for key in keys)
    return next(filter(None, found), "")


def here() -> Place:
    """Return where this process runs its application; unknown parts are empty."""
    uwsgi, patched = find_uwsgi(), patched_by()
    if uwsgi is not None:
        if uwsgi.loop == b"gevent":
            # There, patching by gevent is expected.
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


def check_start(refused: Mapping[Place, str]) -> None:
    """Check that an engine can run in this process, while the application is being set up.

    If no server is known yet, the first handshake decides: a program may set the
    application up without serving it.

    :raises EngineError: naming what to change.
    """
    place = here()
    if not place.server:
        return
    if refusal := problem(refused, place):
        raise EngineError(refusal)
    if place.worker == "sync":
        _warn_of_sync_worker()


def check_handshake(engine: str, refused: Mapping[Place, str]) -> None:
    """Check, at the first handshake of a process, that an engine can run here.

    Only then is it known what a worker has patched after the application was loaded.

    :raises EngineError: naming what to change.
    """
    checked = _checked.get()
    if engine in checked:
        return
    if refusal := problem(refused, here()):
        raise EngineError(refusal)
    checked.add(engine)


def _warn_of_sync_worker() -> None:
    gunicorn = find_gunicorn()
    if gunicorn is not None and not _warned:
        _warned.append("sync")
        timeout = gunicorn.cfg.timeout
        killed = f", and is killed after --timeout ({timeout} s) with the WebSocket open"
        logger.warning(SYNC_WORKER, killed if timeout else "")
