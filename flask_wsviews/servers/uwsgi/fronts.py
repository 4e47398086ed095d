"""Which of uWSGI's sockets and routers support WebSockets. Used at startup and by doctor."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

_REREADS: Final = "reads the next request from the connection and takes messages from the WebSocket"
_WRAPS: Final = "wraps the application's bytes in FastCGI records, so no handshake completes"
_TLS: Final = "doesn't share its TLS state, so the connection can't be taken over"

#: The socket protocols that can't serve WebSockets, and why. The others give access to the raw
#: stream: http, and behind nginx uwsgi (``uwsgi_pass``) and scgi (``scgi_pass``).
UNUSABLE_PROTOCOLS: Final = {
    "http11": _REREADS,
    "puwsgi": _REREADS,
    "fastcgi": _WRAPS,
    "fastcgi-nph": _WRAPS,
    "https": _TLS,
    "suwsgi": _TLS,
    "raw": "carries no HTTP",
    "mongrel2": "carries messages, not a stream of bytes",
}

# Options that aren't called after their protocol.
_OTHER_NAMES: Final = {
    "ssl-socket": "suwsgi",
    "zeromq-socket": "mongrel2",
    "zmq-socket": "mongrel2",
}

#: The options for sockets of these protocols.
UNUSABLE_OPTIONS: Final = {
    **{f"{protocol}-socket": protocol for protocol in UNUSABLE_PROTOCOLS if protocol != "mongrel2"},
    **_OTHER_NAMES,
}

# The sockets without a protocol in their name, and the options that set it.
_DEFAULT_SOCKETS: Final = ("socket",)
_DEFAULT_PROTOCOL: Final = ("protocol", "socket-protocol")

# The sockets that serve WebSockets.
_USABLE_OPTIONS: Final = ("http-socket", "uwsgi-socket", "scgi-socket", "scgi-nph-socket")

_WAY_OUT: Final = "use --http-socket, or --http with --http-websockets"


class Front(NamedTuple):
    """A socket that can't serve WebSockets.

    :param option: the option that configures it.
    :param address: the option's value.
    :param reason: why it can't.
    """

    option: str
    address: str
    reason: str

    def __str__(self) -> str:
        return f"--{self.option} {self.reason}: {_WAY_OUT}"

    @property
    def local(self) -> int | str | None:
        """The address as :func:`local_address` returns it."""
        return local_address(self.address)


def local_address(configured: str) -> int | str | None:
    """Return the TCP port, or the path of the Unix socket, in an option's value.

    :returns: ``None`` if it isn't fixed there.
    """
    address = configured.partition(",")[0]
    if port := re.fullmatch(r"(?:[^/@=]*|\[.*\]):(\d+)", address):
        return int(port[1]) or None
    return address if re.fullmatch(r"[^@=:]+", address) else None


def usable(options: Mapping[str, Any]) -> set[int | str | None]:
    """Return the local addresses of the sockets in uWSGI's *options* that serve WebSockets."""
    protocols = [one for name in _DEFAULT_PROTOCOL for one in _values(options, name)]
    is_default_usable = UNUSABLE_PROTOCOLS.keys().isdisjoint(protocols)
    names = (*_USABLE_OPTIONS, *(_DEFAULT_SOCKETS if is_default_usable else ()))
    return {local_address(one) for name in names for one in _values(options, name)}


def unusable(options: Mapping[str, Any]) -> list[Front]:
    """Return the sockets in uWSGI's *options* that can't serve WebSockets.

    :param options: names without leading dashes, and values: text, bytes, or a list of those.
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
    """Yield a warning for each of uWSGI's routers that breaks WebSockets, with the fix.

    Only a warning, since the router may serve nothing but pages.
    """
    routers = [name for name in ("http", "https", "https2") if name in options]
    if routers and not {"http-websockets", "http-raw-body"} & options.keys():
        yield (
            f"the router (--{routers[0]}) forwards handshakes but no messages: "
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
