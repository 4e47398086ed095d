"""Presence without a server: leases, what is told of members, and how it is declared."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from typing import Any

import pytest
from flask import Flask, current_app

from flask_wsviews import (
    Broker,
    BrokerUnavailable,
    GroupError,
    RegistrationError,
    WebSocket,
    WebSocketView,
)
from flask_wsviews.config import Settings
from flask_wsviews.groups import GroupMember, Groups, PresenceStore
from flask_wsviews.groups.brokers.memory import MemoryBroker
from flask_wsviews.groups.declared import GroupOptions
from flask_wsviews.groups.job_thread import JobThread
from flask_wsviews.groups.presence import attendance
from flask_wsviews.groups.presence.attendance import JOINED, LEFT, Attendance
from flask_wsviews.groups.presence.memory import MemoryPresence
from flask_wsviews.groups.presence.store import checked_meta

TIMEOUT = 10.0

ONE, TWO = GroupMember("one", {"n": 1}), GroupMember("two")


# -- what is said of a member --------------------------------------------------------------------


def test_meta_is_what_json_makes_of_it() -> None:
    assert checked_meta(None) == {}
    assert checked_meta({"a": (1, 2), 3: None}) == {"a": [1, 2], "3": None}


@pytest.mark.parametrize("meta", ["text", 5, ["a"], {"a": object()}, {"a": {1, 2}}, {(1, 2): 3}])
def test_meta_that_json_cannot_express(meta: Any) -> None:
    with pytest.raises(TypeError, match="meta must be a mapping that JSON can represent"):
        checked_meta(meta)


# -- jobs --------------------------------------------------------------------------------------


def test_jobs_are_done_in_their_order() -> None:
    jobs = JobThread("jobs")
    done: list[int] = []
    futures = [jobs.submit(lambda number=number: done.append(number)) for number in range(50)]
    failed = jobs.submit(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        failed.result(TIMEOUT)
    assert jobs.submit(threading.get_ident).result(TIMEOUT) != threading.get_ident()
    assert all(future.done() for future in futures)
    assert done == list(range(50))
    jobs.close(TIMEOUT)
    with pytest.raises(CancelledError):
        jobs.submit(lambda: 5).result(TIMEOUT)


def test_jobs_that_were_never_begun_end_at_once() -> None:
    JobThread("jobs").close(TIMEOUT)


def test_jobs_may_end_themselves() -> None:
    jobs = JobThread("jobs")
    jobs.submit(lambda: jobs.close(TIMEOUT)).result(TIMEOUT)
    jobs.close(TIMEOUT)


def test_something_is_done_at_intervals_beside_all_else() -> None:
    enough = threading.Event()
    times: list[float] = []

    def at_intervals() -> float:
        times.append(0.0)
        if len(times) == 3:
            enough.set()
        return 0.001

    jobs = JobThread("jobs", at_intervals, 0.001)
    # However much there is to do.
    while not enough.is_set():
        jobs.submit(lambda: None).result(TIMEOUT)
    enough.clear()
    times.clear()
    assert enough.wait(TIMEOUT)
    jobs.close(TIMEOUT)


# -- leases --------------------------------------------------------------------------------------


class Store(MemoryPresence):
    """A store behind a network, which may fail, and whose leases a test lets run out."""

    waits = True

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        self.gone: list[GroupMember] = []
        self.renewals = threading.Semaphore(0)

    def enter(
        self, group: str, member: GroupMember, lease: float
    ) -> tuple[bool, list[GroupMember]]:
        self._work()
        return super().enter(group, member, lease)[0], self._swept()

    def renew(
        self, group: str, ids: Sequence[str], lease: float
    ) -> tuple[list[str], list[GroupMember]]:
        self.renewals.release()
        self._work()
        return super().renew(group, ids, lease)[0], self._swept()

    def leave(self, group: str, id: str) -> bool:
        self._work()
        return super().leave(group, id)

    def _swept(self) -> list[GroupMember]:
        gone, self.gone = self.gone, []
        return gone

    def _work(self) -> None:
        if self.error is not None:
            raise self.error


class Told:
    """What a worker's attendance has told."""

    def __init__(self, store: PresenceStore, lease: float = 60.0) -> None:
        self.store = store
        self.events: list[tuple[str, str, GroupMember]] = []
        self._changed = threading.Condition()
        self.attendance = Attendance(store, lease, self._tell)

    def _tell(self, event: str, group: str, member: GroupMember) -> None:
        with self._changed:
            self.events.append((event, group, member))
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, TIMEOUT), self.events


