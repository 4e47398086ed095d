"""Normalize and compare web origins (RFC 6454)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address

#: The origin that browsers send for pages whose origin is private or has no name.
NULL = "null"

#: The beginning of a pattern: matches one or more labels of a host.
WILDCARD = "*."

# An origin has no user, path or query, and no empty port.
_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>\[[0-9a-f:.]+\]|[^\s\[\]:/?#@\\%]*)"
    r"(?::(?P<port>[0-9]{1,5}))?",
    re.IGNORECASE,
)
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")
_IPV4 = re.compile(r"[0-9.]+")

# A DNS name has at most 253 bytes. Punycode is longer than the Unicode that it encodes.
_LONGEST = 300

_WEBSOCKET_SCHEMES = {"ws": "http", "wss": "https"}
_DEFAULT_PORTS = {"http": 80, "https": 443}
_MOST_PORT = 65535


@lru_cache(maxsize=256)
def normal_origin(origin: str) -> str | None:
    """Return an origin as browsers send it, or ``None`` if it isn't valid.

    Scheme and host are in lower case, a default port is left out, ``ws`` becomes ``http``, and a
    Unicode host is encoded in ASCII (punycode).
    """
    return _normal(origin.strip())


def normal_pattern(pattern: str) -> str | None:
    """Normalize an origin whose host may begin with ``*.``, which matches subdomains."""
    scheme, separator, rest = pattern.strip().partition("://")
    if not rest.startswith(WILDCARD):
        return normal_origin(pattern)
    normal = _normal(f"{scheme}{separator}{rest.removeprefix(WILDCARD)}")
    if normal is None:
        return None
    scheme, separator, rest = normal.partition("://")
    host = rest.partition(":")[0]
    # An address has no subdomains.
    if not host or rest.startswith("[") or _IPV4.fullmatch(host):
        return None
    return f"{scheme}{separator}{WILDCARD}{rest}"


def is_among(origin: str, allowed: Iterable[frozenset[str]]) -> bool:
    """Return whether a set contains a normal origin, or a pattern that matches it."""
    return any(origin in one or not one.isdisjoint(_patterns(origin)) for one in allowed)


def difference(one: str, other: str) -> str | None:
    """Return the difference of two normal origins of the same host, for an error message.

    :returns: ``"scheme"``, ``"port"`` or both; ``None`` if the hosts differ.
    """
    (scheme, host, port), (other_scheme, other_host, other_port) = _parts(one), _parts(other)
    if host != other_host:
        return None
    differing = [
        name
        for name, differs in (("scheme", scheme != other_scheme), ("port", port != other_port))
        if differs
    ]
    return " and the ".join(differing)


def _normal(origin: str) -> str | None:
    match = _ORIGIN.fullmatch(origin) if len(origin) <= _LONGEST else None
    host = _normal_host(match["host"]) if match else None
    if match is None or host is None:
        return None
    scheme = match["scheme"].lower()
    scheme = _WEBSOCKET_SCHEMES.get(scheme, scheme)
    port = None if match["port"] is None else int(match["port"])
    if not host and (scheme in _DEFAULT_PORTS or port is not None):
        # Only schemes such as file:// have no host.
        return None
    if port is None or port == _DEFAULT_PORTS.get(scheme):
        return f"{scheme}://{host}"
    return None if port > _MOST_PORT else f"{scheme}://{host}:{port}"


def _normal_host(host: str) -> str | None:
    if host.startswith("["):
        try:
            return f"[{IPv6Address(host[1:-1]).compressed}]"
        except AddressValueError:
            return None
    if not host:
        return host
    host = host.lower() if host.isascii() else _mapped(host)
    labels = [_normal_label(label) for label in host.split(".")]
    # A fully qualified name ends with a dot. Browsers treat it as another origin.
    end = labels.pop() if len(labels) > 1 and host.endswith(".") else None
    if not all(labels):
        return None
    return ".".join(filter(None, labels)) + ("" if end is None else ".")


def _mapped(host: str) -> str:
    """Map a Unicode host as browsers do (UTS 46, non-transitional); ``""`` if it isn't valid."""
    # Imported late: its tables take a while to load, and most hosts are ASCII.
    import idna

    try:
        return idna.uts46_remap(host, std3_rules=False, transitional=False)
    except idna.IDNAError:
        return ""


def _normal_label(label: str) -> str:
    """Return a mapped label of a host in ASCII; ``""`` if it isn't valid."""
    if not label.isascii():
        if any(each.isascii() and not _LABEL.fullmatch(each) for each in label):
            return ""
        label = f"xn--{label.encode('punycode').decode()}"
    return label if _LABEL.fullmatch(label) else ""


def _patterns(origin: str) -> Iterator[str]:
    """Yield the patterns that match a normal origin."""
    scheme, _, rest = origin.partition("://")
    while "." in rest:
        rest = rest.partition(".")[2]
        yield f"{scheme}://{WILDCARD}{rest}"


def _parts(origin: str) -> tuple[str, str, int | None]:
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        return origin, origin, None
    scheme = match["scheme"]
    port = _DEFAULT_PORTS.get(scheme) if match["port"] is None else int(match["port"])
    return scheme, match["host"], port
