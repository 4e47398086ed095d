"""Which server this process belongs to, and which engine fits it."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Any, NamedTuple

_forked: list[bool] = []


class Gunicorn(NamedTuple):
    """What gunicorn runs in this process.

    :param cfg: its configuration.
    :param worker_class: the class of its workers.
    """

    cfg: Any
    worker_class: type

    @property
    def kind(self) -> str:
        """The kind of worker: ``"gthread"`` and so on; empty for one that isn't known."""
        names = (base.__name__ for base in self.worker_class.__mro__)
        return next((WORKER_KINDS[name] for name in names if name in WORKER_KINDS), "")


#: Gunicorn's workers for WSGI by their class, which others inherit.
WORKER_KINDS = {
    "SyncWorker": "sync",
    "ThreadWorker": "gthread",
    "GeventPyWSGIWorker": "gevent_pywsgi",
    "GeventWorker": "gevent",
    "EventletWorker": "eventlet",
    "TornadoWorker": "tornado",
}


def find_uwsgi() -> Any:
    """Return uWSGI's module, or ``None``: it exists in uWSGI's processes only."""
    # A failing import would search all of sys.path at each handshake.
    return sys.modules.get("uwsgi")


def in_uwsgi_loop(name: bytes) -> bool:
    """Return whether this is a uWSGI process that runs the loop called *name*."""
    uwsgi = find_uwsgi()
    return uwsgi is not None and bool(uwsgi.loop == name)


def find_gunicorn_worker() -> Any:
    """Return gunicorn's worker object of this process, whose method handles SIGTERM."""
    worker = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return worker if hasattr(worker, "alive") and hasattr(worker, "cfg") else None


def find_gunicorn() -> Gunicorn | None:
    """Return what gunicorn runs in this process, in its master with ``--preload`` as well."""
    worker = find_gunicorn_worker()
    if worker is not None:
        return Gunicorn(worker.cfg, type(worker))
    arbiter = _find_arbiter()
    return None if arbiter is None else Gunicorn(arbiter.cfg, arbiter.worker_class)


def _find_arbiter() -> Any:
    """Return gunicorn's master while it loads the application, before it handles signals."""
    module = sys.modules.get("gunicorn.arbiter")
    if module is None:
        return None
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        found = frame.f_locals.get("self") if frame.f_code.co_name == "setup" else None
        if isinstance(found, module.Arbiter):
            return found
        frame = frame.f_back
    return None


def other_workers() -> str:
    """Return a clause that names the server's other processes, or an empty string.

    Groups in the memory of one worker don't reach members in those processes.
    """
    uwsgi = find_uwsgi()
    if uwsgi is not None:
        workers = int(getattr(uwsgi, "numproc", 1))
        if workers > 1:
            return f"this uWSGI has {workers} workers"
        return "this uWSGI has a mule beside its worker" if uwsgi.mule_id() else ""
    gunicorn = find_gunicorn()
    if gunicorn is not None and gunicorn.cfg.workers > 1:
        return f"this gunicorn has {gunicorn.cfg.workers} workers"
    return "this server runs each request in its own process" if _forked else ""


def note_fork_per_request() -> None:
    """Remember that the server forked this process for one request."""
    _forked.append(True)


def choose_engine() -> str:
    """Return the name of the engine that fits this process, while the application is set up.

    Under uWSGI its loop decides. Without a loop it is blocking with ``--threads``, else asyncio.
    On other servers it is gevent if gevent has patched the standard library, or gunicorn's gevent
    workers will, else blocking.
    """
    uwsgi = find_uwsgi()
    if uwsgi is None:
        gunicorn = find_gunicorn()
        is_gevent = gunicorn is not None and gunicorn.kind == "gevent"
        return "gevent" if is_gevent or patched_by() == "gevent" else "blocking"
    if uwsgi.loop in (b"gevent", b"asyncio"):
        return str(uwsgi.loop, "ascii")
    return "blocking" if "threads" in uwsgi.opt else "asyncio"


def patched_by() -> str:
    """Return the library that has replaced the standard library's threads; empty for none."""
    # A library that has patched is imported.
    if sys.modules.get("gevent.monkey") is not None:
        from gevent.monkey import is_module_patched

        if is_module_patched("threading"):
            return "gevent"
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is not None and patcher.is_monkey_patched("thread"):
        return "eventlet"
    return ""


def is_patched() -> bool:
    """Return whether a library has replaced threads by greenlets."""
    return bool(patched_by())
