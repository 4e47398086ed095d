"""How much went over a connection."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Traffic:
    """What went over a connection so far.

    Bytes are those of the WebSocket with all its frames, without the handshake.
    """

    messages_received: int = 0
    bytes_received: int = 0
    messages_sent: int = 0
    bytes_sent: int = 0
    #: Messages of groups that were dropped because the client was slow.
    messages_dropped: int = 0
