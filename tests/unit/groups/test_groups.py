"""Names, patterns, options and members of groups, without a server."""

from __future__ import annotations

import asyncio
import itertools
import logging
import sys
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from support.peers import Peer, bounded
from werkzeug.routing import Map as MapType

from flask_wsviews import (
    AsyncioWebSocket,
    Blueprint,
    BrokerUnavailable,
    ConfigError,
    GroupError,
    OutgoingMessageError,
    Publisher,
    RegistrationError,
    WebSocket,
    WebSocketView,
)
from flask_wsviews.common.steps import run_steps
from flask_wsviews.config import Settings
from flask_wsviews.groups import (
    Broker,
    Delivery,
    Disconnection,
    Groups,
    History,
    Outcome,
    Publication,
)
from flask_wsviews.groups.brokers import health, memory_history
from flask_wsviews.groups.brokers.base import id_key, make_id, new_epoch, parse_id
from flask_wsviews.groups.brokers.health import Health, delay_after
from flask_wsviews.groups.brokers.memory import MemoryBroker
from flask_wsviews.groups.brokers.wire import decode, encode
from flask_wsviews.groups.declared import Declarations, GroupOptions, history_of, narrowest
from flask_wsviews.groups.delivery_queue import (
    BATCH,
    DELIVERY_SIZE,
    QUEUE_SHARE,
    DeliveryQueue,
)
from flask_wsviews.groups.member import Member
from flask_wsviews.groups.members import Members
from flask_wsviews.groups.names import Pattern, check_group
from flask_wsviews.groups.slow_clients import Counters, SlowClients
from flask_wsviews.protocol.prepared import PreparedMessage
from flask_wsviews.registration.app_views import AppViews

# -- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "room:zürich", "user/5 at home", "x" * 255, "ü" * 127])
def test_names(name: str) -> None:
    assert check_group(name) == name


@pytest.mark.parametrize(
    "name", ["", " a", "a ", "a\nb", "a{b", "a}", "x" * 256, "ü" * 128, 5, None, b"a"]
)
def test_what_is_no_name(name: Any) -> None:
    with pytest.raises(GroupError):
        check_group(name)


def test_patterns() -> None:
    pattern = Pattern("room:{room}/{seat}")
    assert pattern.variables == {"room", "seat"}
    assert pattern.fill({"room": "a.b", "seat": 5, "more": "x"}) == "room:a.b/5"
    assert pattern.matches("room:a.b/5")
    assert not pattern.matches("room:/")
    assert not pattern.matches("xroom:a/5")
    assert Pattern("a.b").matches("a.b")
    assert not Pattern("a.b").matches("axb")
    assert repr(pattern) == "Pattern('room:{room}/{seat}')"


@pytest.mark.parametrize(
    "text", ["", "{", "a}", "{}", "{0}", "{a.b}", "{a!r}", "{a:5}", "a\n{b}", " x", 5, "{{a}}"]
)
def test_what_is_no_pattern(text: Any) -> None:
    with pytest.raises(RegistrationError):
        Pattern(text)


@pytest.mark.parametrize("view_args", [{}, {"room": ""}, {"room": "{x}"}, {"room": "x" * 300}])
def test_what_a_pattern_cannot_be_filled_with(view_args: dict[str, str]) -> None:
    with pytest.raises(GroupError):
        Pattern("{room}").fill(view_args)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "-",
        "1-",
        "-1",
        "a-1",
        "1-1-1",
        "1-" + "1" * 21,
        f"1-{2**64}",
        "\u0661-1",
        "abcdefghijkl-1-1",
        "123456789012-1-",
        "1-123456789012-1-1",
    ],
)
def test_what_is_no_id(text: str) -> None:
    with pytest.raises(ValueError, match="a message id"):
        id_key(text)


def test_ids_are_compared_as_numbers() -> None:
    assert id_key("9-10") > id_key("9-9")
    assert id_key("10-0") > id_key("9-9")


def test_ids_tell_their_epoch() -> None:
    epoch = new_epoch()
    assert epoch != new_epoch()
    made = make_id(epoch, (5, 2**64 - 1))
    assert parse_id(made) == (epoch, (5, 2**64 - 1))
    # A broker may do without.
    assert parse_id("5-6") == ("", (5, 6))


# -- messages -----------------------------------------------------------------------------------


@pytest.mark.parametrize("body", ["grüße\n", b"\x00\n\xff", "", b""])
def test_what_is_encoded_is_decoded(body: str | bytes) -> None:
    publication = Publication("team", body, frozenset({"a", "b"}), typed=isinstance(body, str))
    delivery = decode("team", "1-0", encode(publication))
    assert delivery == Delivery("team", body, "1-0", frozenset({"a", "b"}), isinstance(body, str))
    assert decode("team", "", encode(publication)).id is None


@pytest.mark.parametrize("data", [b"", b"x\n", b"[1]\nx", b"5\nx", b"[1,0]\n\xff"])
def test_what_cannot_be_decoded(data: bytes) -> None:
    with pytest.raises((ValueError, TypeError)):
        decode("team", "", data)


