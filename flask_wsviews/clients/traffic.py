"""How much a connection has received and sent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Traffic:
    """The messages and bytes that a connection has received and sent so far.

    The bytes include those of frame headers and control frames, not those of the handshake.
    """

    messages_received: int = 0
    bytes_received: int = 0
    messages_sent: int = 0
    bytes_sent: int = 0
    #: Messages to groups that were dropped because the client was too slow.
    messages_dropped: int = 0
