"""The ``WSVIEWS_*`` configuration: defaults, units and checks, as one frozen object."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from math import inf, nan
from typing import Any

from .common.origins import NULL, normal_pattern
from .common.origins import normal_origin as normal_origin
from .exceptions import ConfigError

PREFIX = "WSVIEWS_"

# What is easily typed in place of the prefix.
_NEAR_PREFIX = re.compile(r"(?!WSVIEWS_)WS_?VIEWS?_")

# FLASK_WSVIEWS_COMPILE is for pip, and Config.from_prefixed_env() makes a key of it.
_OF_THE_BUILD = f"{PREFIX}COMPILE"

#: What may happen to a client that is too slow for its groups.
POLICIES = ("close", "drop-oldest", "drop-newest")


@dataclass(frozen=True)
class Settings:
    """What can be configured. Each field is the key ``WSVIEWS_`` plus its name in capitals.

    :param max_connections: how many WebSockets one worker has at a time; further handshakes are
        refused with 503. ``None`` for the engine's own limit: 1,000, a thread each, on the
        blocking one, none on the others.
    :param max_connections_per_address: how many of them one client address has in a worker; 429
        beyond. ``None`` for no limit.
    :param max_message_size: largest message taken from a client, in bytes after reassembly and
        decompression; a larger one closes the connection with 1009. ``None`` for no limit.
    :param max_fragments: most frames one message may be split into (1009 beyond).
    :param max_receive_buffer: bytes of messages that wait for a busy hook before reading pauses.
    :param max_send_buffer: bytes that may wait for a slow client. A view's own ``send()`` waits
        until there is room; a ``send()`` from elsewhere never waits, and beyond the limit the
        slow client is closed with 1008.
    :param ping_interval: seconds without a sign of life after which a Ping goes out.
        ``None`` turns keepalive off.
    :param ping_timeout: seconds that the peer has to answer a Ping.
    :param max_control_frames: Pings and Pongs that a client may send in a second; it is closed with
        1008 beyond.
    :param idle_timeout: seconds after which a client that sends no message is closed with 1001.
        ``None`` for never.
    :param max_lifetime: seconds after which a connection is closed with 1012, so that the client
        comes back. ``None`` for never.
    :param rate_limit: how many messages a client may send, such as ``"20/second"``; it is closed
        with 1008 beyond. ``None`` for no limit. It takes the library ``limits``.
    :param rate_limit_storage: where those of several connections are counted together, as
        ``limits`` has it: ``"memory://"`` for each worker by itself, ``"redis://…"`` for all.
    :param close_timeout: seconds that the closing handshake may take.
    :param shutdown_timeout: seconds that a worker which ends gives its connections to say goodbye.
    :param allowed_origins: origins such as ``"https://example.org"`` that may connect besides the
        application's own, or ``"*"`` for all. ``"https://*.example.org"`` stands for subdomains.
    :param compression: whether to negotiate permessage-deflate (RFC 7692).
    :param compression_level: of zlib, from 1, fast, to 9, small.
    :param compression_window_bits: how far back it looks, as a power of two of bytes: 9 to 15. With
        12 a connection takes about 40 KiB, with 15 about 300.
    :param compression_context_takeover: whether a message may refer to those before it. Without it
        nothing is kept from message to message, and less is saved.
    :param compression_min_size: messages that are shorter, in characters or bytes, are sent as
        they are.
    :param text_as_bytes: whether function routes and views without schemas get text messages as
        ``bytes``, as from Flask-uWSGI-WebSocket. ``bytes`` that they send go out as text then, if
        they are UTF-8; ``send_binary()`` sends binary messages.
    :param validate_outgoing: whether typed messages are checked against their schemas on the way
        out; without it they are only dumped.
    :param monkey_patch: whether :class:`~flask_wsviews.GeventWebSocket` monkey-patches the
        standard library when it finds itself in uWSGI's gevent loop.
    :param threads: on :class:`~flask_wsviews.AsyncioWebSocket`, how many plain hooks run at a
        time, and how many plain function routes.
    :param broker_url: what carries messages for groups between workers: ``"memory://"`` for a
        single worker, or ``"redis://…"`` and its relatives.
    :param broker_timeout: seconds that an answer of the broker may take.
    :param key_prefix: what keys and channels in the broker begin with.
    :param max_history_size: bytes that the messages of all groups with a history may take with
        ``"memory://"``, in a worker; the oldest of those groups that were silent longest go first.
    :param max_replays: how many clients of a worker are sent what they missed in their groups at a
        time. Others wait for up to ``broker_timeout`` and are closed with 1013 then.
    :param replay_timeout: seconds that a client which is sent what it missed may take for each
        message; it is closed with 1008 beyond.
    :param slow_clients: what happens to a client that would have more than ``max_send_buffer``
        bytes of its groups' messages to catch up: ``"close"``, with 1008; ``"drop-oldest"`` or
        ``"drop-newest"`` of them.
    :param keep_g: names of attributes of ``g`` that hooks find as the handshake has left them,
        besides those of the well-known extensions for authentication.
    :param presence_ttl: seconds after which the members of a worker that was killed are gone from
        the presence of their groups. Live ones are renewed three times in that time.
    :param engine: the engine to use in place of the extension's own: ``"blocking"``,
        ``"gevent"``, ``"asyncio"``, or ``"auto"`` for the one that fits the server.
    """

    max_connections: int | None = None
    max_connections_per_address: int | None = None
    max_message_size: int | None = 1024 * 1024
    max_fragments: int = 16 * 1024
    max_receive_buffer: int = 256 * 1024
    max_send_buffer: int = 1024 * 1024
    ping_interval: float | None = 25.0
    ping_timeout: float = 20.0
    max_control_frames: int = 500
    idle_timeout: float | None = None
    max_lifetime: float | None = None
    rate_limit: str | None = None
    rate_limit_storage: str = "memory://"
    close_timeout: float = 5.0
    shutdown_timeout: float = 5.0
    allowed_origins: frozenset[str] | str = frozenset()
    compression: bool = False
    compression_level: int = 6
    compression_window_bits: int = 12
    compression_context_takeover: bool = True
    compression_min_size: int = 64
    text_as_bytes: bool = False
    validate_outgoing: bool = True
    monkey_patch: bool = True
    threads: int = 40
    engine: str | None = None
    broker_url: str = "memory://"
    broker_timeout: float = 2.0
    key_prefix: str = "wsviews"
    max_history_size: int = 256 * 1024 * 1024
    max_replays: int = 50
    replay_timeout: float = 20.0
    slow_clients: str = "close"
    keep_g: tuple[str, ...] = ()
    presence_ttl: float = 30.0

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], **defaults: Any) -> Settings:
        """Read the ``WSVIEWS_*`` keys of *mapping*, such as ``app.config``.

        :param defaults: field values to use where *mapping* has no key.
        :raises ConfigError: for a key that doesn't exist or a value that can't be used.
        """
        known = {key_of(field.name): field.name for field in fields(cls)}
        values = dict(defaults)
        for key, value in mapping.items():
            if key in known:
                values[known[key]] = value
            else:
                _check_spelling(key, known)
        return cls(**{name: CHECKS[name](key_of(name), value) for name, value in values.items()})


def key_of(name: str) -> str:
    """Return the configuration key of the setting called *name*."""
    return PREFIX + name.upper()


def _check_spelling(key: str, known: Iterable[str]) -> None:
    """Refuse a key that looks like one of ours, but isn't.

    :raises ConfigError: naming the key that it most resembles.
    """
    if key == _OF_THE_BUILD:
        return
    if key.startswith(PREFIX):
        nearest = _nearest(key.removeprefix(PREFIX), known, 0.6)
        hint = f"did you mean {nearest}? Known" if nearest else "known"
        raise ConfigError(f"there is no setting {key}; {hint} are {', '.join(known)}")
    # An application may have keys with such a prefix: only those that are meant for us count.
    nearest = None
    if key.isupper():
        prefix = _NEAR_PREFIX.match(key)
        nearest = prefix and _nearest(key[prefix.end() :], known, 0.8)
    if nearest:
        raise ConfigError(f"there is no setting {key}; did you mean {nearest}?")


def _nearest(name: str, known: Iterable[str], cutoff: float) -> str | None:
    """Return the key whose name most resembles *name*, if one does."""
    names = [key.removeprefix(PREFIX) for key in known]
    return next((PREFIX + found for found in get_close_matches(name, names, 1, cutoff)), None)


def origins(key: str, value: Any) -> frozenset[str] | str:
    """Check a list of origins and bring it into the form that browsers send (RFC 6454 6.2).

    ``"https://*.example.org"`` stands for all subdomains of ``example.org``, at any depth.

    :raises ConfigError: if it is neither a list of origins nor ``"*"``.
    """
    if value == "*":
        return "*"
    if value is None:
        return frozenset()
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigError(f'{key} must be a list of origins or "*", not {value!r}')
    if "*" in value:
        return "*"
    return frozenset(_origin(key, entry) for entry in value)


def _origin(key: str, value: Any) -> str:
    if value == NULL:
        return NULL
    normal = normal_pattern(value) if isinstance(value, str) else None
    if normal is None:
        raise ConfigError(
            f"{key}: {value!r} isn't a valid origin; write it as "
            '"https://example.org", with subdomains as "https://*.example.org"'
        )
    return normal


def _number(
    kind: type[int] | type[float],
    least: float,
    unit: str,
    *,
    most: float = inf,
    optional: bool = False,
) -> Callable[[str, Any], Any]:
    def check(key: str, value: Any) -> Any:
        if value is None and optional:
            return None
        is_number = isinstance(value, (int, kind)) and not isinstance(value, bool)
        # What is no number is in no span.
        number: Any = value if is_number else nan
        if not least <= number < inf or number > most:
            span = f"at least {least:g}" if most == inf else f"from {least:g} to {most:g}"
            ending = ", or None" if optional else ""
            raise ConfigError(f"{key} must be a number of {unit}, {span}{ending}, not {value!r}")
        return value

    return check


def _name(key: str, value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{key} must be a name or None, not {value!r}")
    return value


def names(key: str, value: Any) -> tuple[str, ...]:
    """Check a list of names.

    :raises ConfigError: if it isn't one.
    """
    is_list = isinstance(value, Iterable) and not isinstance(value, (str, bytes))
    found: tuple[Any, ...] = tuple(value) if is_list else ()
    if not is_list or not all(isinstance(name, str) and name for name in found):
        raise ConfigError(f'{key} must be a list of names such as ["tenant"], not {value!r}')
    return found


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{key} must be text that isn't empty, not {value!r}")
    return value


def policy(key: str, value: Any) -> str:
    """Check what is to happen to slow clients.

    :raises ConfigError: if it isn't one of :data:`POLICIES`.
    """
    if value not in POLICIES:
        raise ConfigError(f"{key} must be one of {', '.join(POLICIES)}, not {value!r}")
    return str(value)


def _flag(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{key} must be True or False, not {value!r}")
    return value


CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "max_connections": _number(int, 1, "connections", optional=True),
    "max_connections_per_address": _number(int, 1, "connections", optional=True),
    "max_message_size": _number(int, 1, "bytes", optional=True),
    "max_fragments": _number(int, 1, "frames"),
    "max_receive_buffer": _number(int, 1, "bytes"),
    "max_send_buffer": _number(int, 1, "bytes"),
    "ping_interval": _number(float, 0.01, "seconds", optional=True),
    "ping_timeout": _number(float, 0.01, "seconds"),
    "max_control_frames": _number(int, 1, "frames"),
    "idle_timeout": _number(float, 0.01, "seconds", optional=True),
    "max_lifetime": _number(float, 0.01, "seconds", optional=True),
    "rate_limit": _name,
    "rate_limit_storage": _text,
    "close_timeout": _number(float, 0.01, "seconds"),
    "shutdown_timeout": _number(float, 0.01, "seconds"),
    "allowed_origins": origins,
    "compression": _flag,
    "compression_level": _number(int, 1, "effort", most=9),
    "compression_window_bits": _number(int, 9, "bits", most=15),
    "compression_context_takeover": _flag,
    "compression_min_size": _number(int, 0, "bytes"),
    "text_as_bytes": _flag,
    "validate_outgoing": _flag,
    "monkey_patch": _flag,
    "threads": _number(int, 1, "threads"),
    "engine": _name,
    "broker_url": _text,
    "broker_timeout": _number(float, 0.01, "seconds"),
    "key_prefix": _text,
    "max_history_size": _number(int, 1, "bytes"),
    "max_replays": _number(int, 1, "clients"),
    "replay_timeout": _number(float, 0.01, "seconds"),
    "slow_clients": policy,
    "keep_g": names,
    "presence_ttl": _number(float, 0.1, "seconds"),
}