def test_only_typed_messages_tell_their_ids() -> None:
    assert Delivery("g", '{"type": "x"}', "1-2", typed=True).content == (
        '{"message_id": "1-2", "type": "x"}'
    )
    assert Delivery("g", '{"type": "x"}', typed=True).content == '{"type": "x"}'
    assert Delivery("g", '{"type": "x"}', "1-2").content == '{"type": "x"}'
    assert Delivery("g", b"x", "1-2", typed=True).content == b"x"


# -- members ------------------------------------------------------------------------------------


class Driver:
    """A connection without a socket, at a home that does what it is told when it is asked to."""

    shares_thread = True

    def __init__(self, home: list | None = None, peer: Peer | None = None) -> None:
        self.home = id(home)
        self.calls = home
        self.peer = peer or Peer()
        self.connection = self.peer.connection
        self.bursts: list[int] = []

    def call_at_home(self, function: Any) -> None:
        if self.calls is None:
            function()
        else:
            self.calls.append(function)

    call_soon_at_home = call_at_home

    def deliver(self, messages: list[PreparedMessage], policy: str) -> int:
        self.bursts.append(len(messages))
        now = self.peer.now
        return sum(self.connection.send_prepared(message, policy, now) for message in messages)

    def texts(self) -> list[str]:
        return [payload.decode() for _, payload in self.peer.sent()]


