"""Time limits of a connection: how long it lasts, and how long its client may send no message."""

from __future__ import annotations

from math import inf

from websockets.frames import Close

from ..close_codes import GOING_AWAY, SERVICE_RESTART
from ..config import Settings


class TimeLimits:
    """The limits ``idle_timeout`` and ``max_lifetime``. A connection without them has none.

    :param now: when the connection was opened.
    """

    __slots__ = ("_ends", "_idle_timeout", "last_message")

    def __init__(self, settings: Settings, now: float) -> None:
        lifetime, idle_timeout = settings.max_lifetime, settings.idle_timeout
        self._ends = inf if lifetime is None else now + lifetime
        self._idle_timeout = inf if idle_timeout is None else idle_timeout
        #: When the client's last message arrived, or the server became ready for the next.
        self.last_message = now

    @property
    def deadline(self) -> float:
        """When :meth:`check` next has something to do."""
        return min(self.last_message + self._idle_timeout, self._ends)

    def check(self, now: float, *, is_busy: bool) -> Close | None:
        """Return how to close a connection that exceeds a limit, otherwise ``None``.

        :param is_busy: whether the server hasn't taken all messages of the client.
        """
        if now >= self._ends:
            return Close(SERVICE_RESTART, "it has lasted long enough: please reconnect")
        if now >= self.last_message + self._idle_timeout:
            if not is_busy:
                return Close(GOING_AWAY, f"no message for {self._idle_timeout:g} s")
            # The server is slow, not the client.
            self.last_message = now
        return None
