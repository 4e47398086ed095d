"""What keeps WebSockets from working: each problem comes with its fix."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from flask import Flask
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect

from ..common.urls import shown_url
from ..exceptions import CommandError, WSViewsError
from ..groups.brokers.health import check_round_trip
from ..protocol import framing
from ..servers.uwsgi.arguments import BUFFER_SIZE, HTTP_BUFFER_SIZE
from ..servers.uwsgi.binary import find_binary, known_options
from ..servers.uwsgi.fronts import unusable
from .handshake_probe import Answer, probe

if TYPE_CHECKING:
    from ..extension import WebSocket

#: How long an answer may take.
SECONDS = 10.0

# A cookie that doesn't fit into uWSGI's default buffer, and a buffer that it fits in.
COOKIE = 5000
SMALLEST_BUFFER = 8192

# Proxies and uWSGI have limits of their own for headers.
_LARGER_BUFFERS = (
    f"uWSGI: buffer-size = {BUFFER_SIZE}; its router: http-buffer-size = {HTTP_BUFFER_SIZE}; "
    "nginx: large_client_header_buffers 4 32k"
)
_ROUTES = "flask ws routes lists the WebSockets."


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    :param subject: what was checked, in a word.
    :param text: what was found.
    :param remedy: the fix, if it is a problem.
    """

    subject: str
    text: str
    remedy: str | None = None


def is_compiled() -> bool:
    """Return whether the hot-path modules are compiled."""
    return not str(framing.__file__).endswith(".py")


def check_build() -> Finding:
    """Check whether the modules are compiled. Both ways are right."""
    text = "compiled" if is_compiled() else "not compiled, which costs some speed"
    return Finding("modules", text)


def check_uwsgi(websocket: WebSocket) -> Iterator[Finding]:
    """Check that there is a uWSGI with the options that the engine needs."""
    try:
        binary = find_binary()
    except CommandError as error:
        yield Finding("uWSGI", "isn't installed", str(error))
        return
    try:
        version = _output(binary, "--version").strip()
        known = known_options(binary)
    except (OSError, subprocess.SubprocessError) as error:
        yield Finding("uWSGI", f"{binary} can't be run: {error}", "Reinstall it.")
        return
    needed = ("wsgi", "http-websockets", *websocket.engine.uwsgi_options)
    missing = [f"--{option}" for option in needed if f"--{option}" not in known]
    if missing:
        yield Finding(
            "uWSGI",
            f"{version} at {binary} lacks {', '.join(missing)}",
            "pip install 'flask-wsviews[uwsgi]' builds one that has them; a distribution's needs "
            "--plugins python3,http" + (",gevent" if "--gevent" in missing else ""),
        )
    else:
        yield Finding("uWSGI", f"{version} at {binary}")


def check_configuration(path: Path, websocket: WebSocket) -> Iterator[Finding]:
    """Check that an ini file of uWSGI fits the engine, the clients and the groups."""
    try:
        options = read_ini(path)
    except (OSError, ConfigParserError, UnicodeDecodeError) as error:
        yield Finding(path.name, f"can't be read: {error}", "Pass a file with a [uwsgi] section.")
        return
    faults = [
        *_engine_faults(options, websocket),
        *_socket_faults(options, websocket),
        *_size_and_time_faults(options),
    ]
    processes = _number(options, "processes") or _number(options, "workers") or 1
    groups = websocket.groups
    if processes > 1 and not groups.broker.is_shared:
        faults.append(
            (
                f"runs {processes} workers, and groups are in the memory of one",
                'WSVIEWS_BROKER_URL = "redis://localhost/0", if there are groups',
            )
        )
    for text, remedy in faults:
        yield Finding(path.name, text, remedy)
    if not faults:
        yield Finding(path.name, f"fits the {websocket.engine.name} engine")


def _engine_faults(options: Mapping[str, str], websocket: WebSocket) -> Iterator[tuple[str, str]]:
    engine = websocket.engine
    needs_gevent = "gevent" in engine.uwsgi_options
    has_own_loop = engine.runs_coroutines and "asyncio" in options
    has_threads = "enable-threads" in options or "threads" in options
    if needs_gevent and "gevent" not in options:
        yield "has no gevent loop", "gevent = 100"
    if not needs_gevent and "gevent" in options:
        yield f"has a gevent loop, which {engine.name} connections would block", "threads = 8"
    if not (needs_gevent or has_threads or has_own_loop):
        if engine.runs_coroutines:
            yield "has no Python threads, and the event loop runs in one", "enable-threads = true"
        else:
            yield "has no Python threads, and each connection needs one", "threads = 8"
    patches = {"gevent-monkey-patch", "gevent-early-monkey-patch"} & options.keys()
    if needs_gevent and not (patches or websocket.groups.settings.monkey_patch):
        yield (
            "doesn't patch the standard library: a hook that waits stops all connections",
            "gevent-early-monkey-patch = true, or WSVIEWS_MONKEY_PATCH = True",
        )
    if "master" not in options:
        yield "has no master process, which reloads and replaces workers", "master = true"