class Local:
    """The members of a group, with their queues."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.queues: dict[object, DeliveryQueue] = {}
        self.group = Members("g", self.queue_of)

    def queue_of(self, home: object, driver: Any) -> DeliveryQueue:
        made = DeliveryQueue(driver, self.counters, SlowClients(self.counters))
        return self.queues.setdefault(home, made)

    def deliver(self, *bodies: str, exclude: tuple[str, ...] = (), start: int = 0) -> None:
        for number, body in enumerate(bodies, start):
            message_id = f"1-{number}" if start else None
            self.group.deliver(Delivery("g", body, message_id, frozenset(exclude)))


def member(driver: Driver, name: str = "m", policy: str = "close", tell: Any = None) -> Member:
    return Member(name, driver, policy, tell)  # type: ignore[arg-type]


def test_a_home_is_called_once_for_many_messages_and_members() -> None:
    local, calls = Local(), []
    drivers = [Driver(calls) for _ in range(3)]
    for number, driver in enumerate(drivers):
        local.group.add(member(driver, str(number)))
    local.deliver("a", "b")
    local.deliver("c", exclude=("1",))
    [call] = calls
    call()
    assert [driver.texts() for driver in drivers] == [list("abc"), list("ab"), list("abc")]
    assert [driver.bursts for driver in drivers] == [[3], [2], [3]]
    assert local.counters.delivered == 8
    assert len(local.group) == 3


class Recorder(Driver):
    """A connection whose client takes everything at once."""

    def __init__(self, home: list) -> None:
        super().__init__(home)
        self.got: list[str] = []
        self.closed: tuple[int, str] | None = None

    def deliver(self, messages: list[PreparedMessage], policy: str) -> int:
        self.got += [message.payload.decode() for message in messages]
        return 0

    def close(self, code: int, reason: str) -> None:
        self.closed = code, reason


def test_what_is_kept_for_a_home_that_hangs_is_bounded() -> None:
    local, calls = Local(), []
    closing, dropping, typed, leaving = (Recorder(calls) for _ in range(4))
    local.group.add(member(closing, "closing"))
    local.group.add(member(dropping, "dropping", "drop-newest"))
    local.group.add(member(typed, "typed", "drop-oldest", tell=lambda group: f"lost {group}"))
    gone = member(leaving, "leaving")
    local.group.add(gone)
    other = Members("other", local.queue_of)
    other.add(member(dropping, "dropping", "drop-newest"))
    room = QUEUE_SHARE * dropping.connection.settings.max_send_buffer
    body = "x" * 100_000
    kept = room // (len(body) + DELIVERY_SIZE)
    local.deliver(*[body] * (kept + 5))
    # It would fit, but the gap before it has to be told first.
    local.deliver("small")
    other.deliver(Delivery("other", "small"))
    local.group.discard(gone)
    [queue] = local.queues.values()
    assert len(queue._waiting) == kept + 1
    while calls:
        calls.pop(0)()
    assert closing.got == [body] * kept
    assert closing.closed == (1008, "the server is too busy")
    assert dropping.got == [*[body] * kept, "small"]
    assert typed.got == [*[body] * kept, "lost g"]
    assert (leaving.got, leaving.closed, typed.closed, dropping.closed) == ([], None, None, None)
    assert (local.counters.closed, local.counters.dropped) == (1, 12)
    # Then it goes on as ever, with all of the room.
    assert queue._room == room
    local.deliver("after")
    while calls:
        calls.pop(0)()
    assert typed.got[-1] == dropping.got[-1] == "after"


def test_each_member_hears_of_its_own_gap() -> None:
    local, calls = Local(), []
    old, dropping, newcomer, late = (Recorder(calls) for _ in range(4))
    local.group.add(member(old, "old"))
    local.group.add(member(dropping, "dropping", "drop-oldest", tell=lambda group: "lost"))
    room = QUEUE_SHARE * old.connection.settings.max_send_buffer
    body = "x" * 100_000
    kept = room // (len(body) + DELIVERY_SIZE)
    local.deliver(*[body] * (kept + 2))
    # One comes while nothing can be kept for the others, and misses nothing.
    local.group.add(member(newcomer, "newcomer"))
    local.deliver("small", "also small")
    [queue] = local.queues.values()
    runs = len(queue._missed["g"]._runs)
    local.deliver(*["small"] * 20)
    assert len(queue._missed["g"]._runs) == runs
    # Another one catches up, with what has been held for it.
    resuming = member(late, "late")
    local.group.hold(resuming)
    local.deliver("held")
    assert local.group.release(resuming, "1-0")
    while calls:
        calls.pop(0)()
    assert old.closed == (1008, "the server is too busy")
    assert dropping.got == [*[body] * kept, "lost"]
    assert newcomer.got == ["small", "also small", *["small"] * 20, "held"]
    assert late.got == ["held"]
    assert newcomer.closed is late.closed is dropping.closed is None
    assert (local.counters.closed, local.counters.dropped) == (1, 25)
    assert queue._room == room


def test_a_member_that_misses_something_is_disconnected_all_the_same() -> None:
    local, calls = Local(), []
    driver = Recorder(calls)
    local.group.add(member(driver, policy="drop-newest"))
    local.deliver("x" * QUEUE_SHARE * driver.connection.settings.max_send_buffer)
    local.group.deliver(Delivery("g", None, disconnection=Disconnection(4001, "bye")))
    while calls:
        calls.pop(0)()
    assert (driver.got, driver.closed) == ([], (4001, "bye"))


@pytest.mark.parametrize("policy", ["drop-oldest", "drop-newest"])
def test_the_notice_of_a_gap_reaches_slow_members(policy: str) -> None:
    local, driver = Local(), Driver(peer=Peer(max_send_buffer=110))
    local.group.add(member(driver, policy=policy, tell=lambda group: "lost"))
    local.deliver("a" * 50, "b" * 50)
    local.group.deliver(Delivery("g", None, lost=True))
    local.deliver("c" * 50, "d" * 50)
    assert "lost" in driver.texts()


def test_what_is_not_kept_is_sent_in_order_to_who_resumes() -> None:
    local, driver = Local(), Driver()
    one = member(driver)
    local.group.hold(one)
    local.deliver("typing before a")
    local.deliver("a", start=5)
    local.deliver("typing after a")
    local.deliver("b", start=7)
    local.deliver("typing after b")
    # a was replayed.
    assert local.group.release(one, "1-5")
    assert driver.texts() == ["typing after a", "b", "typing after b"]


def test_others_have_their_turn_in_between() -> None:
    local, calls = Local(), []
    driver = Driver(calls)
    local.group.add(member(driver))
    local.deliver(*"x" * (BATCH + 1))
    calls.pop()()
    assert driver.bursts == [BATCH]
    calls.pop()()
    assert driver.bursts == [BATCH, 1]
    assert not calls


def test_what_is_under_way_does_not_reach_who_has_left() -> None:
    local, calls = Local(), []
    driver = Driver(calls)
    one = member(driver)
    local.group.add(one)
    local.deliver("a")
    local.group.discard(one)
    local.group.add(one)
    local.deliver("b")
    calls.pop()()
    assert driver.texts() == ["b"]
    local.group.discard(one)
    local.group.discard(one)
    assert len(local.group) == 0


def test_a_message_is_delivered_once() -> None:
    local, driver = Local(), Driver()
    local.group.add(member(driver))
    local.deliver("a", "b", start=5)
    local.deliver("a", "b", "c", start=5)
    assert driver.texts() == ["a", "b", "c"]


def test_who_catches_up_is_handed_the_rest_without_gap_or_double() -> None:
    local, driver = Local(), Driver()
    one = member(driver)
    local.group.hold(one)
    assert len(local.group) == 1
    local.deliver("a", "b", "c", start=5)
    assert driver.texts() == []
    assert local.group.release(one, "1-5")
    local.deliver("d", start=8)
    assert driver.texts() == ["b", "c", "d"]
    local.group.hold(one)
    local.group.discard(one)
    assert local.group.release(one, "1-8")
    assert len(local.group) == 0


def test_what_was_replayed_may_still_be_on_its_way() -> None:
    local, driver, other = Local(), Driver(), Driver()
    local.group.add(member(other))
    one = member(driver)
    local.deliver("a", start=5)
    local.group.hold(one)
    # The replay went up to 1-7, and the broker has delivered no more than 1-5 until now.
    assert local.group.release(one, "1-7")
    local.deliver("b", "c", "d", start=6)
    local.deliver("e", start=9)
    assert driver.texts() == ["d", "e"]
    assert other.texts() == ["a", "b", "c", "d", "e"]


ONE, TWO = "111111111111", "222222222222"


def test_ids_of_another_epoch_may_go_back() -> None:
    local, driver = Local(), Driver()
    local.group.add(member(driver))
    heard = [(ONE, 5), (ONE, 6), (TWO, 1), (TWO, 1), (ONE, 6), (ONE, 7), (TWO, 1), (TWO, 2)]
    for epoch, number in heard:
        local.group.deliver(Delivery("g", f"{epoch[0]}:{number}", f"{epoch}-{number}-0"))
    # What is still on its way from the former epoch isn't lost, and nothing comes twice.
    assert driver.texts() == ["1:5", "1:6", "2:1", "1:7", "2:2"]
    for number in range(20):
        local.group.deliver(Delivery("g", str(number), f"{number:012}-1-0"))
    assert len(local.group._last) == 4


def test_after_a_gap_ids_may_go_back_whatever_their_epoch() -> None:
    local, driver = Local(), Driver()
    local.group.add(member(driver))
    for lost, number in ((False, 5), (True, 0), (False, 3), (False, 3)):
        message_id = None if lost else f"{ONE}-{number}-0"
        local.group.deliver(Delivery("g", None if lost else str(number), message_id, lost=lost))
    assert driver.texts() == ["5", "3"]


def test_who_has_caught_up_in_one_epoch_gets_what_follows_in_another() -> None:
    local, driver = Local(), Driver()
    one = member(driver)
    local.group.hold(one)
    local.group.deliver(Delivery("g", "replayed", f"{ONE}-7-0"))
    local.group.deliver(Delivery("g", "held", f"{TWO}-1-0"))
    assert local.group.release(one, f"{ONE}-7-0")
    local.group.deliver(Delivery("g", "live", f"{TWO}-2-0"))
    assert driver.texts() == ["held", "live"]


def test_who_catches_up_too_slowly_begins_again() -> None:
    local, driver = Local(), Driver(peer=Peer(max_send_buffer=10))
    one = member(driver)
    local.group.hold(one)
    local.deliver("x" * 6, "y" * 6, "z", start=5)
    assert not local.group.release(one, "1-4")
    assert len(local.group) == 0


def test_lost_messages_are_told_to_who_wants_to_know() -> None:
    local, plain, typed = Local(), Driver(), Driver()
    local.group.add(member(plain))
    local.group.add(member(typed, tell=lambda group: f"{group} has a gap"))
    local.group.deliver(Delivery("g", None, lost=True))
    assert (plain.texts(), typed.texts()) == ([], ["g has a gap"])


def test_a_connection_that_fails_is_no_matter_of_the_others(caplog: Any) -> None:
    local, broken, sound = Local(), Driver(), Driver()
    broken.deliver = None  # type: ignore[assignment, method-assign]
    for driver in (broken, sound):
        local.group.add(member(driver))
    local.deliver("a")
    assert sound.texts() == ["a"]
    assert "could not be handed" in caplog.text


def test_a_home_that_has_ended_takes_nothing() -> None:
    local, driver = Local(), Driver()

    def ended(function: Any) -> None:
        raise RuntimeError("Event loop is closed")

    driver.call_at_home = ended  # type: ignore[method-assign]
    local.group.add(member(driver))
    local.deliver("a", "b")
    assert driver.texts() == []


@pytest.mark.parametrize(
    ("policy", "left", "counted"),
    [("drop-oldest", ["a" * 50, "d" * 50], (2, 0)), ("drop-newest", ["a" * 50, "b" * 50], (2, 0))],
)
def test_slow_members_do_without(policy: str, left: list, counted: tuple, caplog: Any) -> None:
    local, driver = Local(), Driver(peer=Peer(max_send_buffer=110))
    local.group.add(member(driver, policy=policy))
    local.deliver(*(letter * 50 for letter in "abcd"))
    assert driver.texts() == left
    assert (local.counters.dropped, local.counters.closed) == counted
    # One line, however many.
    assert len(caplog.records) == 1


def test_slow_members_are_closed() -> None:
    local, driver = Local(), Driver(peer=Peer(max_send_buffer=110))
    local.group.add(member(driver))
    local.deliver(*(letter * 50 for letter in "abc"))
    [one, two, (_, payload)] = driver.peer.sent()
    assert (one[1], two[1]) == (b"a" * 50, b"b" * 50)
    assert payload[2:] == b"the client is too slow"
    assert (local.counters.dropped, local.counters.closed) == (0, 1)


# -- health -------------------------------------------------------------------------------------


def test_health_is_told_once_and_tried_now_and_then(
    monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    now = 100.0
    monkeypatch.setattr(health, "monotonic", lambda: now)
    one = Health("the broker")
    one.succeeded()
    one.begin()
    for _ in range(3):
        error = one.failed(OSError("refused"))
        assert str(error) == "the broker fails, nothing was sent: refused"
    assert not one.is_good
    with pytest.raises(BrokerUnavailable):
        one.begin()
    now += 10
    one.begin()
    with pytest.raises(BrokerUnavailable):
        one.begin()
    one.succeeded()
    one.begin()
    assert one.is_good
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING]
    assert str(one.failed(ValueError(), "perhaps")) == "the broker fails, perhaps: ValueError"


def test_delays_grow_up_to_a_limit() -> None:
    for failures, longest in ((1, 0.1), (2, 0.2), (5, 1.6), (50, 2.0)):
        assert longest / 2 <= delay_after(failures) <= longest


# -- what is set --------------------------------------------------------------------------------


def test_of_several_patterns_the_first_counts() -> None:
    groups = Groups(Settings())
    groups.configure("room:a", GroupOptions(History(5)))
    groups.configure("room:{x}", GroupOptions())
    groups.configure("room:{x}", GroupOptions())
    assert groups.has_history("room:a")
    assert not groups.has_history("room:b")
    assert not groups.has_history("other")
    with pytest.raises(RegistrationError, match="first configured with"):
        groups.configure("room:{x}", GroupOptions(History(5)))


@pytest.mark.parametrize(
    ("messages", "seconds"),
    [(0, None), (1.5, None), (True, None), (None, 0), (None, "x"), (5, True)],
)
def test_what_is_no_history(messages: Any, seconds: Any) -> None:
    with pytest.raises(RegistrationError):
        history_of(messages, seconds)


def test_how_long_a_history_lasts() -> None:
    assert history_of(None, None) is None
    assert History(5).lifetime == 24 * 3600
    assert History(5, 60).lifetime == 60


class Uwsgi:
    numproc = 1
    loop = None
    mule = 0

    def mule_id(self) -> int:
        return self.mule

    def worker_id(self) -> int:
        return 1


@pytest.mark.parametrize(("numproc", "mule", "where"), [(4, 0, "4 workers"), (1, 1, "a mule")])
def test_memory_is_refused_where_others_would_hear_nothing(
    monkeypatch: pytest.MonkeyPatch, numproc: int, mule: int, where: str
) -> None:
    uwsgi = Uwsgi()
    monkeypatch.setitem(sys.modules, "uwsgi", uwsgi)
    Groups(Settings()).publish("team", "x")
    uwsgi.numproc, uwsgi.mule = numproc, mule
    app = Flask("site")
    websocket = WebSocket(app)
    # Who has no groups isn't bothered.
    with pytest.raises(ConfigError, match=f"{where}.*WSVIEWS_BROKER_URL"):
        websocket.broadcast("team", "x")

    class Lobby(WebSocketView):
        groups = ("lobby",)

    with pytest.raises(ConfigError, match=where):
        websocket.add_url_rule("/lobby", view_func=Lobby)


@pytest.mark.parametrize(
    "attributes",
    [
        {"groups": "lobby"},
        {"groups": 5},
        {"groups": ["{"]},
        {"groups": ["room:{seat}"]},
        {"groups": ["lobby"], "history": 0},
        {"groups": ["lobby"], "slow_clients": "wait"},
    ],
)
def test_what_a_view_cannot_declare(attributes: dict[str, Any]) -> None:
    view = type("Room", (WebSocketView,), attributes)
    with pytest.raises((RegistrationError, ConfigError)):
        WebSocket(Flask("site")).add_url_rule("/<room>", view_func=view)
    # And on a blueprint, whose rules come later.
    blueprint = Blueprint("rooms", "rooms")
    blueprint.add_websocket_rule("/<room>", view_func=view)
    app = Flask("site")
    app.register_blueprint(blueprint)
    with pytest.raises((RegistrationError, ConfigError)):
        WebSocket(app)


@pytest.mark.parametrize("blueprints", [0, 1, 40], ids=["app", "one blueprint", "blueprints"])
def test_registration_looks_at_each_view_once(
    monkeypatch: pytest.MonkeyPatch, blueprints: int
) -> None:
    checked: list[str] = []
    sorted_maps: list[object] = []
    check, update = AppViews.check_groups, MapType.update

    def note_check(self: AppViews, endpoint: str, *rest: Any) -> None:
        checked.append(endpoint)
        check(self, endpoint, *rest)

    def note_update(self: MapType) -> None:
        sorted_maps.append(self)
        update(self)

    monkeypatch.setattr(AppViews, "check_groups", note_check)
    monkeypatch.setattr(MapType, "update", note_update)
    app = Flask("site")
    websocket = WebSocket(app)
    checked.clear()
    sorted_maps.clear()
    made = [Blueprint(f"b{i}", "b", url_prefix=f"/{i}/<tenant>") for i in range(blueprints)]
    for number in range(40):
        view = type(f"View{number}", (WebSocketView,), {"groups": [f"{number}:{{room}}"]})
        if made:
            blueprint = made[number % blueprints]
            blueprint.add_websocket_rule(f"/{number}/<any(a, b):room>", view_func=view)
        else:
            websocket.add_url_rule(f"/{number}/<path:room>", view_func=view)
    for blueprint in made:
        app.register_blueprint(blueprint)
    assert len(checked) == len(set(checked)) == 40
    assert sorted_maps == []


def test_variables_may_come_from_prefixes_and_defaults() -> None:
    view = type("Room", (WebSocketView,), {"groups": ["{tenant}:{room}:{seat}"]})
    app = Flask("site")
    WebSocket(app)
    for name, defaults in (("good", {"seat": "1"}), ("bad", {})):
        outer, inner = Blueprint("o" + name, "o"), Blueprint("i" + name, "i", url_prefix="/<room>")
        inner.add_websocket_rule(f"/{name}", view_func=view, defaults=defaults)
        outer.register_blueprint(inner)
        if name == "good":
            app.register_blueprint(outer, url_prefix="/a/<tenant>")
            continue
        with pytest.raises(RegistrationError, match="no variable seat"):
            app.register_blueprint(outer, url_prefix="/b/<tenant>")


def test_groups_need_an_application() -> None:
    with pytest.raises(RegistrationError, match="init_app"):
        _ = WebSocket().groups


@pytest.mark.parametrize(
    ("exclude", "error"),
    [
        (5, TypeError),
        ([5], TypeError),
        ("hello", GroupError),
        (["hello"], GroupError),
        ([str(UUID(int=5)), "room:7"], GroupError),
        (str(UUID(int=5)).upper() + " ", GroupError),
    ],
    ids=["number", "numbers", "text", "texts", "a name", "not quite an id"],
)
def test_what_cannot_be_excluded(exclude: Any, error: type[Exception]) -> None:
    websocket = WebSocket(Flask("site"))
    with pytest.raises(error, match="exclude takes"):
        websocket.broadcast("team", "x", exclude=exclude)
    with pytest.raises(TypeError, match="send_message"):
        websocket.broadcast("team", {"an": "object"})  # type: ignore[arg-type]


@pytest.mark.parametrize("extension", [WebSocket, AsyncioWebSocket], ids=["plain", "asyncio"])
def test_exclude_is_a_keyword(extension: type[WebSocket]) -> None:
    websocket: Any = extension(Flask("site"))
    for call in (websocket.broadcast, partial(Publisher.broadcast, websocket)):
        with pytest.raises(TypeError, match="positional"):
            call("team", "another group", "message")
    with pytest.raises(TypeError, match="positional"):
        websocket.send_message("team", "said", {}, "message")


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({}, TypeError, "either group= or connection="),
        ({"group": "a", "connection": str(UUID(int=5))}, TypeError, "either"),
        ({"group": ""}, GroupError, "isn't a valid group name"),
        ({"group": 5}, GroupError, "a str"),
        ({"connection": "me"}, GroupError, "connection takes"),
        ({"connection": 5}, TypeError, "connection takes"),
        ({"group": "a", "code": 1005}, ValueError, "1005"),
        ({"group": "a", "code": 99}, ValueError, "99"),
        ({"group": "a", "reason": "x" * 124}, ValueError, "123 bytes"),
    ],
    ids=lambda value: None,
)
def test_what_cannot_be_disconnected(
    arguments: dict[str, Any], error: type[Exception], match: str
) -> None:
    for extension in (WebSocket, AsyncioWebSocket):
        websocket = extension(Flask("site"))
        published: list[Any] = []
        websocket.groups.broker.publish = published.append  # type: ignore[method-assign]
        with pytest.raises(error, match=match):
            websocket.disconnect(**arguments)
        with pytest.raises(TypeError, match="positional"):
            websocket.disconnect("team")  # type: ignore[misc]
        assert published == []


def test_members_on_their_way_are_disconnected() -> None:
    """Before the subscription stands, while a page is replayed, and while it waits for presence."""
    websocket = WebSocket(Flask("site"))
    websocket.configure_group("team", history=5, presence=True)
    groups = websocket.groups
    driver = Recorder([])
    one = member(driver)
    start = run_steps(groups.join(member(Recorder([])), "team", None, print)).position
    websocket.broadcast("team", "missed")
    steps = 0
    for cut in range(1, 10):
        driver.closed = None
        join = groups.join(one, "team", start, print)
        step = next(join)
        try:
            for number in itertools.count(1):
                steps = max(steps, number)
                result = step()
                if number == cut:
                    websocket.disconnect(group="team", code=4001)
                step = join.send(result)
        except StopIteration:
            pass
        while driver.calls:
            driver.calls.pop(0)()
        assert driver.closed == ((4001, "") if cut <= steps else None)
        groups.leave(one, "team")
    assert steps == 4


def test_types_that_views_declare_differently() -> None:
    from marshmallow import Schema, fields

    class One(Schema):
        text = fields.Str()

    class Two(Schema):
        text = fields.Str()
        message_id = fields.Str()

    app = Flask("site")
    websocket = WebSocket(app)
    views = {}
    for name, schema in (("a", One), ("b", Two)):
        attributes = {"groups": [f"{name}:{{x}}"], "history": 5, "emits": {"said": schema}}
        views[name] = type(name, (WebSocketView,), attributes)
        websocket.add_url_rule(f"/{name}/<x>", view_func=views[name])
    assert websocket.send_message("a:1", "said", {"text": "x"})
    with pytest.raises(OutgoingMessageError, match="no view declares 'heard'"):
        websocket.send_message("a:1", "heard", {})
    with pytest.raises(OutgoingMessageError, match="a, b declare 'said' differently"):
        websocket.send_message("c:1", "said", {})
    assert websocket.send_message("c:1", "said", {}, view=views["a"]) is None
    with pytest.raises(OutgoingMessageError, match="message_id"):
        websocket.send_message("b:1", "said", {"message_id": "1"})


# -- brokers ------------------------------------------------------------------------------------


class Slow(MemoryBroker):
    """Waits, as a network would."""

    waits = True
    is_shared = True

    def publish(self, publication: Publication) -> str | None:
        if publication.body == "fails":
            raise BrokerUnavailable("away")
        return super().publish(publication)


def test_in_an_event_loop_nothing_waits() -> None:
    groups = Groups(Settings(), Slow())
    driver = Driver()
    one = member(driver)

    async def use() -> None:
        from flask_wsviews.common.steps import run_steps_async

        joined = await run_steps_async(groups.join(one, "team", None, driver.connection.send))
        assert joined.group == "team"
        outcome: Any = groups.publish("team", "awaited")
        assert isinstance(outcome, Outcome)
        assert await outcome is None
        with pytest.raises(BrokerUnavailable):
            await groups.publish("team", "fails")  # type: ignore[misc]

    asyncio.run(use())
    assert driver.texts() == ["awaited"]
    assert groups.local_count("team") == 1
    groups.leave(one, "team")
    groups.leave(one, "team")
    assert groups.local_count("team") == 0
    groups.close()


def test_memory_keeps_nothing_of_names_that_nobody_publishes_to() -> None:
    broker = MemoryBroker()
    for number in range(100):
        name = f"room:{number}"
        broker.subscribe(name, History(5))
        broker.replay(name, None, History(5))
        broker.replay(name, "0-0", History(5))
        broker.unsubscribe(name)
    kept = broker._histories.get()
    assert (len(kept._logs), len(broker._subscribed), kept._size) == (0, 0, 0)


def test_memory_is_bounded_over_all_groups() -> None:
    """The groups that were silent longest lose their oldest messages, and say so."""
    broker = MemoryBroker(Settings(max_history_size=100_000))
    kept = History(50)
    start = {name: broker.replay(name, None, kept).position for name in ("old", "new")}
    body = "x" * 10_000
    for name in ("old", "new"):
        for _ in range(4):
            broker.publish(Publication(name, body, history=kept))
    assert all(broker.replay(name, start[name], kept).complete for name in start)
    for _ in range(3):
        broker.publish(Publication("new", body, history=kept))
    assert broker._histories.get()._size <= 100_000
    assert broker.replay("new", start["new"], kept).complete
    assert not broker.replay("old", start["old"], kept).complete
    for number in range(2000):
        broker.publish(Publication(f"room:{number}", "hello", history=kept))
    assert broker._histories.get()._size <= 100_000
    assert len(broker._histories.get()._logs) < 50
    # Of what is forgotten altogether nobody says that it is complete.
    for since in (start["old"], broker.replay("never", None, kept).position):
        is_known = since != start["old"]
        assert broker.replay("old", since, kept).complete is is_known
    # A single message may be above the bound.
    broker.publish(Publication("huge", "x" * 200_000, history=kept))
    assert broker._histories.get()._size <= 100_000


def test_what_memory_counts_is_what_it_keeps() -> None:
    broker = MemoryBroker()
    kept = History(3, 60)
    for number in range(10):
        broker.publish(Publication("team", b"x" * 100 * number, history=kept))
    [log] = broker._histories.get()._logs.values()
    assert broker._histories.get()._size == log.size
    before = log.size
    assert log.shrink(before) == before - memory_history.LOG_SIZE
    assert not log._entries


def test_memory_keeps_no_frames_of_what_it_has_delivered() -> None:
    """They would take more than the history's limit allows."""
    broker = MemoryBroker()
    kept = History(3)
    delivered: list[Delivery] = []
    broker.start(delivered.append)
    start = broker.replay("team", None, kept).position
    broker.publish(Publication("team", "x", history=kept))
    assert delivered[0].prepared.payload == b"x"
    [again] = broker.replay("team", start, kept).deliveries
    assert again == delivered[0]
    assert again is not delivered[0]


