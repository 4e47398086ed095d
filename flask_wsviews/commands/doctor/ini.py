"""Whether a configuration of uWSGI fits the engine, the clients and the groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from pathlib import Path

from ...config import Settings
from ...engines import Engine
from ...groups import Groups
from ...servers.uwsgi.arguments import BUFFER_SIZE, HTTP_BUFFER_SIZE
from ...servers.uwsgi.fronts import unusable
from .finding import Finding

# The smallest buffer for request headers that most cookies fit in, in bytes.
SMALLEST_BUFFER = 8192


def check_configuration(path: Path, engine: Engine, groups: Groups) -> Iterator[Finding]:
    """Check that uWSGI's options in an ini file fit the engine, the clients and the groups."""
    try:
        options = read_ini(path)
    except (OSError, ConfigParserError, UnicodeDecodeError) as error:
        yield Finding(path.name, f"can't be read: {error}", "Pass a file with a [uwsgi] section.")
        return
    faults = [
        *_engine_faults(options, engine, groups.settings),
        *_socket_faults(options, groups.settings),
        *_size_and_time_faults(options),
    ]
    processes = _number(options, "processes") or _number(options, "workers") or 1
    if processes > 1 and not groups.broker.is_shared:
        faults.append(
            (
                f"runs {processes} workers, but each has its own groups in memory",
                'WSVIEWS_BROKER_URL = "redis://localhost/0", if there are groups',
            )
        )
    for text, remedy in faults:
        yield Finding(path.name, text, remedy)
    if not faults:
        yield Finding(path.name, f"fits the {engine.name} engine")


def _engine_faults(
    options: Mapping[str, str], engine: Engine, settings: Settings
) -> Iterator[tuple[str, str]]:
    """Yield each problem with the fix."""
    # The loop that the engine needs from uWSGI, unless it runs in threads.
    loop = next((name for name in engine.uwsgi_options if name != "threads"), None)
    has_own_loop = engine.runs_coroutines and "asyncio" in options
    has_threads = "enable-threads" in options or "threads" in options
    if loop is not None and loop not in options:
        yield f"has no {loop} loop", f"{loop} = {engine.uwsgi_options[loop]}"
    if loop != "gevent" and "gevent" in options:
        yield f"has a gevent loop, which {engine.name} connections would block", "threads = 8"
    if loop is None and not (has_threads or has_own_loop):
        if engine.runs_coroutines:
            yield "has no Python threads, and the event loop runs in one", "enable-threads = true"
        else:
            yield "has no Python threads, and each connection needs one", "threads = 8"
    patches = {"gevent-monkey-patch", "gevent-early-monkey-patch"} & options.keys()
    if loop == "gevent" and not (patches or settings.monkey_patch):
        yield (
            "doesn't patch the standard library, so a hook that waits blocks all connections",
            "gevent-early-monkey-patch = true, or WSVIEWS_MONKEY_PATCH = True",
        )
    if "master" not in options:
        yield "has no master process to reload and replace workers", "master = true"


def _size_and_time_faults(options: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if (_number(options, "buffer-size") or 4096) < SMALLEST_BUFFER:
        yield (
            "has a small buffer for request headers: after a cookie of 5 KB uWSGI closes the "
            "connection without an answer",
            f"buffer-size = {BUFFER_SIZE}",
        )
    if "idle" in options:
        yield (
            "stops workers that get no requests for a while. Open WebSockets aren't requests, so "
            "even busy ones are closed with 1001 Going Away",
            "Remove idle.",
        )


_OTHER_FRONT = "http-socket = 127.0.0.1:8000 behind a proxy, or http = with http-websockets = true"
_FRONT_REMEDIES = {
    "https-socket": "https = with http-websockets = true, or a proxy in front of an http-socket",
}


def _socket_faults(options: Mapping[str, str], settings: Settings) -> Iterator[tuple[str, str]]:
    has_router = "http" in options or "https" in options
    for front in unusable(options):
        remedy = _FRONT_REMEDIES.get(front.option, _OTHER_FRONT)
        yield f"has a front socket (--{front.option}) that {front.reason}", remedy
    if not has_router:
        return
    if "http-websockets" not in options:
        yield "has a router that doesn't forward WebSocket messages", "http-websockets = true"
    if (_number(options, "http-buffer-size") or 0) < HTTP_BUFFER_SIZE:
        yield (
            "has a router with a small buffer: messages of more than 4 KiB take 40 to 90 ms",
            f"http-buffer-size = {HTTP_BUFFER_SIZE}",
        )
    timeout = _number(options, "http-timeout") or 60
    interval = settings.ping_interval
    if interval is None or interval >= timeout:
        pings = "no Pings" if interval is None else f"a Ping every {interval:g} s"
        yield (
            f"has a router that closes connections after {timeout} s of silence, and there are "
            f"{pings}",
            f"WSVIEWS_PING_INTERVAL = {max(1, timeout // 2)}",
        )


def read_ini(path: Path) -> dict[str, str]:
    """Return the options in a file's ``[uwsgi]`` section: the last value of each.

    :raises OSError: if it can't be read.
    :raises configparser.Error: if it isn't an ini file with that section.
    """
    parser = ConfigParser(
        interpolation=None, strict=False, allow_no_value=True, comment_prefixes=("#", ";")
    )
    parser.read_string(path.read_text(encoding="utf-8"), str(path))
    if not parser.has_section("uwsgi"):
        raise ConfigParserError("there is no [uwsgi] section")
    options = parser["uwsgi"]
    off = {"false", "no", "off", "0"}
    return {
        name.replace("_", "-"): value or "true"
        for name, value in options.items()
        if (value or "true").lower() not in off
    }


def _number(options: Mapping[str, str], name: str) -> int | None:
    value = options.get(name, "")
    return int(value) if value.isdigit() else None
