"""The states of a connection that is parked while it is idle."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flask_wsviews.config import Settings
from flask_wsviews.engines import parking
from flask_wsviews.engines.parking import (
    ACTIVE,
    ENDED,
    EXPIRING,
    OPENING,
    PARKED,
    WAITING,
    ParkingDriver,
    Ticker,
)
from flask_wsviews.protocol.connection import Connection
from flask_wsviews.servers.testing import PairTransport


class Timers:
    """The timers of a loop, which the test fires."""

    def __init__(self) -> None:
        self.pending: list[Callable[[], None]] = []

    def start(self, seconds: float, function: Callable[[], None]) -> Callable[[], None]:
        assert seconds == parking.PATIENCE
        self.pending.append(function)
        return lambda: self.pending.remove(function)

    def fire(self) -> None:
        self.pending.pop()()


class Idle:
    """A conversation without hooks."""

    needs_turn = False

    def __init__(self) -> None:
        self.is_over = False

    def skip_turn(self, driver: Any) -> bool:
        return self.is_over

    def released(self) -> None:
        pass


class Driver(ParkingDriver):
    """A driver without an event loop; it counts what the states cause."""

    woken = 0
    finished = 0

    def _wake_receiver(self) -> None:
        self.woken += 1
        if self._parking == PARKED:
            self._unpark()

    def finish(self) -> None:
        self.finished += 1
        # As an event loop's driver does when its socket is closed.
        self._wake_receiver()


Driver.__abstractmethods__ = frozenset()


@pytest.fixture
def timers() -> Timers:
    return Timers()


@pytest.fixture
def driver(timers: Timers) -> Iterator[Driver]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = Connection(Settings(), 0.0)
        made = Driver(PairTransport(ours), connection, Ticker(timers.start))
        made.attach(Idle(), lambda _: None)  # type: ignore[arg-type]
        yield made


def test_the_first_turn_ends_without_a_wait(driver: Driver, timers: Timers) -> None:
    assert driver._parking == OPENING
    driver._end_turn(False)
    assert driver._parking == PARKED
    assert not timers.pending


def test_a_wait_ends_at_its_second_tick(driver: Driver, timers: Timers) -> None:
    driver._end_turn(False)
    driver._unpark()
    driver._parking = WAITING
    timers.fire()
    assert (driver._parking, driver.woken) == (EXPIRING, 0)
    timers.fire()
    assert driver.woken == 1
    driver._parking = ACTIVE
    driver._end_turn(False)
    assert driver._parking == PARKED
    timers.fire()
    assert not timers.pending


def test_a_message_restarts_the_wait(driver: Driver, timers: Timers) -> None:
    driver._end_turn(False)
    driver._unpark()
    for _ in range(3):
        driver._parking = WAITING
        timers.fire()
        assert driver._parking == EXPIRING
        driver._parking = ACTIVE
    assert driver.woken == 0


@pytest.mark.parametrize("is_parked_before", [True, False], ids=["parked", "active"])
def test_a_conversation_that_ends_stays_ended(driver: Driver, is_parked_before: bool) -> None:
    driver._end_turn(False)
    if not is_parked_before:
        driver._unpark()
    driver._end_turn(True)
    assert (driver._parking, driver.finished) == (ENDED, 1)


def test_without_hooks_it_begins_and_ends_as_with_a_turn(driver: Driver) -> None:
    assert driver.begin()
    assert driver._parking == PARKED
    driver.connection.abort()
    conversation: Any = driver._conversation
    conversation.is_over = True
    assert driver._end_if_idle()
    assert (driver._parking, driver.finished) == (ENDED, 1)