def test_memory_forgets_a_group_at_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(memory_history, "monotonic", lambda: now)
    monkeypatch.setattr(memory_history, "time", lambda: 0.0)
    broker = MemoryBroker()
    short, long = History(5, 10), History(5, 1000)
    early = broker.replay("quiet", None, long).position
    at_first = broker.replay("brief", None, short).position
    broker.publish(Publication("brief", "1", history=short))
    now += 60
    later = broker.replay("brief", None, short).position
    assert not broker._histories.get()._logs
    assert not broker.replay("brief", at_first, short).complete
    assert broker.replay("brief", later, short).complete
    # That one is forgotten sooner doesn't concern another.
    assert broker.replay("quiet", early, long).complete


def test_what_nobody_awaits_is_logged_if_it_fails(caplog: Any) -> None:
    errors: list[BaseException] = []

    async def fails() -> None:
        raise BrokerUnavailable("away")

    async def use() -> None:
        Outcome(fails(), on_error=errors.append)
        Outcome(fails())
        await asyncio.sleep(0.01)

    asyncio.run(use())
    assert [type(error) for error in errors] == [BrokerUnavailable]
    assert caplog.text.count("was not awaited") == 2


def test_a_join_that_fails_leaves_nothing_behind() -> None:
    class Away(MemoryBroker):
        def subscribe(self, group: str, history: History | None) -> None:
            raise BrokerUnavailable("away")

    groups = Groups(Settings(), Away())
    driver = Driver()
    with pytest.raises(BrokerUnavailable):
        run_steps(groups.join(member(driver), "team", None, driver.connection.send))
    assert groups.local_count("team") == 0