def _size_and_time_faults(options: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if (_number(options, "buffer-size") or 4096) < SMALLEST_BUFFER:
        yield (
            "has a small buffer for request headers: a cookie of 5 KB closes the connection "
            "without an answer",
            f"buffer-size = {BUFFER_SIZE}",
        )
    if "idle" in options:
        yield (
            "stops workers that get no requests for some time, and open WebSockets aren't "
            "requests: busy ones are closed with 1001 Going Away",
            "Remove idle.",
        )


_OTHER_FRONT = "http-socket = 127.0.0.1:8000 behind a proxy, or http = with http-websockets = true"
_FRONT_REMEDIES = {
    "https-socket": "https = with http-websockets = true, or a proxy in front of an http-socket",
}


def _socket_faults(options: Mapping[str, str], websocket: WebSocket) -> Iterator[tuple[str, str]]:
    has_router = "http" in options or "https" in options
    for front in unusable(options):
        remedy = _FRONT_REMEDIES.get(front.option, _OTHER_FRONT)
        yield f"has a front socket (--{front.option}) that {front.reason}", remedy
    if not has_router:
        return
    if "http-websockets" not in options:
        yield "has a router that doesn't pass WebSockets on", "http-websockets = true"
    if (_number(options, "http-buffer-size") or 0) < HTTP_BUFFER_SIZE:
        yield (
            "has a router with a small buffer: messages of more than 4 KiB take 40 to 90 ms",
            f"http-buffer-size = {HTTP_BUFFER_SIZE}",
        )
    timeout = _number(options, "http-timeout") or 60
    interval = websocket.groups.settings.ping_interval
    if interval is None or interval >= timeout:
        pings = "no Pings" if interval is None else f"a Ping every {interval:g} s"
        yield (
            f"has a router that closes connections after {timeout} s of silence, and there are "
            f"{pings}",
            f"WSVIEWS_PING_INTERVAL = {max(1, timeout // 2)}",
        )


def read_ini(path: Path) -> dict[str, str]:
    """Return the options of a file's ``[uwsgi]`` section; the last value counts.

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


def check_broker(websocket: WebSocket) -> Iterator[Finding]:
    """Check that a message that is published comes back, and that a history is kept."""
    groups = websocket.groups
    name = shown_url(groups.settings.broker_url)
    try:
        groups.broker.ping()
        if groups.broker.is_shared:
            check_round_trip(groups.broker, groups.settings.broker_timeout)
    except WSViewsError as error:
        yield Finding(
            "broker", f"{name}: {error}", "Is it running there, and is WSVIEWS_BROKER_URL right?"
        )
        return
    finally:
        groups.broker.close()
    if groups.broker.is_shared:
        yield Finding("broker", f"{name} answers, delivers and keeps messages")
    else:
        yield Finding("broker", f"{name}: groups are in the memory of a single worker")


def check_url(url: str, app: Flask, headers: Sequence[tuple[str, str]] = ()) -> Iterator[Finding]:
    """Check that a WebSocket of a running server is reached, past all proxies.

    A Ping has to be answered after the handshake, and a handshake with large headers has to pass.

    :param app: its rules help to explain an answer.
    :param headers: to send as well: cookies, a token, another origin.
    """
    parts = urlsplit(url)
    try:
        is_valid = parts.scheme in ("ws", "wss", "http", "https") and bool(parts.hostname)
        is_valid = is_valid and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:
        yield Finding("handshake", f"{url!r} isn't the URL of a WebSocket", "Pass wss://host/path.")
        return
    secure = parts.scheme in ("wss", "https")
    own_origin = f"{'https' if secure else 'http'}://{parts.netloc.rpartition('@')[2]}"
    origin = {name.lower(): value for name, value in headers}.get("origin", own_origin)
    answer = probe(parts, origin, headers, SECONDS)
    if answer.status != 101:
        yield _refusal(url, parts, origin, answer, app)
        return
    yield _opened(url, origin, answer)
    if answer.is_open:
        yield from _check_large_headers(parts, origin, headers)


def _opened(url: str, origin: str, answer: Answer) -> Finding:
    if answer.is_open:
        return Finding("handshake", f"{url} is accepted from {origin}, and a Ping is answered")
    if answer.close_code is not None:
        reason = f": {answer.close_reason}" if answer.close_reason else ""
        text = f"{url} is accepted from {origin}, and closed with {answer.close_code}{reason}"
        return Finding("handshake", text)
    return Finding(
        "handshake",
        f"{url} is accepted from {origin}, but {answer.error}",
        "uWSGI's router needs http-websockets = true; a proxy has to pass on bytes in both "
        "directions after the 101.",
    )


def _check_large_headers(
    parts: SplitResult, origin: str, headers: Sequence[tuple[str, str]]
) -> Iterator[Finding]:
    padding = ("Cookie", f"wsviews-doctor={'x' * COOKIE}")
    answer = probe(parts, origin, [*headers, padding], SECONDS)
    # The application has a limit of connections or handshakes: nothing follows for the headers.
    if answer.status in (101, 429, 503):
        return
    outcome = f"isn't answered: {answer.error}"
    if answer.status is not None:
        outcome = f"is answered with {answer.status}"
    yield Finding("headers", f"a handshake with a cookie of 5 KB {outcome}", _LARGER_BUFFERS)


def _refusal(url: str, parts: SplitResult, origin: str, answer: Answer, app: Flask) -> Finding:
    if answer.status is None:
        return Finding(
            "handshake",
            f"{url}: no answer: {answer.error}",
            "Does the server run there? uWSGI's router needs http-websockets = true. For large "
            f"cookies uWSGI needs buffer-size = {BUFFER_SIZE}.",
        )
    if answer.location is not None and 300 <= answer.status < 400:
        return Finding(
            "handshake",
            f"{url} is redirected to {answer.location} ({answer.status}), and browsers don't "
            "follow redirects of a handshake",
            "Use that URL if it is the WebSocket's, with its slash; if it is a login page, pass "
            "--cookie with a session.",
        )
    explained = None if answer.status == 401 else _explain_path(url, parts, answer.status, app)
    return explained or _verdict(url, origin, answer.status)


def _explain_path(url: str, parts: SplitResult, status: int, app: Flask) -> Finding | None:
    """Return what the application's rules say about the path, if that explains the status."""
    if status not in (200, 400, 404, 405, 426):
        return None
    text = f"{url} is answered with {status}"
    adapter = app.url_map.bind(parts.hostname or "")
    path = parts.path or "/"
    try:
        adapter.match(path, websocket=True)
    except RequestRedirect as redirect:
        return Finding("handshake", f"{text}: the rule redirects it", f"Use {redirect.new_url}.")
    except HTTPException:
        pass
    else:
        return None
    try:
        endpoint, _ = adapter.match(path, method="GET", websocket=False)
    except HTTPException:
        # The server may have the application under a prefix.
        return Finding("handshake", f"{text}: the application has no rule for {path}", _ROUTES)
    return Finding("handshake", f"{text}: {path} is a page ({endpoint}), not a WebSocket", _ROUTES)


def _verdict(url: str, origin: str, status: int) -> Finding:
    upgrade = (
        "Does the proxy pass on Connection and Upgrade? nginx: proxy_http_version 1.1; "
        'proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";'
    )
    remedies = {
        200: upgrade,
        400: upgrade,
        403: "Does the proxy pass on Host and X-Forwarded-Proto, and is there a "
        "ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1)? Otherwise add the origin "
        f"{origin} to WSVIEWS_ALLOWED_ORIGINS. Does the view want a login? Pass --cookie or "
        "--header.",
        404: f"Does the proxy pass on this path? {_ROUTES}",
        426: upgrade,
        429: "Too many handshakes or connections from this address: see WSVIEWS_RATE_LIMIT and "
        "WSVIEWS_MAX_CONNECTIONS_PER_ADDRESS. Behind a proxy ProxyFix tells addresses apart.",
        431: _LARGER_BUFFERS,
        502: "Does uWSGI run where the proxy looks for it?",
        503: "Is the worker full (WSVIEWS_MAX_CONNECTIONS), or about to end?",
        504: "Does uWSGI answer there? A router needs http-websockets = true.",
    }
    # A WebSocket that wants a login is as it should be.
    remedy = remedies.get(status, "" if status == 401 else "Look into the server's log.")
    hint = ": it wants a login; pass --cookie or --header to try with one" if status == 401 else ""
    return Finding("handshake", f"{url} is answered with {status}{hint}", remedy or None)


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)  # noqa: S603
    return done.stdout
