"""The table of engines and the servers that each runs on. All tests use it."""

from __future__ import annotations

import json
from collections.abc import Callable

from support import servers, uwsgi_asyncio

Command = Callable[[int], list[str]]
Env = dict[str, str]

BLOCKING: Env = {"ENGINE": "WebSocket"}
GEVENT: Env = {"ENGINE": "GeventWebSocket"}
ASYNCIO: Env = {"ENGINE": "AsyncioWebSocket"}
#: With hooks that are ``async def``.
COROUTINES: Env = {**ASYNCIO, "HOOKS": "async"}
UVLOOP: Env = {**ASYNCIO, "LOOP": "uvloop"}

#: uWSGI's options for each engine, on its HTTP socket without the router.
ON_UWSGI: dict[str, tuple[tuple[str, ...], Env]] = {
    "gevent": (("--gevent", "50"), GEVENT),
    "threads": (("--threads", "40"), BLOCKING),
    "asyncio": (("--threads", "4"), ASYNCIO),
    "coroutines": (("--threads", "4"), COROUTINES),
}

#: The extension's classes. Applications of tests read the name from ``ENGINE``.
EXTENSIONS = ["WebSocket", "GeventWebSocket", "AsyncioWebSocket"]

#: The same, and the last one again with hooks that are ``async def``.
EXTENSIONS_AND_COROUTINES = [*EXTENSIONS, "coroutines"]

APP = "contract:app"
AREA = ("--sharedarea", "1")

#: Every engine on every server that can run it, with the application of the contract.
MODES: dict[str, tuple[Command, Env]] = {
    "uwsgi-gevent": (servers.uwsgi(APP, "--gevent", "10", *AREA), GEVENT),
    "uwsgi-gevent-router": (servers.uwsgi(APP, "--gevent", "10", *AREA, router=True), GEVENT),
    "uwsgi-threads": (servers.uwsgi(APP, "--threads", "4", *AREA), BLOCKING),
    "uwsgi-threads-router": (servers.uwsgi(APP, "--threads", "4", *AREA, router=True), BLOCKING),
    "uwsgi-asyncio": (servers.uwsgi(APP, *AREA), ASYNCIO),
    "uwsgi-asyncio-router": (servers.uwsgi(APP, *AREA, router=True), UVLOOP),
    "gunicorn-gthread-asyncio": (
        servers.gunicorn(APP, "-k", "gthread", "--threads", "20"),
        ASYNCIO,
    ),
    "werkzeug-asyncio": (servers.flask_run(APP), UVLOOP),
    "gunicorn-gthread": (servers.gunicorn(APP, "-k", "gthread", "--threads", "20"), BLOCKING),
    "gunicorn-gevent": (servers.gunicorn(APP, "-k", "gevent"), GEVENT),
    "gunicorn-gthread-gevent": (servers.gunicorn(APP, "-k", "gthread", "--threads", "20"), GEVENT),
    "gunicorn-gevent-blocking": (servers.gunicorn(APP, "-k", "gevent"), BLOCKING),
    "werkzeug": (servers.flask_run(APP), BLOCKING),
    "werkzeug-gevent": (servers.flask_run(APP), GEVENT),
}
#: An engine, a broker and a server from outside the package: support.toys.
TOYS = {"WSVIEWS_ENGINE": "toy", "WSVIEWS_BROKER_URL": "toy://here"}
MODES["toys"] = (servers.program("toy_site.py"), {**BLOCKING, "SETTINGS": json.dumps(TOYS)})
# uWSGI's own asyncio loop, in a build that has one.
OWN_ASYNCIO = []
if uwsgi_asyncio.why_not() is None:
    OWN_ASYNCIO = ["uwsgi-own-asyncio"]
    MODES["uwsgi-own-asyncio"] = (
        servers.uwsgi(APP, *uwsgi_asyncio.OPTIONS, *AREA, binary=uwsgi_asyncio.binary),
        ASYNCIO,
    )
UWSGI_MODES = [mode for mode in MODES if mode.startswith("uwsgi")]


def small_modes(app: str) -> dict[str, tuple[Command, Env]]:
    """Return each engine and each server once, for applications that one test module starts."""
    modes = {
        "gevent": (servers.uwsgi(app, "--gevent", "20"), GEVENT),
        "threads": (servers.uwsgi(app, "--threads", "20"), BLOCKING),
        "asyncio": (servers.uwsgi(app, "--threads", "4"), ASYNCIO),
        "coroutines": (servers.uwsgi(app, "--threads", "4"), COROUTINES),
        "gunicorn-gthread": (servers.gunicorn(app, "-k", "gthread", "--threads", "20"), BLOCKING),
        "werkzeug": (servers.flask_run(app), BLOCKING),
    }
    if uwsgi_asyncio.why_not() is None:
        command = servers.uwsgi(app, *uwsgi_asyncio.OPTIONS, binary=uwsgi_asyncio.binary)
        modes["own-asyncio"] = (command, COROUTINES)
    return modes