def test_a_broker_without_history_says_so() -> None:
    class Plain(MemoryBroker):
        replay = Broker.replay

    groups = Groups(Settings(), Plain())
    groups.configure("team", GroupOptions(History(5)))
    driver = Driver()
    with pytest.raises(BrokerUnavailable, match="Plain keeps no history"):
        run_steps(groups.join(member(driver), "team", None, driver.connection.send))
    assert groups.local_count("team") == 0
    assert Plain().is_reachable


def test_asyncio_outside_of_its_loop_is_done_at_once() -> None:
    websocket = AsyncioWebSocket(Flask("site"))
    outcome = websocket.broadcast("team", "x")

    async def wait() -> Any:
        return await outcome

    assert asyncio.run(wait()) is None


def test_a_failure_that_began_before_the_recovery_is_old_news(
    caplog: pytest.LogCaptureFixture,
) -> None:
    known = Health("the broker")
    began = health.monotonic()
    known.failed(OSError("away"))
    known.succeeded()
    assert "away" in str(known.failed(OSError("away still"), began=began))
    assert known.is_good
    known.failed(OSError("away again"), began=health.monotonic())
    assert not known.is_good
    assert caplog.text.count("fails: ") == 2


# -- patterns, and the names that they make -----------------------------------------------------

VALUES = ["a", "b", "a:b", "a/b", "b-a", ":", ""]
TEXT = st.text("ab:/-", min_size=1, max_size=4)
PATTERN = st.lists(
    st.one_of(st.sampled_from(["{a}", "{b}", "{c}"]), TEXT), min_size=1, max_size=5
).map("".join)


