"""Origins: what is the same origin as another, and what isn't one."""

from __future__ import annotations

from typing import Any

import idna
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from support.peers import bounded, handshake_environ
from werkzeug.exceptions import Forbidden

from flask_wsviews import ConfigError
from flask_wsviews.common.option_checks import origins
from flask_wsviews.common.origins import normal_origin
from flask_wsviews.protocol.origin import check_origin

OWN = "http://own.example:5000"


def is_allowed(header: str, own: str = OWN, allowed: Any = ()) -> bool:
    try:
        check_origin(
            handshake_environ(HTTP_ORIGIN=header), own, origins("WSVIEWS_ALLOWED_ORIGINS", allowed)
        )
    except Forbidden:
        return False
    return True


# -- the own origin -----------------------------------------------------------------------------

LOOKALIKES = [
    "http://evil@own.example:5000",
    "http://evil:secret@own.example:5000",
    "http://@own.example:5000",
    "http://own.example:5000/",
    "http://own.example:5000?",
    "http://own.example:5000#",
    "http://own.example:5000:",
    "http://own.example:5000;",
    "http://own.example:5000\\",
    "http://own.example:5000 http://evil.example",
    "http://own.example:5000,http://evil.example",
    " http://own.example:5000",
    "http://own.example:5000 ",
    "http://own.example:5000\t",
    "http:// own.example:5000",
    "http://own.exa\tmple:5000",
    "http://own.example\n:5000",
    "http://own%2Eexample:5000",
    "http://own.example.:5000",
    "http://.own.example:5000",
    "http://own..example:5000",
    "http:/own.example:5000",
    "http:own.example:5000",
    "//own.example:5000",
    "own.example:5000",
    "http://own.example",
    "http://own.example:",
    "http://own.example:+5000",
    "http://own.example:5_000",
    "http://own.example:\u0665\u0660\u0660\u0660",
    "http://own.example:70536",
    "https://own.example:5000",
]


@pytest.mark.parametrize("header", LOOKALIKES, ids=ascii)
def test_what_looks_like_the_own_origin(header: str) -> None:
    assert not is_allowed(header)
    assert not is_allowed(header, allowed=[OWN])


@pytest.mark.parametrize("own", ["http://own.example", "https://own.example", "http://[::1]"])
@pytest.mark.parametrize(
    "more", [":", "?", "#", "/", "/?", ":/", "@", "\\", " ", ":0x50", ".", ";"]
)
def test_what_is_more_than_the_own_origin(own: str, more: str) -> None:
    assert is_allowed(own, own)
    assert not is_allowed(own + more, own)


hosts = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?(\.[a-z0-9]{1,8}){0,3}", fullmatch=True)
schemes = st.sampled_from(["http", "https"])
ports = st.one_of(st.none(), st.integers(0, 65535))


def made(scheme: str, host: str, port: int | None) -> str:
    return f"{scheme}://{host}" if port is None else f"{scheme}://{host}:{port}"


@bounded
@given(schemes, hosts, ports)
def test_an_origin_is_its_own(scheme: str, host: str, port: int | None) -> None:
    origin = made(scheme, host, port)
    assert is_allowed(origin, origin)
    assert is_allowed(origin.upper(), origin)
    normal = normal_origin(origin)
    assert normal is not None
    assert normal_origin(normal) == normal


@bounded
@given(schemes, hosts, ports, st.text(min_size=1, max_size=3), st.integers(0, 60))
def test_an_origin_with_anything_added_is_another(
    scheme: str, host: str, port: int | None, added: str, place: int
) -> None:
    own = made(scheme, host, port)
    place = min(place, len(own))
    header = own[:place] + added + own[place:]
    assume(header.lower() != own)
    normal = normal_origin(header)
    # More digits of a port may be the same port, and a default one be left out.
    assume(normal != normal_origin(own) or header != header.strip())
    assert not is_allowed(header, own)


@bounded
@given(st.text(max_size=30))
@example("http://")
@example("http://:80")
@example("://")
def test_anything_can_be_asked(header: str) -> None:
    normal = normal_origin(header)
    assert normal is None or (normal.isascii() and normal_origin(normal) == normal)
    assert is_allowed(header) == (header.lower() == OWN)


# -- those that are allowed ---------------------------------------------------------------------


