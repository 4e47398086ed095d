"""What every broker does, called directly."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from uuid import uuid4

import pytest
from redis_server import RedisServer, redis_server
from servers import poll

from flask_wsviews.config import Settings
from flask_wsviews.exceptions import BrokerUnavailable, ConfigError
from flask_wsviews.groups import (
    Broker,
    Delivery,
    GroupMember,
    History,
    PresenceStore,
    Publication,
    Publisher,
    make_broker,
)
from flask_wsviews.groups.base import PAGE, id_key

KEPT = History(1000)


@pytest.fixture(scope="module")
def redis(tmp_path_factory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["memory", "redis"])
def url(request) -> str:
    return "memory://" if request.param == "memory" else request.getfixturevalue("redis").url


class Listening:
    """A broker, and what it has delivered."""

    def __init__(self, url: str) -> None:
        self.heard: list[Delivery] = []
        self.broker: Broker = make_broker(Settings(broker_url=url))
        self.broker.start(self.heard.append)

    def bodies(self, count: int) -> list[str | bytes | None]:
        poll(lambda: len(self.heard) >= count)
        return [delivery.body for delivery in self.heard]


@pytest.fixture
def listening(url) -> Iterator[Listening]:
    made = Listening(url)
    yield made
    made.broker.close()


@pytest.fixture
def group() -> str:
    return f"group:{uuid4().hex}"


def publish(listening: Listening, group: str, body: str | bytes, history=None) -> str | None:
    return listening.broker.publish(Publication(group, body, history=history))


def test_what_is_subscribed_to_is_delivered(listening, group):
    publish(listening, group, "too early")
    listening.broker.subscribe(group, None)
    publish(listening, f"{group}-other", "elsewhere")
    sent = Publication(group, "grüße\n", frozenset({"a", "b"}), typed=True)
    assert listening.broker.publish(sent) is None
    publish(listening, group, b"\x00\n\xff")
    assert listening.bodies(2) == ["grüße\n", b"\x00\n\xff"]
    first, second = listening.heard
    assert (first.group, first.exclude, first.typed, first.id) == (group, {"a", "b"}, True, None)
    assert (second.exclude, second.typed) == (frozenset(), False)


def test_nothing_is_delivered_after_unsubscribing(listening, group):
    listening.broker.subscribe(group, None)
    listening.broker.unsubscribe(group)
    listening.broker.subscribe(f"{group}-2", None)
    publish(listening, group, "too late")
    publish(listening, f"{group}-2", "in time")
    assert listening.bodies(1) == ["in time"]
    for _ in range(20):
        listening.broker.subscribe(group, None)
        listening.broker.unsubscribe(group)
    listening.broker.subscribe(group, None)
    publish(listening, group, "again")
    assert listening.bodies(2) == ["in time", "again"]


def test_messages_are_delivered_in_the_order_of_their_ids(listening, group):
    listening.broker.subscribe(group, KEPT)
    threads = [
        threading.Thread(
            target=lambda name=name: [
                publish(listening, group, f"{name}{number}", KEPT) for number in range(50)
            ]
        )
        for name in "abc"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    bodies = listening.bodies(150)
    ids = [id_key(delivery.id) for delivery in listening.heard]
    assert ids == sorted(set(ids))
    for name in "abc":
        own = [body for body in bodies if body.startswith(name)]
        assert own == [f"{name}{number}" for number in range(50)]


def test_a_history_is_replayed_page_by_page(listening, group):
    start = listening.broker.replay(group, None, KEPT)
    assert (start.deliveries, start.complete, start.is_last) == ([], True, True)
    ids = [publish(listening, group, str(number), KEPT) for number in range(PAGE + 5)]
    first = listening.broker.replay(group, start.position, KEPT)
    assert [delivery.id for delivery in first.deliveries] == ids[:PAGE]
    assert (first.position, first.complete, first.is_last) == (ids[PAGE - 1], True, False)
    second = listening.broker.replay(group, first.position, KEPT)
    assert [delivery.body for delivery in second.deliveries] == [str(PAGE + n) for n in range(5)]
    assert (second.position, second.complete, second.is_last) == (ids[-1], True, True)
    assert listening.broker.replay(group, None, KEPT).position == ids[-1]
    end = listening.broker.replay(group, ids[-1], KEPT)
    assert (end.deliveries, end.complete, end.position) == ([], True, ids[-1])


def test_what_a_history_has_dropped_is_told(listening, group):
    short = History(2)
    start = listening.broker.replay(group, None, short).position
    one = publish(listening, group, "1", short)
    publish(listening, group, "2", short)
    assert listening.broker.replay(group, start, short).complete
    publish(listening, group, "3", short)
    gone = listening.broker.replay(group, start, short)
    assert not gone.complete
    assert [delivery.body for delivery in gone.deliveries] == ["2", "3"]
    assert listening.broker.replay(group, one, short).complete


def test_an_id_from_another_time_is_not_complete(listening, group):
    publish(listening, group, "1", KEPT)
    for unknown in ("1-0", "99999999999999-0"):
        assert not listening.broker.replay(group, unknown, KEPT).complete


def test_messages_are_forgotten_after_their_time(listening, group):
    brief = History(seconds=0.2)
    start = listening.broker.replay(group, None, brief).position
    publish(listening, group, "1", brief)
    assert listening.broker.replay(group, start, brief).complete
    poll(lambda: not listening.broker.replay(group, start, brief).complete)
    assert listening.broker.replay(group, start, brief).deliveries == []


def test_what_joiners_have_set_is_kept_for_publishers_that_know_nothing(redis, group):
    listening = Listening(redis.url)
    with Publisher(redis.url) as publisher:
        assert publisher.broadcast(group, "not kept") is None
        start = listening.broker.replay(group, None, KEPT).position
        sent = publisher.send_message(group, "said", {"text": "kept"})
        replay = listening.broker.replay(group, start, KEPT)
        assert [(one.id, one.typed) for one in replay.deliveries] == [(sent, True)]
        assert publisher.broadcast(f"{group}-2", "kept", history=5) is not None
    listening.broker.close()


def test_what_is_no_message_is_left_out(redis, group, caplog):
    listening = Listening(redis.url)
    listening.broker.subscribe(group, None)
    redis.command("PUBLISH", f"wsviews:{{{group}}}:channel", "nonsense")
    publish(listening, group, "a message")
    assert listening.bodies(1) == ["a message"]
    assert "no message was published" in caplog.text
    listening.broker.close()


def test_a_broker_that_is_away_is_told_at_once_and_logged_once(tmp_path, caplog):
    with redis_server(tmp_path) as server:
        listening = Listening(server.url)
        listening.broker.subscribe("team", KEPT)
        publish(listening, "team", "one", KEPT)
        listening.bodies(1)
        server.kill()
        for _ in range(3):
            with pytest.raises(BrokerUnavailable):
                publish(listening, "team", "nobody hears", KEPT)
            with pytest.raises(BrokerUnavailable):
                listening.broker.subscribe("others", None)
        assert not listening.broker.is_reachable
        server.start()

        def sent() -> bool:
            try:
                return publish(listening, "team", "two", KEPT) is not None
            except BrokerUnavailable:
                return False

        poll(sent, 20)
        poll(lambda: listening.heard[-1].body == "two")
        poll(lambda: listening.broker.is_reachable)
        listening.broker.close()
    assert sum("fails:" in record.message for record in caplog.records) == 1
    assert sum("works again" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("nats://localhost", "no broker for 'nats'"),
        ("localhost:6379", "no broker for"),
        ("redis+sentinel://localhost", "WSVIEWS_BROKER_URL is no redis\\+sentinel://"),
        ("redis+sentinel://localhost/service/x", "WSVIEWS_BROKER_URL is no redis\\+sentinel://"),
        ("redis+sentinel:///service", "a host is missing"),
        ("redis://localhost:x/0", "WSVIEWS_BROKER_URL is no redis://"),
    ],
)
def test_urls_that_cannot_be_used(url, problem):
    with pytest.raises(ConfigError, match=problem):
        make_broker(Settings(broker_url=url))


def test_a_publisher_reaches_nobody_in_memory():
    with pytest.raises(ConfigError, match="reaches nobody"):
        Publisher("memory://")


def test_a_sentinel_knows_the_master(redis, tmp_path, group):
    folder = tmp_path / "sentinel"
    folder.mkdir()
    config = folder / "sentinel.conf"
    config.write_text(f"sentinel monitor main 127.0.0.1 {redis.port} 1\n")
    with redis_server(folder, config=config) as sentinel:
        listening = Listening(f"redis+sentinel://127.0.0.1:{sentinel.port}/main")
        listening.broker.subscribe(group, KEPT)
        publish(listening, group, "through the master", KEPT)
        assert listening.bodies(1) == ["through the master"]
        listening.broker.close()


def test_a_unix_socket(tmp_path, group):
    path = tmp_path / "redis.sock"
    with redis_server(tmp_path, "--unixsocket", str(path)):
        listening = Listening(f"unix://{path}")
        listening.broker.subscribe(group, None)
        publish(listening, group, "by a file")
        assert listening.bodies(1) == ["by a file"]
        listening.broker.close()


# -- presence -------------------------------------------------------------------------------------

LONG = 60.0


def member(name: str, joined_at: float = 1.0) -> GroupMember:
    return GroupMember(name, {"name": name, "tags": ["ü", None, 1.5]}, joined_at)


@pytest.fixture
def presence(listening) -> PresenceStore:
    return listening.broker.presence


@pytest.fixture
def brokers(redis) -> Iterator[list[Broker]]:
    """Two brokers, as two workers have them."""
    made = [make_broker(Settings(broker_url=redis.url)) for _ in range(2)]
    yield made
    for broker in made:
        broker.close()


def test_who_is_in_a_group(presence, group):
    assert (presence.members(group), presence.count(group)) == ([], 0)
    one, two = member("one", 2.0), member("two", 1.0)
    assert presence.enter(group, one, LONG) == (True, [])
    assert presence.enter(group, two, LONG) == (True, [])
    assert presence.enter(f"{group}-other", one, LONG) == (True, [])
    assert presence.enter(group, one, LONG) == (False, [])
    assert presence.members(group) == [two, one]
    assert presence.count(group) == 2
    assert presence.leave(group, "one")
    assert not presence.leave(group, "one")
    assert presence.members(group) == [two]
    assert presence.members(f"{group}-other") == [one]


def test_renewing_tells_who_is_missing(presence, group):
    presence.enter(group, member("one"), LONG)
    assert presence.renew(group, ["one", "two"], LONG) == (["two"], [])
    assert presence.renew(f"{group}-empty", ["one"], LONG) == (["one"], [])
    assert presence.count(f"{group}-empty") == 0


def test_leases_run_out(brokers, group):
    store, presence = (broker.presence for broker in brokers)
    dead, alive = member("dead"), member("alive")
    store.enter(group, dead, 0.3)
    presence.enter(group, alive, LONG)
    poll(lambda: presence.members(group) == [alive])
    assert presence.count(group) == 1
    # It is told once, to the first who does something.
    assert presence.renew(group, ["alive"], LONG) == ([], [dead])
    assert store.enter(group, member("new"), LONG) == (True, [])
    store.enter(group, dead, 0.1)
    poll(lambda: presence.count(group) == 2)
    assert store.enter(group, member("newer"), LONG) == (True, [dead])
    assert store.renew(group, ["dead"], LONG) == (["dead"], [])


def test_who_renews_late_but_unnoticed_stays(brokers, group):
    presence = brokers[0].presence
    presence.enter(group, member("one"), 0.2)
    poll(lambda: presence.count(group) == 0)
    assert presence.renew(group, ["one"], LONG) == ([], [])
    assert presence.count(group) == 1


def test_many_members_are_renewed(brokers, group):
    presence = brokers[0].presence
    names = [f"member{number}" for number in range(2500)]
    for name in names:
        presence.enter(group, GroupMember(name), LONG)
    assert presence.renew(group, [*names, "nobody"], LONG) == (["nobody"], [])
    assert presence.count(group) == len(presence.members(group)) == 2500


def test_nothing_stays_of_a_group_that_everybody_has_left(redis, brokers, group):
    presence = brokers[0].presence
    presence.enter(group, member("one"), LONG)
    presence.leave(group, "one")
    presence.enter(f"{group}-2", member("one"), 0.05)
    poll(lambda: redis.command("EXISTS", f"wsviews:{{{group}-2}}:members") == b":0\r\n")
    for name in ("members", "leases"):
        assert redis.command("EXISTS", f"wsviews:{{{group}}}:{name}") == b":0\r\n"


def test_presence_of_a_broker_that_is_away(tmp_path, group):
    with redis_server(tmp_path) as server:
        broker = make_broker(Settings(broker_url=server.url, broker_timeout=1.0))
        broker.presence.enter(group, member("one"), LONG)
        broker.ping()
        server.kill()
        for attempt in (
            broker.ping,
            lambda: broker.presence.enter(group, member("two"), LONG),
            lambda: broker.presence.leave(group, "one"),
            lambda: broker.presence.renew(group, ["one"], LONG),
            lambda: broker.presence.members(group),
            lambda: broker.presence.count(group),
        ):
            with pytest.raises(BrokerUnavailable):
                attempt()
        broker.close()


def test_a_ping_is_answered(listening):
    listening.broker.ping()