def made(text: str) -> Pattern | None:
    try:
        return Pattern(text)
    except RegistrationError:
        return None


PATTERNS = st.lists(PATTERN.map(made).filter(bool), min_size=1, max_size=4)


@bounded
@given(PATTERNS, st.data())
def test_a_filled_name_belongs_to_one_pattern(patterns: list[Pattern], data: st.DataObject) -> None:
    declarations = Declarations()
    for pattern in patterns:
        declarations.add(pattern.text, GroupOptions())
    owners: dict[str, set[str]] = {}
    values: dict[tuple[str, str], tuple[str, ...]] = {}
    # All that clients may send, if it is short.
    for pattern in patterns:
        order = sorted(pattern.variables, key=pattern.text.index)
        for filling in itertools.product(
            ["a", "b", "a:b", "a/b", "b-a", ":", ""], repeat=len(order)
        ):
            try:
                name = pattern.fill(dict(zip(order, filling, strict=True)))
                declarations.check_owner(pattern, name)
            except GroupError:
                continue
            owners.setdefault(name, set()).add(pattern.shape)
            assert values.setdefault((pattern.text, name), filling) == filling
    for name, shapes in owners.items():
        assert len(shapes) == 1, (name, shapes)
        # Its options are its own, whatever other patterns would match.
        own = {pattern.shape: pattern for pattern in patterns}[shapes.pop()]
        assert own.shape in {each.shape for each in narrowest(declarations._matching(name))}


