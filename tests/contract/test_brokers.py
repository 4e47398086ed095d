"""What every broker does, called directly."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis
from support import toys
from support.brokers import KEPT, MADE, Listening, publish
from support.redis_server import RedisServer, redis_server
from support.servers import poll

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
from flask_wsviews.groups.brokers.base import (
    CONNECTIONS,
    PAGE,
    PAGE_SIZE,
    Disconnection,
    id_key,
    parse_id,
)
from flask_wsviews.groups.brokers.redis import history as redis_history


@pytest.fixture(scope="module")
def redis(tmp_path_factory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def toy() -> Iterator[str]:
    toys.register()
    yield "toy://here"
    toys.unregister()


@pytest.fixture(params=["memory", "redis", "toy"])
def url(request) -> str:
    if request.param == "redis":
        return request.getfixturevalue("redis").url
    return "memory://" if request.param == "memory" else request.getfixturevalue("toy")


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while MADE:
        MADE.pop().close()


@pytest.fixture
def listening(url) -> Listening:
    return Listening(url)


@pytest.fixture
def group() -> str:
    return f"group:{uuid4().hex}"


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


def test_what_is_not_kept_is_delivered_live_and_in_order(listening, group):
    start = listening.broker.replay(group, None, KEPT).position
    listening.broker.subscribe(group, KEPT)
    ids = [
        listening.broker.publish(Publication(group, body, history=KEPT, keep=keep))
        for body, keep in (("typing", False), ("said", True), ("typing", False))
    ]
    assert (ids[0], ids[2]) == (None, None)
    assert listening.bodies(3) == ["typing", "said", "typing"]
    assert [delivery.id for delivery in listening.heard] == ids
    replay = listening.broker.replay(group, start, KEPT)
    assert [delivery.body for delivery in replay.deliveries] == ["said"]
    assert (replay.position, replay.complete) == (ids[1], True)


@pytest.mark.parametrize("target", ["group", "connection"])
def test_disconnections_are_delivered_after_messages_and_not_kept(listening, group, target):
    name = group if target == "group" else CONNECTIONS
    ending = Disconnection(4001, "grüße", None if target == "group" else "an id")
    start = listening.broker.replay(group, None, KEPT).position
    listening.broker.subscribe(group, KEPT)
    if name != group:
        listening.broker.subscribe(name, None)
    publish(listening, group, "a message", KEPT)
    sent = Publication(name, "", keep=False, disconnection=ending)
    assert listening.broker.publish(sent) is None
    assert listening.bodies(2) == ["a message", None]
    assert listening.heard[1] == Delivery(name, None, disconnection=ending)
    assert len(listening.broker.replay(group, start, KEPT).deliveries) == 1
    if name != group:
        listening.broker.unsubscribe(name)


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


def test_ids_need_no_escaping(listening, group):
    for message_id in (
        listening.broker.replay(group, None, KEPT).position,
        publish(listening, group, "1", KEPT),
        listening.broker.replay(group, None, KEPT).position,
    ):
        assert re.fullmatch("[0-9-]+", message_id)


def test_an_id_of_another_epoch_is_lost(listening, group):
    """Whatever is compared with it: everything is sent, and nobody is told that it was complete."""
    ids = [publish(listening, group, str(number), KEPT) for number in range(3)]
    bare = ids[1].partition("-")[2]
    unknown = [
        "0-0",
        "1-0",
        "99999999999999-0",
        bare,
        f"000000000000-{bare}",
        "0-18446744073709551615",
    ]
    for since in unknown:
        replay = listening.broker.replay(group, since, KEPT)
        assert not replay.complete, since
        assert [delivery.id for delivery in replay.deliveries] == ids, since
        assert not listening.broker.replay(f"{group}-empty", since, KEPT).complete, since
    # The same goes for ids that nobody was given yet, but nothing is after them.
    epoch = parse_id(ids[0])[0]
    for since in (f"{epoch}-99999999999999-0", f"{epoch}-{2**64 - 1}-{2**64 - 1}"):
        assert not listening.broker.replay(group, since, KEPT).complete, since
    # A client that makes them up changes nothing for the others.
    assert listening.broker.replay(group, ids[0], KEPT).complete


def test_an_id_of_another_process_is_lost(group):
    one, two = Listening("memory://"), Listening("memory://")
    position = one.broker.replay(group, None, KEPT).position
    told = publish(one, group, "1", KEPT)
    for since in (position, told):
        assert not two.broker.replay(group, since, KEPT).complete
    publish(two, group, "2", KEPT)
    for since in (position, told):
        replay = two.broker.replay(group, since, KEPT)
        assert (replay.complete, [d.body for d in replay.deliveries]) == (False, ["2"])


def test_a_position_before_the_first_message_is_one_to_resume_from(listening, group):
    listening.broker.subscribe(group, KEPT)
    start = listening.broker.replay(group, None, KEPT).position
    listening.broker.unsubscribe(group)
    again = listening.broker.replay(group, start, KEPT)
    assert (again.complete, again.deliveries) == (True, [])
    publish(listening, group, "1", KEPT)
    publish(listening, group, "2", KEPT)
    for position in (start, again.position):
        replay = listening.broker.replay(group, position, KEPT)
        assert (replay.complete, [d.body for d in replay.deliveries]) == (True, ["1", "2"])


def test_a_page_is_bounded_in_bytes(listening, group):
    start = listening.broker.replay(group, None, KEPT).position
    sizes = [PAGE_SIZE // 2, PAGE_SIZE // 3, PAGE_SIZE // 4, 3 * PAGE_SIZE, 5, 6]
    for size in sizes:
        publish(listening, group, "x" * size, KEPT)
    pages = [listening.broker.replay(group, start, KEPT)]
    while not pages[-1].is_last:
        pages.append(listening.broker.replay(group, pages[-1].position, KEPT))
    assert all(page.complete for page in pages)
    assert [[len(d.body or "") for d in page.deliveries] for page in pages] == [
        sizes[:2],
        sizes[2:3],
        sizes[3:4],
        sizes[4:],
    ]


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


def test_a_publisher_keeps_what_members_have_set_however_silent_it_was(redis, group):
    """The history ends before the members leave; what is published next is kept again."""
    brief = History(seconds=0.2)
    listening = Listening(redis.url)
    with Publisher(redis.url) as publisher:
        listening.broker.subscribe(group, brief)
        listening.broker.replay(group, None, brief)
        assert publisher.broadcast(group, "1") is not None
        poll(lambda: redis.command("EXISTS", f"wsviews:{{{group}}}:stream") == b":0\r\n")
        assert publisher.broadcast(group, "2") is not None


def test_what_members_have_set_is_kept_while_they_are_there(redis, group, monkeypatch):
    monkeypatch.setattr(redis_history, "LEASE", 400)
    monkeypatch.setattr(redis_history, "RENEWAL", 0.1)
    listening = Listening(redis.url)
    listening.broker.subscribe(group, KEPT)
    listening.broker.replay(group, None, KEPT)
    until = time.monotonic() + 1
    poll(lambda: time.monotonic() > until)
    with Publisher(redis.url) as publisher:
        assert publisher.broadcast(group, "1") is not None


def test_names_that_nobody_publishes_to_leave_nothing_in_redis(redis, group):
    def keys() -> bytes:
        return redis.command("KEYS", f"*{group}*")

    one, two = Listening(redis.url), Listening(redis.url)
    names = [f"{group}-{number}" for number in range(20)]
    for listening in (one, two):
        for name in names:
            listening.broker.subscribe(name, KEPT)
            listening.broker.replay(name, None, KEPT)
            listening.broker.replay(name, "0-0", KEPT)
    for name in names:
        one.broker.unsubscribe(name)
    one.broker.subscribe(group, KEPT)
    # The other's members are there still.
    with Publisher(redis.url) as publisher:
        assert publisher.broadcast(names[0], "1") is not None
    for listening in (one, two):
        for name in [*names, group]:
            listening.broker.unsubscribe(name)
    poll(lambda: keys().startswith(b"*2\r\n"))
    assert f"{names[0]}}}:stream".encode() in keys()


@pytest.fixture
def client(redis) -> Iterator[Redis]:
    with Redis.from_url(redis.url) as made:
        yield made


def stream_of(group: str) -> str:
    return f"wsviews:{{{group}}}:stream"


def cut_off(client: Redis, listening: Listening, *meanwhile: Callable[[], object]) -> None:
    """End the connections that listen; returns when those of the broker are back."""
    subscriptions = listening.broker._listener._subscriptions
    before = {group: one.confirmations for group, one in subscriptions.items()}
    client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    for do in meanwhile:
        do()
    poll(lambda: all(one.confirmations > before[group] for group, one in subscriptions.items()), 20)


def start_in_the_future(client: Redis, group: str) -> None:
    """Have the ids of a group begin far ahead of the clock, as if it was set back since."""
    fields: Any = {"before": "", "epoch": "123456789012"}
    client.xadd(stream_of(group), fields, id="99999999999999-0")


def lost_or_body(listening: Listening) -> list[Any]:
    return ["lost" if one.lost else one.body for one in listening.heard]


def test_ids_that_go_back_are_of_another_epoch(redis, client, group):
    listening = Listening(redis.url)
    start_in_the_future(client, group)
    listening.broker.subscribe(group, KEPT)
    before = publish(listening, group, "1", KEPT)
    client.flushall()
    after = publish(listening, group, "2", KEPT)
    assert listening.bodies(2) == ["1", "2"]
    assert id_key(after) < id_key(before)
    assert parse_id(after)[0] != parse_id(before)[0]
    assert not listening.broker.replay(group, before, KEPT).complete
    # Those that listen are told once the connection was away: nobody knows what they missed.
    client.flushall()
    cut_off(client, listening)
    publish(listening, group, "3", KEPT)
    poll(lambda: len(listening.heard) >= 4)
    assert lost_or_body(listening) == ["1", "2", "lost", "3"]


@pytest.mark.parametrize("key", ["stream", "set"])
@pytest.mark.parametrize("is_first", [True, False], ids=["position", "message"])
def test_a_key_that_is_gone_alone(redis, client, group, key, is_first):
    """A full server may evict either: no message is missed without a word."""
    listening = Listening(redis.url)
    listening.broker.subscribe(group, KEPT)
    since = listening.broker.replay(group, None, KEPT).position
    if not is_first:
        since = publish(listening, group, "0", KEPT)
    publish(listening, group, "1", KEPT)
    client.delete(f"wsviews:{{{group}}}:{key}")
    for bodies in (["1"], ["1", "2"]):
        replay = listening.broker.replay(group, since, KEPT)
        if key == "set":
            assert (replay.complete, [d.body for d in replay.deliveries]) == (True, bodies)
        else:
            assert (replay.complete, [d.body for d in replay.deliveries]) == (False, bodies[1:])
        publish(listening, group, "2", KEPT)
    poll(lambda: lost_or_body(listening)[-1:] == ["2"])


@pytest.mark.parametrize("tail", [[], ["new"]], ids=["silent", "published"])
def test_a_server_that_has_lost_its_last_messages(redis, client, group, tail, monkeypatch):
    """As after a failover to a replica that was behind: ids come a second time."""
    monkeypatch.setattr(
        "flask_wsviews.groups.brokers.redis.listener.delay_after", lambda failures: 0.5
    )
    listening, second, other = (Listening(redis.url) for _ in range(3))
    listening.broker.subscribe(group, KEPT)
    second.broker.subscribe(group, KEPT)
    publish(listening, group, "1", KEPT)
    kept = client.dump(stream_of(group))
    ids = [publish(listening, group, body, KEPT) for body in ("2", "3")]
    listening.bodies(3)
    cut_off(
        client,
        listening,
        lambda: client.restore(stream_of(group), 60_000, kept, replace=True),
        lambda: [publish(other, group, body, KEPT) for body in tail],
    )
    publish(other, group, "4", KEPT)
    poll(lambda: lost_or_body(listening)[-1:] == ["4"])
    # Nothing comes twice, in whatever order the workers are back.
    for each in (listening, second):
        poll(lambda each=each: lost_or_body(each) == ["1", "2", "3", "lost", *tail, "4"])
    assert parse_id(listening.heard[-1].id)[0] != parse_id(ids[0])[0]
    for since in ids:
        assert not listening.broker.replay(group, since, KEPT).complete
    # It happens once: the new epoch stays.
    epoch = parse_id(listening.heard[-1].id)[0]
    cut_off(client, listening)
    assert parse_id(publish(other, group, "5", KEPT))[0] == epoch
    poll(lambda: lost_or_body(listening)[-2:] == ["4", "5"])


def test_a_stream_of_an_older_version_is_of_no_epoch(redis, client, group):
    listening = Listening(redis.url)
    old = client.xadd(stream_of(group), {"before": "", "message": "[1,0]\nold"}).decode()
    listening.broker.subscribe(group, KEPT)
    replay = listening.broker.replay(group, old, KEPT)
    assert (replay.complete, [d.body for d in replay.deliveries]) == (False, ["old"])
    assert publish(listening, group, "new", KEPT) is not None
    assert listening.broker.replay(group, replay.position, KEPT).complete


def test_what_is_missed_before_the_first_message_is_made_up_for(redis, client, group, monkeypatch):
    """Between subscribing and the first message there is a place to fill gaps from as well."""
    monkeypatch.setattr(
        "flask_wsviews.groups.brokers.redis.listener.delay_after", lambda failures: 0.5
    )
    listening, other = Listening(redis.url), Listening(redis.url)
    listening.broker.subscribe(group, KEPT)
    client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    publish(other, group, "missed", KEPT)
    assert listening.bodies(1) == ["missed"]


def test_what_is_no_message_does_not_keep_the_others_from_theirs(redis, client, group, caplog):
    """Neither in a channel nor in a stream, where it would be found again at each connection."""
    listening = Listening(redis.url)
    for name in (group, f"{group}-2", f"{group}-3"):
        listening.broker.subscribe(name, KEPT)
    channel = f"wsviews:{{{group}}}:channel"
    for payload in ("nonsense", "\n5\nx", "1-1-1\n[1,0]\nx", "\n[1,0,[]]\nx", "1-1\n[1,0]\n\xff"):
        client.publish(channel, payload.encode("latin-1"))
    client.publish(channel, b"\xff\n[1,0]\nx")
    publish(listening, group, "1", KEPT)
    assert listening.bodies(1) == ["1"]
    for entry in ({"other": "fields"}, {"message": "nonsense"}, {"message": "5\nx"}):
        client.xadd(stream_of(group), entry)
    client.set(stream_of(f"{group}-2"), "no stream")
    cut_off(client, listening)
    publish(listening, group, "2", KEPT)
    publish(listening, f"{group}-3", "3", KEPT)
    poll(lambda: "2" in lost_or_body(listening) and "3" in lost_or_body(listening))
    assert {one.group for one in listening.heard if one.lost} >= {f"{group}-2"}
    assert caplog.text.count("received something that") == 6
    assert sum("the broker" in record.message for record in caplog.records) <= 2, caplog.text
    with pytest.raises(BrokerUnavailable):
        listening.broker.replay(f"{group}-2", None, KEPT)


def test_what_cannot_be_delivered_does_not_end_the_connection(redis, client, group, caplog):
    heard = []

    def deliver(delivery: Delivery) -> None:
        if delivery.body == "fails":
            raise ValueError("as asked")
        heard.append(delivery.body)

    broker = make_broker(Settings(broker_url=redis.url))
    broker.start(deliver)
    broker.subscribe(group, None)
    for body in ("fails", "heard"):
        broker.publish(Publication(group, body))
    poll(lambda: heard == ["heard"])
    assert "could not be delivered" in caplog.text
    assert "fails:" not in caplog.text
    broker.close()


def test_a_server_without_memory_is_listened_to(redis, client, group):
    listening = Listening(redis.url)
    listening.broker.subscribe(group, KEPT)
    listening.broker.subscribe(f"{group}-plain", None)
    publish(listening, group, "1", KEPT)
    client.config_set("maxmemory", "1")
    try:
        cut_off(client, listening)
        with pytest.raises(BrokerUnavailable, match="maxmemory"):
            publish(listening, group, "2", KEPT)
        publish(listening, f"{group}-plain", "3")
        assert lost_or_body(listening)[:1] == ["1"]
        poll(lambda: lost_or_body(listening) == ["1", "3"])
        assert listening.broker.replay(group, None, KEPT).position == listening.heard[0].id
    finally:
        client.config_set("maxmemory", "0")


def test_what_is_no_message_is_left_out(redis, group, caplog):
    listening = Listening(redis.url)
    listening.broker.subscribe(group, None)
    redis.command("PUBLISH", f"wsviews:{{{group}}}:channel", "nonsense")
    publish(listening, group, "a message")
    assert listening.bodies(1) == ["a message"]
    assert "received something that isn't a message" in caplog.text


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
        assert sum("fails:" in record.message for record in caplog.records) == 1
    assert sum("works again" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("nats://localhost", "no broker for 'nats'"),
        ("localhost:6379", "no broker for"),
        ("redis+sentinel://localhost", "WSVIEWS_BROKER_URL isn't a valid redis\\+sentinel://"),
        (
            "redis+sentinel://localhost/service/x",
            "WSVIEWS_BROKER_URL isn't a valid redis\\+sentinel://",
        ),
        ("redis+sentinel:///service", "a host is missing"),
        ("redis://localhost:x/0", "WSVIEWS_BROKER_URL isn't a valid redis://"),
    ],
)
def test_urls_that_cannot_be_used(url, problem):
    with pytest.raises(ConfigError, match=problem):
        make_broker(Settings(broker_url=url))


def test_a_publisher_reaches_nobody_in_memory():
    with pytest.raises(ConfigError, match="only reaches its own process"):
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


def test_a_unix_socket(tmp_path, group):
    path = tmp_path / "redis.sock"
    with redis_server(tmp_path, "--unixsocket", str(path)):
        listening = Listening(f"unix://{path}")
        listening.broker.subscribe(group, None)
        publish(listening, group, "by a file")
        assert listening.bodies(1) == ["by a file"]


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


def test_what_is_no_member_does_not_hide_the_others(redis, client, brokers, group, caplog):
    presence = brokers[0].presence
    presence.enter(group, member("one"), LONG)
    for name, value in (("text", "nonsense"), ("number", "5"), ("list", "[[1], 0]")):
        client.zadd(f"wsviews:{{{group}}}:leases", {name: 2**52})
        client.hset(f"wsviews:{{{group}}}:members", name, value)
    assert presence.members(group) == [member("one")]
    assert presence.renew(group, ["one"], LONG) == ([], [])
    assert caplog.text.count("isn't a member") == 3


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
