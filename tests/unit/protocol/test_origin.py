"""The Origin header of the opening handshake."""

from __future__ import annotations

from typing import Any

import pytest
from support.peers import handshake_environ
from werkzeug.exceptions import Forbidden

from flask_wsviews.protocol.origin import check_origin

OWN = "https://example.org"


@pytest.mark.parametrize(
    ("origin", "own", "allowed"),
    [
        (None, OWN, ()),
        ("https://example.org", OWN, ()),
        ("HTTPS://EXAMPLE.ORG", OWN, ()),
        ("https://example.org:443", OWN, ()),
        ("https://example.org", "https://example.org:443", ()),
        ("http://example.org", "http://example.org:80", ()),
        ("http://example.org:8080", "http://example.org:8080", ()),
        ("https://example.org", "wss://example.org", ()),
        ("http://example.org", "ws://Example.org:80", ()),
        ("http://[::1]:5000", "http://[::1]:5000", ()),
        ("http://[::1]", "http://[::1]:80", ()),
        ("http://[2001:DB8::1]", "http://[2001:db8::1]", ()),
        ("https://other.org", OWN, ({"https://other.org"},)),
        ("https://other.org:443", OWN, ({"https://other.org"},)),
        ("https://other.org", OWN, (set(), {"https://other.org"})),
        ("https://other.org", OWN, ("*",)),
        ("https://other.org", OWN, (set(), "*")),
        ("null", OWN, ({"null"},)),
        ("null", OWN, ("*",)),
        ("nonsense", OWN, ("*",)),
    ],
)
def test_origins_that_may_connect(origin: str | None, own: str, allowed: tuple[Any, ...]) -> None:
    check_origin(handshake_environ(HTTP_ORIGIN=origin), own, *allowed)


@pytest.mark.parametrize(
    ("origin", "own", "allowed"),
    [
        ("https://other.org", OWN, ()),
        ("http://example.org", OWN, ()),
        ("https://example.org:8443", OWN, ()),
        ("https://www.example.org", OWN, ()),
        ("https://example.org.evil.org", OWN, ()),
        ("https://example.org", "https://example.org:8443", ()),
        ("https://other.org", OWN, (set(), {"https://another.org"})),
        ("null", OWN, ()),
        ("null", OWN, ({"https://other.org"},)),
        ("null", "null", ()),
        ("", OWN, ()),
        ("nonsense", OWN, ()),
        ("nonsense", "nonsense", ()),
        ("https://example.org/page", OWN, ()),
        ("https://example.org:port", OWN, ()),
        ("http://[::1", "http://[::1", ()),
        ("http://[::2]", "http://[::1]", ()),
    ],
)
def test_origins_that_may_not_connect(origin: str, own: str, allowed: tuple[Any, ...]) -> None:
    with pytest.raises(Forbidden) as caught:
        check_origin(handshake_environ(HTTP_ORIGIN=origin), own, *allowed)
    assert "WSVIEWS_ALLOWED_ORIGINS" in str(caught.value.description)


def test_a_refused_origin_is_escaped_in_the_page() -> None:
    with pytest.raises(Forbidden) as caught:
        check_origin(handshake_environ(HTTP_ORIGIN="https://<script>"), OWN)
    page = caught.value.get_response().get_data(as_text=True)
    assert "<script>" not in page