@pytest.mark.parametrize(
    ("text", "value", "is_right"),
    [
        ("room:{x}", "7:staff", False),
        ("chat-room:{x}", "a-b", True),
        ("chat-room:{x}", "a:b", False),
        ("room{x}", "a b", True),
        ("a:b{x}", "c:d", False),
        ("{x} (old)", "a b", False),
        ("{x} (old)", "a)", True),
        ("user-{x}", "a-b", False),
        ("user-{x}", -5, True),
        ("user-{x}", 1.5, True),
        ("user-{x}", UUID(int=5), True),
        ("user-{x}", str(UUID(int=5)), False),
        ("team:{x}", "", False),
    ],
)
def test_values_and_separators(text: str, value: Any, is_right: bool) -> None:
    if is_right:
        assert Pattern(text).fill({"x": value}) == text.replace("{x}", str(value))
        return
    with pytest.raises(GroupError) as caught:
        Pattern(text).fill({"x": value})
    assert caught.value.code == 1008


@pytest.mark.parametrize("text", ["{a}{b}", "{a}x{b}", "{a}{a}", "x:{a}1{b}"])
def test_two_variables_need_a_separator(text: str) -> None:
    with pytest.raises(RegistrationError, match="punctuation between"):
        Pattern(text)


def test_the_narrowest_pattern_counts() -> None:
    declarations = Declarations()
    for text, messages in (("{x}", 1), ("room:{x}", 2), ("room:{x}:{y}", 3), ("room:vip", 4)):
        declarations.add(text, GroupOptions(History(messages)))
    for name, messages in (("a", 1), ("room:a", 2), ("room:a:b:c", 3), ("room:vip", 4), ("a:b", 1)):
        history = declarations.options_of(name).history
        assert history is not None
        assert history.messages == messages


def test_options_of_the_same_groups_conflict_whatever_their_variables_are_called() -> None:
    declarations = Declarations()
    declarations.add("room:{room}", GroupOptions(History(100, 60)))
    declarations.add("room:{id}", GroupOptions(History(100, 60)))
    with pytest.raises(RegistrationError) as caught:
        declarations.add("room:{id}", GroupOptions(None, presence=True))
    assert str(caught.value).startswith(
        "conflicting options for group 'room:{id}': first configured as 'room:{room}' with "
        "history=100, history_seconds=60 and no presence, now with no history and presence."
    )
