"""Refuse handshakes from pages of other origins (RFC 6455 10.2)."""

from __future__ import annotations

from werkzeug.exceptions import Forbidden

from ..common.origins import NULL, difference, is_among, normal_origin
from ..typing import Environ

# An error message shows at most this many characters of a client's header.
_SHOWN = 200


def check_origin(environ: Environ, own: str, *allowed: frozenset[str] | str) -> None:
    """Refuse a browser's page from another origin. Clients without an Origin header may connect.

    :param own: the application's own origin, as its clients see it.
    :param allowed: sets of further origins, or ``"*"`` for all.
    :raises werkzeug.exceptions.Forbidden: if the origin is neither.
    """
    header = environ.get("HTTP_ORIGIN")
    if header is None or "*" in allowed:
        return
    # Browsers send ASCII. Other clients may send UTF-8, which WSGI decodes as Latin-1.
    text = header if header.isascii() else _as_utf_8(header)
    origin = NULL if text == NULL else normal_origin(text)
    own_origin = normal_origin(own)
    sets = [one for one in allowed if not isinstance(one, str)]
    # normal_origin() strips spaces, but a browser sends none.
    if origin is not None and text != text.strip():
        origin = None
    if origin is not None and (origin == own_origin or is_among(origin, sets)):
        return
    raise Forbidden(_why_refused(text[:_SHOWN], origin, own, own_origin))


def _as_utf_8(header: str) -> str:
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header


def _why_refused(header: str, origin: str | None, own: str, own_origin: str | None) -> str:
    text = f"The handshake's Origin is {header!r}, but this application's own origin is {own!r}. "
    if origin and own_origin and (parts := difference(origin, own_origin)):
        verb = "differ" if " and " in parts else "differs"
        text += (
            f"Only the {parts} {verb}. Behind a proxy, have it pass on the scheme and the Host "
            "(with its port) that the client uses, and wrap app.wsgi_app in ProxyFix with "
            "x_proto=1, x_host=1 and x_port=1 where the proxy sets these headers. "
        )
    return f"{text}Pages of other origins may connect if WSVIEWS_ALLOWED_ORIGINS contains them."
