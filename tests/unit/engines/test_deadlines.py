"""One timer for the deadlines of many."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from flask_wsviews.engines import deadlines
from flask_wsviews.engines.deadlines import RATE, Deadlines


class Loop:
    """A clock that stands still, and timers that are fired by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: dict[int, tuple[float, Callable[[], None]]] = {}
        self.started = 0

    def start_timer(self, seconds: float, function: Callable[[], None]) -> Callable[[], None]:
        number = self.started = self.started + 1
        self.timers[number] = (self.now + seconds, function)
        return lambda: self.timers.pop(number, None) and None

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while self.timers:
            number, (at, function) = min(self.timers.items(), key=lambda item: item[1][0])
            if at > end:
                break
            del self.timers[number]
            self.now = max(self.now, at)
            function()
        self.now = end


class One:
    """Somebody with a deadline, who notes when it is swept."""

    def __init__(self, kept: Deadlines, deadline: float | None, *next_ones: float) -> None:
        self._kept = kept
        self._moment: int | None = None
        self._next_ones = list(next_ones)
        self.deadline = deadline
        self.swept: list[float] = []
        self.schedule(deadline)

    def schedule(self, deadline: float | None) -> None:
        if self._moment is not None:
            self._kept.remove(self, self._moment)
        self._moment = None if deadline is None else self._kept.add(self, deadline)

    def sweep(self, now: float) -> None:
        self.swept.append(now)
        self.deadline = self._next_ones.pop(0) if self._next_ones else None
        self.schedule(self.deadline)


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    loop = Loop()
    monkeypatch.setattr(deadlines, "monotonic", lambda: loop.now)
    return loop


@pytest.fixture
def kept(loop: Loop) -> Deadlines:
    return Deadlines(loop.start_timer)


def test_each_is_swept_at_its_deadline_or_a_little_later(loop: Loop, kept: Deadlines) -> None:
    ones = [One(kept, loop.now + seconds) for seconds in (3.0, 1.01, 2.5, 1.0, 0.0, -1.0)]
    wanted = [one.deadline or 0 for one in ones]
    loop.pass_time(5)
    for one, deadline in zip(ones, wanted, strict=True):
        [at] = one.swept
        assert max(deadline, 1000.0) <= at <= max(deadline, 1000.0) + 1 / RATE
    assert not loop.timers


def test_those_who_are_due_together_take_one_timer(loop: Loop, kept: Deadlines) -> None:
    ones = [One(kept, loop.now + 25.001 + number / 1e6) for number in range(1000)]
    assert loop.started == 1
    loop.pass_time(30)
    assert all(len(one.swept) == 1 for one in ones)
    assert loop.started == 1


def test_an_earlier_deadline_moves_the_timer(loop: Loop, kept: Deadlines) -> None:
    late, early = One(kept, loop.now + 10), One(kept, loop.now + 1)
    assert len(loop.timers) == 1
    loop.pass_time(2)
    assert (early.swept, late.swept) == ([1001.0], [])
    loop.pass_time(10)
    assert late.swept == [1010.0]


def test_who_is_removed_leaves_nothing_behind(loop: Loop, kept: Deadlines) -> None:
    ones = [One(kept, loop.now + 25) for _ in range(1000)]
    for one in ones:
        one.schedule(None)
        one.schedule(None)
    assert len(kept._moments) == 1
    assert not kept._waiting[kept._moments[0]]
    loop.pass_time(30)
    assert not any(one.swept for one in ones)
    assert not kept._moments
    assert not kept._waiting


def test_a_deadline_that_has_moved_is_waited_for(loop: Loop, kept: Deadlines) -> None:
    one = One(kept, loop.now + 1)
    one.deadline = loop.now + 4
    loop.pass_time(3)
    assert one.swept == []
    loop.pass_time(2)
    assert one.swept == [1004.0]


def test_one_after_the_other(loop: Loop, kept: Deadlines) -> None:
    one = One(kept, loop.now + 1, loop.now + 2, loop.now + 3)
    loop.pass_time(5)
    assert one.swept == [1001.0, 1002.0, 1003.0]


def test_who_is_overdue_again_gives_others_their_turn(loop: Loop, kept: Deadlines) -> None:
    # The timer brings it back, not the loop within it.
    one = One(kept, loop.now, loop.now - 1, loop.now - 1)
    [(_, fire)] = loop.timers.values()
    loop.timers.clear()
    fire()
    assert len(one.swept) == 1
    loop.pass_time(0)
    assert len(one.swept) == 3


def test_a_sweep_that_fails_costs_nobody_else_theirs(
    loop: Loop, kept: Deadlines, caplog: pytest.LogCaptureFixture
) -> None:
    class Bad(One):
        def sweep(self, now: float) -> None:
            raise OSError("no more")

    ones = [
        One(kept, loop.now + 1),
        Bad(kept, loop.now + 1),
        One(kept, loop.now + 1),
        One(kept, loop.now + 2),
    ]
    with caplog.at_level(logging.ERROR):
        loop.pass_time(3)
    assert [len(one.swept) for one in ones] == [1, 0, 1, 1]
    assert "the timers of a connection failed" in caplog.text


def test_who_ends_while_another_one_is_swept(loop: Loop, kept: Deadlines) -> None:
    class Ends(One):
        def sweep(self, now: float) -> None:
            super().sweep(now)
            for one in others:
                one.deadline = None
                one.schedule(None)

    others = [One(kept, loop.now + 1.001), One(kept, loop.now + 5)]
    ends = Ends(kept, loop.now + 1)
    loop.pass_time(10)
    assert ends.swept
    assert others[1].swept == []
