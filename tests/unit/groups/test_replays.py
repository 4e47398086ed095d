"""How many members are sent what they missed at a time, and how long they may take."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from flask_wsviews import BrokerUnavailable
from flask_wsviews.config import Settings
from flask_wsviews.groups import Delivery, History, Replay
from flask_wsviews.groups import replays as module
from flask_wsviews.groups.member import Member
from flask_wsviews.groups.replays import Pages, ReplayDeadlines, Replays

KEPT = History(100)
BRIEF = Settings(max_replays=1, broker_timeout=0.05)


def replays(settings: Settings = BRIEF) -> Replays:
    return Replays(settings, lambda *_: Replay("1-0"), lambda: None)


def test_places_are_waited_for_and_given_back() -> None:
    patient = replays(Settings(max_replays=1, broker_timeout=20))
    assert patient.enter() is None
    entered = threading.Event()

    def enter() -> None:
        patient.enter()
        entered.set()

    thread = threading.Thread(target=enter)
    thread.start()
    assert not entered.wait(0.05)
    patient.leave()
    thread.join(20)
    assert entered.is_set()
    patient.leave()
    assert patient._free == 1


def test_who_waits_too_long_is_refused() -> None:
    hasty = replays()
    hasty.enter()
    with pytest.raises(BrokerUnavailable, match="1 members are being sent"):
        hasty.enter()
    hasty.leave()
    assert hasty.enter() is None


def test_an_event_loop_waits_for_places_as_well() -> None:
    async def use() -> None:
        hasty = replays()
        assert hasty.enter() is None
        with pytest.raises(BrokerUnavailable):
            await hasty.enter()
        patient = replays(Settings(max_replays=1, broker_timeout=20))
        patient.enter()
        tasks = [asyncio.ensure_future(patient.enter()) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.sleep(0)
        patient.leave()
        await tasks[1]
        # One that is cancelled at the moment in which it gets its place gives it on.
        patient.leave()
        tasks[2].cancel()
        await asyncio.wait(tasks)
        assert patient.enter() is None

    asyncio.run(use())


class Driver:
    def __init__(self) -> None:
        self.closed: list[tuple[int, str]] = []

    def close(self, code: int, reason: str) -> None:
        self.closed.append((code, reason))


def test_who_takes_too_long_is_closed() -> None:
    closed = threading.Event()
    deadlines = ReplayDeadlines(0.04, closed.set)
    slow, quick = (Member(name, Driver(), "close") for name in ("slow", "quick"))  # type: ignore[arg-type]
    deadlines.begin(quick)
    deadlines.end(quick)
    deadlines.begin(slow)
    assert closed.wait(20)
    assert slow.driver.closed == [(1008, "the client doesn't read what it missed")]  # type: ignore[attr-defined]
    assert quick.driver.closed == []  # type: ignore[attr-defined]
    deadlines.end(slow)
    # The thread ends where nothing is sent again, and there is another one then.
    for thread in threading.enumerate():
        if thread.name == "wsviews-replays":
            thread.join(20)
    assert not deadlines._is_running
    closed.clear()
    deadlines.begin(quick)
    assert closed.wait(20)


class Source:
    """A history of pages."""

    def __init__(self, size: int = 10) -> None:
        self.size = size
        self.asked: list[Any] = []

    def replay(self, group: str, since: str | None, history: History) -> Replay:
        self.asked.append((group, since))
        return Replay("2-0", [Delivery(group, "x" * self.size, "2-0")], is_last=since == "last")


def test_a_deadline_whose_thread_could_not_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("no thread")

    closed = threading.Event()
    deadlines = ReplayDeadlines(0.01, closed.set)
    member = Member("slow", Driver(), "close")  # type: ignore[arg-type]
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="no thread"):
            deadlines.begin(member)
    deadlines.end(member)
    deadlines.begin(member)
    assert closed.wait(10)


def test_pages_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    source = Source()
    pages = Pages(source.replay)
    assert pages.get("a", "1-0", KEPT) is pages.get("a", "1-0", KEPT)
    pages.get("b", "1-0", KEPT)
    assert source.asked == [("a", "1-0"), ("b", "1-0")]
    # One that is the last may have grown, and none is kept for long.
    pages.get("a", "last", KEPT)
    pages.get("a", "last", KEPT)
    assert len(source.asked) == 4
    now += 2
    pages.get("a", "1-0", KEPT)
    assert len(source.asked) == 5
    assert (len(pages._pages), pages._size) == (1, 10)


def test_shared_pages_are_bounded_in_bytes() -> None:
    pages = Pages(Source(3 * 1024 * 1024).replay)
    for number in range(10):
        pages.get("a", f"{number}-0", KEPT)
    assert (len(pages._pages), pages._size) == (2, 2 * 3 * 1024 * 1024)
    pages = Pages(Source(9 * 1024 * 1024).replay)
    pages.get("a", "1-0", KEPT)
    assert (len(pages._pages), pages._size) == (0, 0)


def test_a_page_that_cannot_be_had_is_asked_for_again() -> None:
    source = Source()

    def replay(group: str, since: str | None, history: History) -> Replay:
        if not source.asked:
            source.asked.append("failed")
            raise BrokerUnavailable("away")
        return source.replay(group, since, history)

    pages = Pages(replay)
    with pytest.raises(BrokerUnavailable):
        pages.get("a", "1-0", KEPT)
    assert pages.get("a", "1-0", KEPT).position == "2-0"
