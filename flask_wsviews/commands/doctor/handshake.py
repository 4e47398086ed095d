"""Whether a running server's WebSocket can be reached, through all proxies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import SplitResult, urlsplit

from flask import Flask
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect

from ...servers.uwsgi.arguments import BUFFER_SIZE, HTTP_BUFFER_SIZE
from .finding import Finding
from .probe import Answer, probe

# How long an answer may take, in seconds.
SECONDS = 10.0

# The size of a cookie that doesn't fit into uWSGI's default buffer.
COOKIE = 5000

# uWSGI, its router and proxies each limit the size of headers.
_LARGER_BUFFERS = (
    f"uWSGI: buffer-size = {BUFFER_SIZE}; its router: http-buffer-size = {HTTP_BUFFER_SIZE}; "
    "nginx: large_client_header_buffers 4 32k"
)
_ROUTES = "flask ws routes lists the WebSockets."


def check_url(url: str, app: Flask, headers: Sequence[tuple[str, str]] = ()) -> Iterator[Finding]:
    """Check that a running server accepts a handshake, answers a Ping and takes large headers.

    :param app: the application, whose rules may explain a refusal.
    :param headers: additional headers: cookies, a token, another origin.
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
        "uWSGI's router needs http-websockets = true. A proxy must forward bytes in both "
        "directions after the 101.",
    )


def _check_large_headers(
    parts: SplitResult, origin: str, headers: Sequence[tuple[str, str]]
) -> Iterator[Finding]:
    padding = ("Cookie", f"wsviews-doctor={'x' * COOKIE}")
    answer = probe(parts, origin, [*headers, padding], SECONDS)
    # 429 and 503: a limit on connections or handshakes, which has nothing to do with the headers.
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
            "Is the server running there? uWSGI's router needs http-websockets = true. For large "
            f"cookies uWSGI needs buffer-size = {BUFFER_SIZE}.",
        )
    if answer.location is not None and 300 <= answer.status < 400:
        return Finding(
            "handshake",
            f"{url} is redirected to {answer.location} ({answer.status}), and browsers don't "
            "follow redirects of a handshake",
            "If that URL is the WebSocket's, use it, with its slash. If it is a login page, pass "
            "--cookie with a session.",
        )
    explained = None if answer.status == 401 else _explain_path(url, parts, answer.status, app)
    return explained or _verdict(url, origin, answer.status)


def _explain_path(url: str, parts: SplitResult, status: int, app: Flask) -> Finding | None:
    """Look the path up in the application's rules. Return ``None`` if that explains nothing."""
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
        # The server may also have mounted the application under a prefix.
        return Finding("handshake", f"{text}: the application has no rule for {path}", _ROUTES)
    return Finding("handshake", f"{text}: {path} is a page ({endpoint}), not a WebSocket", _ROUTES)


def _verdict(url: str, origin: str, status: int) -> Finding:
    upgrade = (
        "Does the proxy forward Connection and Upgrade? nginx: proxy_http_version 1.1; "
        'proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";'
    )
    remedies = {
        200: upgrade,
        400: upgrade,
        403: "Does the proxy forward Host and X-Forwarded-Proto, and is there a "
        "ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1)? Otherwise add the origin "
        f"{origin} to WSVIEWS_ALLOWED_ORIGINS. Does the view need a login? Pass --cookie or "
        "--header.",
        404: f"Does the proxy forward this path? {_ROUTES}",
        426: upgrade,
        429: "Too many handshakes or connections from this address: see WSVIEWS_RATE_LIMIT and "
        "WSVIEWS_MAX_CONNECTIONS_PER_ADDRESS. Behind a proxy, add ProxyFix: without it all "
        "clients have the proxy's address.",
        431: _LARGER_BUFFERS,
        502: "Is uWSGI running at the address that the proxy connects to?",
        503: "Is the worker full (WSVIEWS_MAX_CONNECTIONS), or shutting down?",
        504: "Does uWSGI answer there? Its router needs http-websockets = true.",
    }
    # A WebSocket that needs a login isn't a problem.
    remedy = remedies.get(status, "" if status == 401 else "See the server's log.")
    hint = ": it needs a login; pass --cookie or --header to log in" if status == 401 else ""
    return Finding("handshake", f"{url} is answered with {status}{hint}", remedy or None)
