"""The ``WSVIEWS_*`` settings, as one frozen object: their defaults, units and checks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from .common.option_checks import Check, flag, names, number, optional_name, origins, policy, text
from .exceptions import ConfigError

PREFIX = "WSVIEWS_"

# Misspelt prefixes.
_NEAR_PREFIX = re.compile(r"(?!WSVIEWS_)WS_?VIEWS?_")

# FLASK_WSVIEWS_COMPILE is for pip, but Config.from_prefixed_env() makes a key of it.
_BUILD_KEY = f"{PREFIX}COMPILE"

_CHECK = "check"


def _setting(default: Any, check: Check) -> Any:
    """Declare a setting."""
    return field(default=default, metadata={_CHECK: check})


@dataclass(frozen=True)
class Settings:
    """The settings. Each field is the key ``WSVIEWS_`` plus its name in capitals."""

    # -- limits ---------------------------------------------------------------------------------

    #: The number of connections of a worker. Further handshakes are refused with 503 Service
    #: Unavailable. ``None`` for the engine's limit: 1,000 on the blocking engine, where each
    #: connection takes a thread, and none on the others.
    max_connections: int | None = _setting(None, number(int, 1, "connections", optional=True))
    #: The number of connections of a client address in a worker. Further handshakes are refused
    #: with 429 Too Many Requests. ``None`` for no limit.
    max_connections_per_address: int | None = _setting(
        None, number(int, 1, "connections", optional=True)
    )
    #: The size of a client's message in bytes, after reassembly and decompression. A larger one
    #: closes the connection with 1009 Message Too Big. ``None`` for no limit.
    max_message_size: int | None = _setting(1024 * 1024, number(int, 1, "bytes", optional=True))
    #: The number of frames of a client's message. More close the connection with 1009 Message Too
    #: Big.
    max_fragments: int = _setting(16 * 1024, number(int, 1, "frames"))
    #: The size in bytes of the messages that are buffered for a busy hook, before reading pauses.
    max_receive_buffer: int = _setting(256 * 1024, number(int, 1, "bytes"))
    #: The size in bytes of the messages that are buffered for a slow client. A ``send()`` in a hook
    #: of the connection waits for room (backpressure). A ``send()`` from elsewhere never waits, and
    #: closes the connection with 1008 Policy Violation if there is no room.
    max_send_buffer: int = _setting(1024 * 1024, number(int, 1, "bytes"))
    #: The number of Pings and Pongs of a client in a second. More close the connection with 1008
    #: Policy Violation.
    max_control_frames: int = _setting(500, number(int, 1, "frames"))
    #: A limit for a client's messages, such as ``"20/second"``. More close the connection with 1008
    #: Policy Violation. ``None`` for no limit. It needs the library ``limits``.
    rate_limit: str | None = _setting(None, optional_name)
    #: Where messages of connections with the same key are counted, as a URL of the library
    #: ``limits``: ``"memory://"`` for each worker on its own, ``"redis://…"`` for all workers.
    rate_limit_storage: str = _setting("memory://", text)

    # -- times ----------------------------------------------------------------------------------

    #: The heartbeat: seconds without data from the client after which it is sent a Ping. ``None``
    #: for no heartbeat.
    ping_interval: float | None = _setting(25.0, number(float, 0.01, "seconds", optional=True))
    #: Seconds in which the client must answer a Ping.
    ping_timeout: float = _setting(20.0, number(float, 0.01, "seconds"))
    #: Seconds without a message after which the connection is closed with 1001 Going Away. ``None``
    #: for no limit.
    idle_timeout: float | None = _setting(None, number(float, 0.01, "seconds", optional=True))
    #: Seconds after which a connection is closed with 1012 Service Restart, so that the client
    #: reconnects. ``None`` for no limit.
    max_lifetime: float | None = _setting(None, number(float, 0.01, "seconds", optional=True))
    #: Seconds that the closing handshake may take.
    close_timeout: float = _setting(5.0, number(float, 0.01, "seconds"))
    #: Seconds that the graceful shutdown of a worker's connections may take.
    shutdown_timeout: float = _setting(5.0, number(float, 0.01, "seconds"))

    # -- the handshake --------------------------------------------------------------------------

    #: The origins, such as ``"https://example.org"``, whose pages may connect, besides the
    #: application's own. ``"https://*.example.org"`` matches subdomains, ``"*"`` all origins.
    allowed_origins: frozenset[str] | str = _setting(frozenset(), origins)
    #: The names of attributes of ``g`` that are copied from the handshake to each hook, besides
    #: those of well-known authentication extensions.
    keep_g: tuple[str, ...] = _setting((), names)

    # -- compression ----------------------------------------------------------------------------

    #: Whether to negotiate permessage-deflate (RFC 7692).
    compression: bool = _setting(False, flag)
    #: The level of zlib, from 1 (fast) to 9 (small).
    compression_level: int = _setting(6, number(int, 1, "effort", most=9))
    #: The window of zlib, as a power of two of bytes: 9 to 15. With 12 a connection takes about 40
    #: KiB, with 15 about 300.
    compression_window_bits: int = _setting(12, number(int, 9, "bits", most=15))
    #: Whether a message may refer to those before it. Without it no state is kept between messages,
    #: and they compress less.
    compression_context_takeover: bool = _setting(True, flag)
    #: The length in characters or bytes from which messages are compressed.
    compression_min_size: int = _setting(64, number(int, 0, "bytes"))

    # -- messages -------------------------------------------------------------------------------

    #: Whether function routes and views without schemas get text messages as ``bytes``, as from
    #: Flask-uWSGI-WebSocket. ``bytes`` that they send are then sent as text if they are UTF-8;
    #: ``send_binary()`` sends binary messages.
    text_as_bytes: bool = _setting(False, flag)
    #: Whether typed messages are checked against their schemas before they are sent. Otherwise
    #: they are only dumped.
    validate_outgoing: bool = _setting(True, flag)

    # -- engines --------------------------------------------------------------------------------

    #: The engine, which overrides that of the extension: ``"blocking"``, ``"gevent"``,
    #: ``"asyncio"``, or ``"auto"`` for the one that fits the server.
    engine: str | None = _setting(None, optional_name)
    #: On :class:`~flask_wsviews.AsyncioWebSocket`, the number of plain hooks that run at the same
    #: time, and of plain function routes.
    threads: int = _setting(40, number(int, 1, "threads"))
    #: Whether :class:`~flask_wsviews.GeventWebSocket` monkey-patches the standard library in
    #: uWSGI's gevent loop.
    monkey_patch: bool = _setting(True, flag)

    # -- groups ---------------------------------------------------------------------------------

    #: The broker, which carries messages to groups between workers: ``"memory://"`` for a single
    #: worker, or a Redis URL such as ``"redis://…"``.
    broker_url: str = _setting("memory://", text)
    #: Seconds that an answer of the broker may take.
    broker_timeout: float = _setting(2.0, number(float, 0.01, "seconds"))
    #: The prefix of keys and channels in the broker.
    key_prefix: str = _setting("wsviews", text)
    #: The size in bytes of the histories of all groups in a worker, with ``"memory://"``. Beyond
    #: it, the oldest messages are dropped, of the groups that were silent for the longest time.
    max_history_size: int = _setting(256 * 1024 * 1024, number(int, 1, "bytes"))
    #: The number of clients of a worker that resume at the same time. Others wait for up to
    #: ``broker_timeout``, and are then closed with 1013 Try Again Later.
    max_replays: int = _setting(50, number(int, 1, "clients"))
    #: Seconds that a resuming client may take for each missed message. A slower one is closed with
    #: 1008 Policy Violation.
    replay_timeout: float = _setting(20.0, number(float, 0.01, "seconds"))
    #: What happens if more than ``max_send_buffer`` bytes of group messages are buffered for a slow
    #: client: ``"close"`` closes it with 1008 Policy Violation, ``"drop-oldest"`` and
    #: ``"drop-newest"`` drop messages.
    slow_clients: str = _setting("close", policy)
    #: Seconds after which the members of a killed worker are removed from their groups' presence.
    #: Workers renew their members three times in that time.
    presence_ttl: float = _setting(30.0, number(float, 0.1, "seconds"))

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], **defaults: Any) -> Settings:
        """Return the settings in *mapping*, such as ``app.config``.

        :param defaults: the values of fields that *mapping* doesn't have.
        :raises ConfigError: for a ``WSVIEWS_`` key that doesn't exist, or an invalid value.
        """
        known = {key_of(name): name for name in CHECKS}
        values = dict(defaults)
        for key, value in mapping.items():
            if key in known:
                values[known[key]] = value
            else:
                _check_spelling(key, known)
        return cls(**{name: CHECKS[name](key_of(name), value) for name, value in values.items()})


#: The check of each setting.
CHECKS: dict[str, Check] = {each.name: each.metadata[_CHECK] for each in fields(Settings)}


def key_of(name: str) -> str:
    """Return the configuration key of the setting called *name*."""
    return PREFIX + name.upper()


def _check_spelling(key: str, known: Iterable[str]) -> None:
    """Refuse a key that looks like a misspelt setting.

    :raises ConfigError: naming the most similar key.
    """
    if key == _BUILD_KEY:
        return
    if key.startswith(PREFIX):
        nearest = _nearest(key.removeprefix(PREFIX), known, 0.6)
        hint = f"did you mean {nearest}? Known" if nearest else "known"
        raise ConfigError(f"there is no setting {key}; {hint} are {', '.join(known)}")
    # Keys of the application may have a similar prefix, so the rest must be similar, too.
    nearest = None
    if key.isupper():
        prefix = _NEAR_PREFIX.match(key)
        nearest = prefix and _nearest(key[prefix.end() :], known, 0.8)
    if nearest:
        raise ConfigError(f"there is no setting {key}; did you mean {nearest}?")


def _nearest(name: str, known: Iterable[str], cutoff: float) -> str | None:
    """Return the key whose name is most similar to *name*, or ``None`` if none is."""
    candidates = [key.removeprefix(PREFIX) for key in known]
    return next((PREFIX + found for found in get_close_matches(name, candidates, 1, cutoff)), None)
