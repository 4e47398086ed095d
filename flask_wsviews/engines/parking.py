"""Parking: a connection with nothing to do needs no task and no greenlet.

A task or greenlet takes more memory than the rest of a connection, and most connections are idle
most of the time. So the conversation of an idle connection returns, and the next message resumes it
in a new task or greenlet. From one resumption to the next return is one *turn*. After a message a
turn first waits for another one, because waiting is cheaper than a new turn.

The states of a connection, and what moves it between them::

    OPENING ──turn ends──> PARKED ──resume──> ACTIVE ──wait──> WAITING ──tick──> EXPIRING
                             ^                 │  ^               │                 │
                             └────turn ends────┘  └──message──────┴─message or tick─┘

    OPENING, ACTIVE or PARKED ──conversation over──> ENDED

- OPENING: the first turn runs. It ends without waiting: many clients connect and send nothing.
- PARKED: no task or greenlet exists.
- ACTIVE: a later turn runs.
- WAITING: a later turn waits for a message, and the tick hasn't come yet.
- EXPIRING: the next tick ends the wait. The turn finds no message then, and ends.
- ENDED: the conversation is over.

The tick comes every :data:`PATIENCE` seconds from the :class:`Ticker` of the event loop.
"""

from __future__ import annotations

from abc import abstractmethod
from contextvars import copy_context
from typing import Final

from mypy_extensions import mypyc_attr

from ..protocol.connection import Connection
from ..typing import Conversation, Transport
from .deadlines import StartTimer
from .driver import Driver, take_turn

# A turn waits between one and two times as long for the next message, in seconds.
PATIENCE = 1.0

# Not an Enum: compiled code compares integers faster, and each message changes the state.
OPENING: Final = 0
PARKED: Final = 1
ACTIVE: Final = 2
WAITING: Final = 3
EXPIRING: Final = 4
ENDED: Final = 5


@mypyc_attr(allow_interpreted_subclasses=True)
class ParkingDriver(Driver):
    """A connection whose conversation is parked while it is idle.

    A subclass that waits for a message sets WAITING before it and ACTIVE after it.

    :param ticker: of the event loop.
    """

    def __init__(self, transport: Transport, connection: Connection, ticker: Ticker) -> None:
        super().__init__(transport, connection)
        #: Whether the connection may be parked: the server doesn't hold its request.
        self.parks = transport.can_detach
        self._parking = OPENING
        self._ticker = ticker
        # All turns run in this context, so that a hook finds the variables that others have set.
        self._context = copy_context()

    @abstractmethod
    def _wake_receiver(self) -> None:
        """Wake a pending ``receive()``, or resume a parked conversation."""

    # -- the three verbs --------------------------------------------------------------------------

    def _unpark(self) -> None:
        """Enter ACTIVE. The caller then starts the turn."""
        self._parking = ACTIVE
        self._ticker.add(self)

    def _end_turn(self, is_over: bool) -> None:
        """Park the conversation, or finish it if it is over."""
        if self._parking == ACTIVE:
            self._ticker.remove(self)
        if is_over:
            self._parking = ENDED
            self.finish()
        else:
            self._parking = PARKED

    def tick(self) -> None:
        """End the wait for a message if it has lasted since the last tick."""
        if self._parking == WAITING:
            self._parking = EXPIRING
        elif self._parking == EXPIRING:
            self._wake_receiver()

    # -- shortcut: begin or end an idle conversation without a turn -------------------------------

    def begin(self) -> bool:
        """Begin the conversation without a task or greenlet if no hook has to run.

        :returns: whether it has begun.
        """
        conversation = self._conversation
        assert conversation is not None
        if not self.parks or conversation.needs_turn:
            return False
        self._skip_turn(conversation)
        if self.connection.has_news:
            self._wake_receiver()
        return True

    def _end_if_idle(self) -> bool:
        """End a parked conversation without a task or greenlet if no hook has to run.

        :returns: whether it has ended.
        """
        conversation = self._conversation
        assert conversation is not None
        if not self.connection.has_only_end or conversation.needs_turn:
            return False
        # No longer PARKED, since the end itself wakes the receiver.
        self._parking = ENDED
        self._skip_turn(conversation)
        return True

    def _skip_turn(self, conversation: Conversation) -> None:
        self._end_turn(self._context.run(take_turn, conversation.skip_turn, self))


class Ticker:
    """Calls ``tick()`` of some connections every :data:`PATIENCE` seconds.

    :param start_timer: starts one of the loop's timers.
    """

    def __init__(self, start_timer: StartTimer) -> None:
        self._start_timer = start_timer
        self._drivers: set[ParkingDriver] = set()
        self._is_running = False

    def add(self, driver: ParkingDriver) -> None:
        """Start calling ``driver.tick()``."""
        self._drivers.add(driver)
        if not self._is_running:
            self._is_running = True
            self._start_timer(PATIENCE, self._tick)

    def remove(self, driver: ParkingDriver) -> None:
        """Stop calling ``driver.tick()``."""
        self._drivers.discard(driver)

    def _tick(self) -> None:
        for driver in list(self._drivers):
            driver.tick()
        self._is_running = bool(self._drivers)
        if self._is_running:
            self._start_timer(PATIENCE, self._tick)
