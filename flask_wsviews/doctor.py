"""What keeps WebSockets from working: what is wrong, and the line that mends it."""

from __future__ import annotations

import base64
import http.client
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from . import framing
from .exceptions import CommandError, WSViewsError
from .groups.brokers import without_password
from .uwsgi_command import HTTP_BUFFER_SIZE, find_uwsgi

if TYPE_CHECKING:
    from .extension import WebSocket

#: How long an answer may take.
SECONDS = 10.0

#: What the command line of each engine needs, besides what all need.
ENGINE_OPTIONS = {"blocking": "--threads", "gevent": "--gevent", "asyncio": "--threads"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    :param subject: what it is about, in a word.
    :param text: what was found.
    :param remedy: what to do, if it is a fault.
    """

    subject: str
    text: str
    remedy: str | None = None


def is_compiled() -> bool:
    """Whether the modules that every message goes through are compiled."""
    return not str(framing.__file__).endswith(".py")


def check_build() -> Finding:
    """Are the modules compiled? Both ways are right."""
    text = "compiled" if is_compiled() else "not compiled, which costs some speed"
    return Finding("modules", text)


def check_uwsgi(websocket: WebSocket) -> Iterator[Finding]:
    """Is there a uWSGI, and can it do what the engine needs?"""
    try:
        binary = find_uwsgi()
    except CommandError as error:
        yield Finding("uWSGI", "isn't installed", str(error))
        return
    try:
        version = _output(binary, "--version").strip()
        known = set(re.findall(r"^\s+(--[\w-]+)", _output(binary, "--help"), re.MULTILINE))
    except (OSError, subprocess.SubprocessError) as error:
        yield Finding("uWSGI", f"{binary} can't be run: {error}", "install it anew")
        return
    # The help lists --wsgi under other names only; this one comes with it.
    missing = [] if "--wsgi-file" in known else ["--wsgi"]
    needed = ("--http-websockets", ENGINE_OPTIONS[websocket.engine.name])
    missing += [option for option in needed if option not in known]
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
    """Does an ini file of uWSGI's fit the engine, the router and the groups?"""
    try:
        options = read_ini(path)
    except (OSError, ConfigParserError, UnicodeDecodeError) as error:
        yield Finding(path.name, f"can't be read: {error}", "pass a file with a [uwsgi] section")
        return
    faults = [*_engine_faults(options, websocket), *_socket_faults(options, websocket)]
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
    engine = websocket.engine.name
    has_threads = "enable-threads" in options or "threads" in options
    if engine == "gevent" and "gevent" not in options:
        yield "has no gevent loop", "gevent = 100"
    if engine != "gevent" and "gevent" in options:
        yield f"has a gevent loop, which {engine} connections would block", "threads = 8"
    if engine == "blocking" and not has_threads:
        yield "has no Python threads, of which each connection needs one", "threads = 8"
    if engine == "asyncio" and not has_threads and "asyncio" not in options:
        yield "has no Python threads, in one of which the event loop runs", "enable-threads = true"
    patches = {"gevent-monkey-patch", "gevent-early-monkey-patch"} & options.keys()
    if engine == "gevent" and not (patches or websocket.groups.settings.monkey_patch):
        yield (
            "leaves the standard library as it is: a hook that waits stops all connections",
            "gevent-early-monkey-patch = true, or WSVIEWS_MONKEY_PATCH = True",
        )
    if "master" not in options:
        yield "has no master process, which reloads and replaces workers", "master = true"


def _socket_faults(options: Mapping[str, str], websocket: WebSocket) -> Iterator[tuple[str, str]]:
    has_router = "http" in options or "https" in options
    if "https-socket" in options:
        yield (
            "ends TLS in an --https-socket, which WebSockets can't be taken from",
            "https = with http-websockets = true, or a proxy in front of an http-socket",
        )
    if not has_router:
        return
    if "http-websockets" not in options:
        yield "has a router that lets handshakes hang", "http-websockets = true"
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
            f"has a router that cuts connections off after {timeout} s of silence, and there are "
            f"{pings}",
            f"WSVIEWS_PING_INTERVAL = {max(1, timeout // 2)}",
        )


def read_ini(path: Path) -> dict[str, str]:
    """The options of a file's ``[uwsgi]`` section; of one that stands several times the last.

    :raises OSError: if it can't be read.
    :raises configparser.Error: if it is no such file.
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
    """Does the broker answer?"""
    groups = websocket.groups
    name = without_password(groups.settings.broker_url)
    try:
        groups.broker.ping()
    except WSViewsError as error:
        yield Finding(
            "broker", f"{name}: {error}", "Is it running there, and is WSVIEWS_BROKER_URL right?"
        )
        return
    finally:
        groups.broker.close()
    if groups.broker.is_shared:
        yield Finding("broker", f"{name} answers")
    else:
        yield Finding("broker", f"{name}: groups are in the memory of a single worker")


def check_url(url: str) -> Iterator[Finding]:
    """Does a handshake get through to a server that runs, past whatever is in front of it?"""
    parts = urlsplit(url)
    secure = parts.scheme in ("wss", "https")
    if parts.scheme not in ("ws", "wss", "http", "https") or not parts.hostname:
        yield Finding("handshake", f"{url!r} is no URL of a WebSocket", "wss://host/path")
        return
    made = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = made(parts.hostname, parts.port, timeout=SECONDS)
    origin = f"{'https' if secure else 'http'}://{parts.netloc.rpartition('@')[2]}"
    headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Version": "13",
        "Origin": origin,
    }
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("GET", path, headers=headers)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        yield Finding(
            "handshake",
            f"{url}: no answer: {error or type(error).__name__}",
            "Does it run there? A router needs http-websockets = true, or handshakes hang.",
        )
        return
    finally:
        connection.close()
    yield _verdict(url, origin, status)


def _verdict(url: str, origin: str, status: int) -> Finding:
    if status == 101:
        return Finding("handshake", f"{url} is accepted from {origin}")
    remedies = {
        400: "Does the proxy pass Connection and Upgrade on? nginx: proxy_http_version 1.1; "
        'proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";',
        403: "Does the proxy pass Host and X-Forwarded-Proto on, and is there a "
        "ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1)? Else add the origin to "
        "WSVIEWS_ALLOWED_ORIGINS.",
        404: "Is there such a rule? flask ws routes lists them.",
        502: "Does uWSGI run where the proxy looks for it?",
        503: "Is the worker full (WSVIEWS_MAX_CONNECTIONS), or about to end?",
        504: "Does uWSGI answer there? A router needs http-websockets = true.",
    }
    remedies[426] = remedies[400]
    # A page that wants a login is as it should be.
    remedy = remedies.get(status, "" if status == 401 else "Look into the server's log.")
    return Finding("handshake", f"{url} is answered with {status}", remedy or None)


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)  # noqa: S603
    return done.stdout