@pytest.mark.parametrize("origin", ["null", "file://", "app://-", "capacitor://localhost"])
def test_clients_that_have_no_site(origin: str) -> None:
    """Cordova and ESP32 clients, Electron, Capacitor."""
    assert not is_allowed(origin)
    assert is_allowed(origin, allowed=[origin])
    assert not is_allowed(f"{origin}x", allowed=[origin])


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        (
            "https://*.example.com",
            ["https://a.example.com", "https://a.b.c.example.com:443", "HTTPS://A.Example.COM"],
            [
                "https://example.com",
                "http://a.example.com",
                "https://a.example.com:8443",
                "https://aexample.com",
                "https://a.example.com.evil.org",
                "https://.example.com",
                "https://a@b.example.com",
                "https://*.example.com",
                "https://a.example.com/",
            ],
        ),
        (
            "http://*.localhost:5000",
            ["http://tenant.localhost:5000"],
            ["http://localhost:5000", "http://tenant.localhost"],
        ),
        ("https://*.bücher.example", ["https://a.xn--bcher-kva.example"], ["https://a.example"]),
    ],
    ids=["subdomains", "port", "unicode"],
)
def test_subdomains(pattern: str, matching: list[str], others: list[str]) -> None:
    for origin in matching:
        assert is_allowed(origin, allowed=[pattern]), origin
    for origin in others:
        assert not is_allowed(origin, allowed=[pattern]), origin


@pytest.mark.parametrize(
    "pattern",
    [
        "*.example.com",
        "https://*",
        "https://*.",
        "https://*example.com",
        "https://a.*.com",
        "https://*.*.com",
        "https://example.*",
        "https://example.com:*",
        "*://example.com",
        "https://*.127.0.0.1",
        "https://*.[::1]",
        "https://*.example.com/",
        "file:///",
        "https://user@example.com",
        "https://example.com:",
    ],
)
def test_what_is_no_pattern(pattern: str) -> None:
    with pytest.raises(ConfigError, match="isn't a valid origin") as caught:
        origins("WSVIEWS_ALLOWED_ORIGINS", [pattern])
    assert pattern in str(caught.value)


@bounded
@given(schemes, st.lists(hosts, min_size=1, max_size=3), hosts, ports)
def test_a_pattern_matches_all_labels(
    scheme: str, labels: list[str], host: str, port: int | None
) -> None:
    assume(not host.replace(".", "").isdecimal())
    pattern = made(scheme, f"*.{host}", port)
    assert is_allowed(made(scheme, ".".join([*labels, host]), port), allowed=[pattern])
    assert not is_allowed(made(scheme, host, port), allowed=[pattern])
    assert not is_allowed(made(scheme, f"{labels[0]}{host}", port), allowed=[pattern]) or (
        f".{host}" in f"{labels[0]}{host}"
    )


# -- Unicode ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "sent"),
    [
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
        # Browsers keep these apart (UTS 46, nontransitional).
        ("straße.example", "xn--strae-oqa.example"),
        ("strasse.example", "strasse.example"),
        ("βόλος.com", "xn--nxasmm1c.com"),
        ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ("\uff25xample.org", "example.org"),
        ("ex\u00adample.org", "example.org"),
        ("☃.net", "xn--n3h.net"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ],
    ids=ascii,
)
def test_a_unicode_host_is_what_browsers_send(host: str, sent: str) -> None:
    assert is_allowed(f"https://{sent}", allowed=[f"https://{host}"])
    assert is_allowed(f"https://{sent}", own=f"https://{host}")
    # As a WSGI server passes on bytes that aren't ASCII.
    header = f"https://{host}".encode().decode("latin-1")
    assert is_allowed(header, allowed=[f"https://{sent}"])


@pytest.mark.parametrize(
    "host",
    ["ex\u2028ample.org", "a\u2044b.org", "a\uff0fb.org", "a\uff20b.org", "\ue000.org", "\xa0.org"],
)
def test_what_is_no_host(host: str) -> None:
    normal = normal_origin(f"https://{host}")
    assert normal is None or normal.startswith("https://xn--")
    with pytest.raises(Forbidden):
        check_origin(handshake_environ(HTTP_ORIGIN=f"https://{host}"), f"https://{host}x")


words = st.text(
    st.characters(
        codec="utf-8",
        categories=["Ll", "Lo", "Nd"],
        max_codepoint=0x9FFF,
        exclude_characters="\u01c5",
    ),
    min_size=1,
    max_size=8,
)


@bounded
@given(words)
def test_unicode_hosts_are_those_of_the_library_idna(word: str) -> None:
    try:
        sent = idna.encode(word, uts46=True, transitional=False).decode()
    except idna.IDNAError:
        assume(False)
    assert normal_origin(f"https://{word}.example") == f"https://{sent}.example"


# -- what a refusal says ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "own", "hint"),
    [
        ("https://own.example", "http://own.example", "Only the scheme and the port differ."),
        ("https://own.example:8443", "http://own.example:8443", "Only the scheme differs"),
        ("http://own.example:8080", "http://own.example", "Only the port differs"),
        ("https://evil.example", "http://own.example", None),
        ("null", "http://own.example", None),
        ("nonsense", "http://own.example", None),
    ],
)
def test_a_refusal_names_both_origins(origin: str, own: str, hint: str | None) -> None:
    with pytest.raises(Forbidden) as caught:
        check_origin(handshake_environ(HTTP_ORIGIN=origin), own)
    text = str(caught.value.description)
    assert origin in text
    assert own in text
    assert "WSVIEWS_ALLOWED_ORIGINS" in text
    assert ("ProxyFix" in text) == (hint is not None)
    assert hint is None or hint in text