@pytest.fixture(params=[MemoryPresence, Store])
def told(request: pytest.FixtureRequest) -> Iterator[Told]:
    told = Told(request.param())
    yield told
    told.attendance.close(TIMEOUT)


def test_members_come_and_go(told: Told) -> None:
    told.attendance.enter("team", ONE)
    told.attendance.enter("team", ONE)
    told.attendance.enter("team", TWO)
    assert told.store.members("team") == [ONE, TWO]
    told.attendance.leave("team", "one")
    told.attendance.leave("team", "one")
    told.attendance.leave("team", "nobody")
    told.attendance.enter("other", ONE)
    assert told.store.members("team") == [TWO]
    assert told.events == [
        (JOINED, "team", ONE),
        (JOINED, "team", TWO),
        (LEFT, "team", ONE),
        (JOINED, "other", ONE),
    ]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def quick(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    monkeypatch.setattr(attendance, "RETRY", 0.005)
    told = Told(store, 0.03)
    yield told
    told.attendance.close(TIMEOUT)


def renewed(store: Store, times: int = 3) -> None:
    for _ in range(times):
        assert store.renewals.acquire(timeout=TIMEOUT)


def test_leases_are_renewed(quick: Told, store: Store) -> None:
    quick.attendance.enter("team", ONE)
    renewed(store)
    assert quick.events == [(JOINED, "team", ONE)]


def test_what_the_broker_has_forgotten_is_entered_again(quick: Told, store: Store) -> None:
    quick.attendance.enter("team", ONE)
    MemoryPresence.leave(store, "team", "one")
    quick.wait_for(lambda: len(quick.events) == 2)
    assert store.members("team") == [ONE]


def test_who_is_gone_is_told_of(quick: Told, store: Store) -> None:
    store.gone = [TWO]
    quick.attendance.enter("team", ONE)
    assert quick.events == [(LEFT, "team", TWO), (JOINED, "team", ONE)]
    store.gone = [TWO]
    quick.wait_for(lambda: len(quick.events) == 3)
    assert quick.events[2] == (LEFT, "team", TWO)


def test_a_broker_that_is_away(quick: Told, store: Store) -> None:
    quick.attendance.enter("team", ONE)
    quick.attendance.enter("team", TWO)
    store.error = BrokerUnavailable("away")
    with pytest.raises(BrokerUnavailable):
        quick.attendance.enter("team", GroupMember("three"))
    quick.attendance.leave("team", "one")
    renewed(store)
    store.error = None
    renewed(store)
    # Nobody renews the lease of the one that has left.
    assert store.renew("team", ["one", "two"], 1.0) == ([], [])
    assert [event for event in quick.events if event[0] == LEFT] == []


def test_a_fault_does_not_end_the_renewals(
    quick: Told, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    quick.attendance.enter("team", ONE)
    store.error = ValueError("broken")
    renewed(store)
    store.error = None
    assert "the leases of group members could not be renewed" in caplog.text
    renewed(store)


def test_nobody_joins_a_worker_that_ends(store: Store) -> None:
    told = Told(store)
    told.attendance.enter("team", ONE)
    told.attendance.leave("team", "one")
    told.attendance.close(TIMEOUT)
    # Whoever has left has been taken out before.
    assert told.events == [(JOINED, "team", ONE), (LEFT, "team", ONE)]
    with pytest.raises(BrokerUnavailable, match="shutting down"):
        told.attendance.enter("team", TWO)
    told.attendance.leave("team", "two")


def test_who_leaves_while_it_is_entered_again(store: Store) -> None:
    told = Told(store)
    told.attendance._enter_again("team", "nobody")
    assert told.events == []
    told.attendance.close(TIMEOUT)


# -- how it is declared --------------------------------------------------------------------------


@pytest.fixture
def app() -> Flask:
    return Flask(__name__)


def groups_of(websocket: WebSocket) -> Groups:
    return websocket.groups


def test_presence_is_asked_for(app: Flask) -> None:
    websocket = WebSocket(app)

    @websocket.route("/rooms/<room>")
    class Room(WebSocketView):
        groups = ("room:{room}",)
        presence = True

    @websocket.route("/function/<room>", groups=["function:{room}"], presence=True, history=5)
    def function(ws: Any, room: str) -> None:
        """Does nothing."""

    websocket.configure_group("user:{id}", presence=True)
    for name in ("room:a", "user:a", "function:a"):
        assert websocket.groups.options_of(name).presence
        assert websocket.members(name) == []
        assert websocket.count(name) == 0
    assert websocket.groups.options_of("function:a").history is not None
    for name in ("lobby", "room:"):
        with pytest.raises(GroupError, match="has no presence: set presence = True"):
            websocket.members(name)
    with pytest.raises(GroupError, match="isn't a valid group name"):
        websocket.count("")
    websocket.groups.close()


def test_groups_of_function_routes_are_checked(app: Flask) -> None:
    websocket = WebSocket(app)
    with pytest.raises(RegistrationError, match="groups of 'wrong': /wrong has no variable room"):

        @websocket.route("/wrong", groups=["room:{room}"])
        def wrong(ws: Any) -> None:
            """Does nothing."""

    with pytest.raises(RegistrationError, match=r"text\.groups must be a list"):

        @websocket.route("/text", groups="lobby")
        def text(ws: Any) -> None:
            """Does nothing."""

    with pytest.raises(ValueError, match=r"slow\.slow_clients must be one of close"):

        @websocket.route("/slow", slow_clients="never")
        def slow(ws: Any) -> None:
            """Does nothing."""


def test_options_may_not_differ(app: Flask) -> None:
    websocket = WebSocket(app)
    websocket.configure_group("lobby", history=5)
    with pytest.raises(RegistrationError, match="no history and presence"):
        websocket.configure_group("lobby", presence=True)


def test_a_broker_without_presence(app: Flask) -> None:
    class Simple(MemoryBroker):
        def __init__(self) -> None:
            super().__init__()
            self.presence = None  # type: ignore[assignment]

    groups = Groups(Settings(), Simple())
    groups.configure("plain", GroupOptions())
    with pytest.raises(RegistrationError, match="need presence, which Simple doesn't support"):
        groups.configure("lobby", GroupOptions(presence=True))


def test_handlers_are_told_in_the_application_context(
    app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    websocket = WebSocket(app)
    websocket.configure_group("room:{room}", presence=True)
    told: list[tuple[str, str, str]] = []
    over = threading.Event()

    @websocket.on_join("room:{room}")
    def joined(group: str, member: GroupMember) -> None:
        told.append((current_app.name, group, member.id))
        if member.id == "two":
            raise ValueError("a handler's own")

    @websocket.on_leave("room:b")
    def left(group: str, member: GroupMember) -> None:
        told.append(("left", group, member.id))
        over.set()

    fanout = groups_of(websocket)._fanout.get()
    fanout.attendance.enter("room:a", ONE)
    with caplog.at_level(logging.ERROR):
        fanout.attendance.enter("room:b", TWO)
        fanout.attendance.leave("room:a", "one")
        fanout.attendance.leave("room:b", "two")
        assert over.wait(TIMEOUT)
    assert told == [
        (app.name, "room:a", "one"),
        (app.name, "room:b", "two"),
        ("left", "room:b", "two"),
    ]
    assert "a presence handler for the group 'room:b' failed" in caplog.text
    websocket.groups.close()


def test_handlers_that_would_never_be_called(app: Flask) -> None:
    websocket = WebSocket(app)
    with pytest.raises(RegistrationError, match="make it a plain function"):

        @websocket.on_join("lobby")
        async def coroutine(group: str, member: GroupMember) -> None:
            """Would be awaited by nobody."""

    with pytest.raises(RegistrationError, match="isn't a valid pattern"):
        websocket.on_leave("{}")(lambda group, member: None)
    websocket.on_leave("lobby:{x}")(lambda group, member: None)
    with pytest.raises(RegistrationError, match="which has no presence"):
        websocket.broadcast("lobby:a", "hello")


def test_a_broker_that_does_not_say_more_answers_a_ping_if_it_is_reachable() -> None:
    class Away(MemoryBroker):
        is_reachable = False  # type: ignore[assignment]

    broker: Broker = MemoryBroker()
    broker.ping()
    with pytest.raises(BrokerUnavailable, match="Away can't be reached"):
        Away().ping()
