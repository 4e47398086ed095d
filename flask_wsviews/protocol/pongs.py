"""The Pings of an application, and the Pongs that answer them (RFC 6455 5.5.2 and 5.5.3).

The Pings that keep a connection alive are the connection's own: nobody is told of their Pongs.
"""

from __future__ import annotations

from typing import Final

#: The longest payload of a control frame, in bytes (RFC 6455 5.5).
MAX_CONTROL_PAYLOAD: Final = 125

#: How many Pings may wait for their Pongs; older ones are forgotten.
MAX_AWAITED = 16


class Pong(bytes):
    """The payload of a Pong, as it comes between the messages."""

    __slots__ = ()


class AwaitedPongs:
    """The payloads of Pings whose Pongs haven't come."""

    __slots__ = ("_payloads",)

    def __init__(self) -> None:
        self._payloads: list[bytes] = []

    def add(self, payload: bytes) -> None:
        """Expect a Pong with this payload."""
        self._payloads.append(payload)
        del self._payloads[:-MAX_AWAITED]

    def take(self, payload: bytes) -> Pong | None:
        """Return the event for a Pong, or ``None`` for one that nobody asked for.

        A Pong may answer the most recent Ping only, so those before it wait no longer.
        """
        if payload not in self._payloads:
            return None
        del self._payloads[: self._payloads.index(payload) + 1]
        return Pong(payload)


def ping_payload(payload: str | bytes) -> bytes:
    """Return the payload of a Ping as bytes.

    :raises TypeError: if it is neither text nor bytes.
    :raises ValueError: if it is longer than 125 bytes (RFC 6455 5.5).
    """
    if not isinstance(payload, (str, bytes)):
        raise TypeError(f"the payload of a Ping is str or bytes, not {type(payload).__name__}")
    data = payload.encode() if isinstance(payload, str) else payload
    if len(data) > MAX_CONTROL_PAYLOAD:
        raise ValueError(
            f"the payload of a Ping has {len(data)} bytes; at most {MAX_CONTROL_PAYLOAD} are "
            "allowed"
        )
    return data
