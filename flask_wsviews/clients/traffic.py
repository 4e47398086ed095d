"""The traffic of a connection."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Traffic:
    """The messages and bytes that a connection has received and sent so far.

    Bytes include frame headers and control frames, but not the handshake.
    """

    messages_received: int = 0
    bytes_received: int = 0
    messages_sent: int = 0
    bytes_sent: int = 0
    #: Messages to groups that were dropped because the client was too slow.
    messages_dropped: int = 0
