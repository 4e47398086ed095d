"""UWSGI's sockets and routers by what they do with a WebSocket: for the start and for doctor."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

_REREADS: Final = "keeps the connection for the next request and takes messages from the WebSocket"
_WRAPS: Final = "packs what the application writes into FastCGI records, so no handshake completes"
_TLS: Final = "keeps the TLS state to itself, so the connection can't be taken over"

#: Protocols of sockets that WebSockets can't be taken from, and why. With the others the stream
#: is ours: http, and with nginx in front uwsgi (``uwsgi_pass``) and scgi (``scgi_pass``).
UNUSABLE_PROTOCOLS: Final = {
    "http11": _REREADS,
    "puwsgi": _REREADS,
    "fastcgi": _WRAPS,
    "fastcgi-nph": _WRAPS,
    "https": _TLS,
    "suwsgi": _TLS,
    "raw": "carries no HTTP",
    "mongrel2": "carries no stream of bytes",
}

# Options whose names don't begin with their protocol's.
_OTHER_NAMES: Final = {
    "ssl-socket": "suwsgi",
    "zeromq-socket": "mongrel2",
    "zmq-socket": "mongrel2",
}

#: What sets a socket of such a protocol up.
UNUSABLE_OPTIONS: Final = {
    **{f"{protocol}-socket": protocol for protocol in UNUSABLE_PROTOCOLS if protocol != "mongrel2"},
    **_OTHER_NAMES,
}

# Sockets that have the protocol that these set.
_DEFAULT_SOCKETS: Final = ("socket",)
_DEFAULT_PROTOCOL: Final = ("protocol", "socket-protocol")

# Those whose streams are ours.
_USABLE_OPTIONS: Final = ("http-socket", "uwsgi-socket", "scgi-socket", "scgi-nph-socket")

_WAY_OUT: Final = "use --http-socket, or --http with --http-websockets"


class Front(NamedTuple):
    """A socket that WebSockets can't be taken from.

    :param option: what sets it up.
    :param address: what it is bound to, as configured.
    :param reason: what it does.
    """

    option: str
    address: str
    reason: str

    def __str__(self) -> str:
        return f"--{self.option} {self.reason}: {_WAY_OUT}"

    @property
    def local(self) -> int | str | None:
        """See :func:`local_address`."""
        return local_address(self.address)


def local_address(configured: str) -> int | str | None:
    """The TCP port or the path of a Unix socket that is configured like this.

    :returns: ``None`` if that can't be read off it.
    """
    address = configured.partition(",")[0]
    if port := re.fullmatch(r"(?:[^/@=]*|\[.*\]):(\d+)", address):
        return int(port[1]) or None
    return address if re.fullmatch(r"[^@=:]+", address) else None


def usable(options: Mapping[str, Any]) -> set[int | str | None]:
    """The local addresses of the sockets among uWSGI's *options* that serve WebSockets."""
    protocols = [one for name in _DEFAULT_PROTOCOL for one in _values(options, name)]
    is_default_usable = UNUSABLE_PROTOCOLS.keys().isdisjoint(protocols)
    names = (*_USABLE_OPTIONS, *(_DEFAULT_SOCKETS if is_default_usable else ()))
    return {local_address(one) for name in names for one in _values(options, name)}


def unusable(options: Mapping[str, Any]) -> list[Front]:
    """The sockets among uWSGI's *options* that WebSockets can't be taken from.

    :param options: names without dashes in front, and values: text, bytes, or a list of those.
    """
    found = [
        Front(option, address, UNUSABLE_PROTOCOLS[protocol])
        for option, protocol in UNUSABLE_OPTIONS.items()
        for address in _values(options, option)
    ]
    for option in _DEFAULT_PROTOCOL:
        for protocol in _values(options, option):
            if protocol in UNUSABLE_PROTOCOLS:
                reason = UNUSABLE_PROTOCOLS[protocol]
                addresses = [one for name in _DEFAULT_SOCKETS for one in _values(options, name)]
                found += [Front(f"{option} {protocol}", one, reason) for one in addresses]
    return found


def doubtful_routers(options: Mapping[str, Any]) -> Iterator[str]:
    """What uWSGI's own routers, as configured, do to WebSockets, and what to change.

    A router may be there for pages only, so nothing is refused for it.
    """
    routers = [name for name in ("http", "https", "https2") if name in options]
    if routers and not {"http-websockets", "http-raw-body"} & options.keys():
        yield (
            f"the router (--{routers[0]}) passes handshakes on but no message: "
            "add --http-websockets"
        )
    for name in ("sslrouter", "sslrouter2"):
        if name in options:
            yield (
                f"the router (--{name}) ends a connection at its second write, so at the first "
                "message of a WebSocket: use --https with --http-websockets, or a proxy"
            )


def _values(options: Mapping[str, Any], name: str) -> list[str]:
    value = options.get(name, [])
    values = value if isinstance(value, (list, tuple)) else [value]
    return [one.decode() if isinstance(one, bytes) else str(one) for one in values]
