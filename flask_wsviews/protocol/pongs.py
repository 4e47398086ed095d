"""An application's Pings and the Pongs that answer them (RFC 6455 5.5.2 and 5.5.3).

The connection sends the keepalive Pings itself. It doesn't report their Pongs.
"""

from __future__ import annotations

from .frames import MAX_CONTROL_PAYLOAD

#: How many Pings may wait for their Pongs. Older ones are forgotten.
MAX_AWAITED = 16


class Pong(bytes):
    """The payload of a Pong, delivered in order with the messages."""

    __slots__ = ()


class AwaitedPongs:
    """The payloads of Pings that haven't been answered."""

    __slots__ = ("_payloads",)

    def __init__(self) -> None:
        self._payloads: list[bytes] = []

    def add(self, payload: bytes) -> None:
        """Expect a Pong with this payload."""
        self._payloads.append(payload)
        del self._payloads[:-MAX_AWAITED]

    def take(self, payload: bytes) -> Pong | None:
        """Return the event for a Pong, or ``None`` if it answers no Ping."""
        if payload not in self._payloads:
            return None
        # 5.5.3: an endpoint "MAY elect to send a Pong frame for only the most recently processed
        # Ping frame", so earlier Pings are answered as well.
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
