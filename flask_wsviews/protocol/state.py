"""The states of a connection (RFC 6455 7.1)."""

from __future__ import annotations

from enum import Enum
from typing import Final

from websockets.frames import Close


class State(Enum):
    """The state of a connection."""

    OPEN = "open"
    CLOSING = "closing"  # our close frame is queued, the peer's hasn't arrived
    CLOSED = "closed"


# mypyc finds a Final name faster than an enumeration's member.
OPEN: Final = State.OPEN
CLOSING: Final = State.CLOSING
CLOSED: Final = State.CLOSED


class PeerEnd:
    """How the peer's stream ended, kept until the messages before its end have been taken.

    :param close: the peer's close frame, or the answer to a violation; ``None`` for neither.
    :param since: when it ended.
    :param peer_closed: whether the peer sent a close frame.
    """

    __slots__ = ("close", "peer_closed", "since")

    def __init__(self, close: Close | None, since: float, *, peer_closed: bool = False) -> None:
        self.close = close
        self.since = since
        self.peer_closed = peer_closed
