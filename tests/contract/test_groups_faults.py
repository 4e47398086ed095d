"""Groups over several workers and instances, with a Redis that fails."""

from __future__ import annotations

import asyncio
import json
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis import Redis
from support.endings import close_of
from support.engines import ON_UWSGI
from support.group_talk import (
    TIMEOUT,
    ask,
    instance,
    listen,
    publish,
    published,
    talk,
    workers_of,
)
from support.readers import Reader, publish_all
from support.redis_server import RedisServer, redis_server
from support.servers import Server, poll
from websockets.sync.client import ClientConnection, connect

from flask_wsviews import BrokerUnavailable, Publisher

APP = "groups:app"


@pytest.mark.parametrize("engine", ON_UWSGI)
def test_two_instances_with_two_workers_each(engine: str, tmp_path: Path) -> None:
    with (
        redis_server(tmp_path) as redis,
        instance(engine, redis.url, tmp_path / "one") as one,
        instance(engine, redis.url, tmp_path / "two") as two,
        ExitStack() as stack,
    ):
        members = [stack.enter_context(talk(server)) for server in (one, two) for _ in range(8)]
        for ws in members:
            ask(ws, "join", "team")
        for number, server in enumerate((one, two)):
            publish(server, "team", f"from instance {number}")
        for ws in members:
            assert listen(ws, 2) == ["from instance 0", "from instance 1"]
        ask(members[0], "others", "team", "not to me")
        with Publisher(redis.url) as publisher:
            assert publisher.broadcast("team", b"from a script") is None
        assert listen(members[0]) == [b"from a script"]
        for ws in members[1:]:
            assert listen(ws, 2) == ["not to me", b"from a script"]


@pytest.mark.parametrize("engine", ON_UWSGI)
def test_connections_of_all_workers_are_disconnected(engine: str, tmp_path: Path) -> None:
    with (
        redis_server(tmp_path) as redis,
        instance(engine, redis.url, tmp_path / "log") as server,
        Publisher(redis.url) as publisher,
        ExitStack() as stack,
    ):

        def spread() -> dict[object, list[ClientConnection]]:
            """Connections by worker; two in each at least."""
            found: dict[object, list[ClientConnection]] = {}
            while len(found) < 2 or min(map(len, found.values())) < 2:
                ws = stack.enter_context(talk(server))
                found.setdefault(ask(ws, "pid"), []).append(ws)
            return found

        by_worker = spread()
        everybody = [ws for members in by_worker.values() for ws in members]
        [here, there] = by_worker.values()
        publisher.disconnect(connection=str(ask(here[0], "id")), code=4001)
        assert close_of(here[0]) == (4001, "")
        # From a hook in another worker.
        ask(there[0], "disconnect", {"connection": ask(here[1], "id"), "reason": "bye"})
        assert close_of(here[1]) == (1008, "bye")
        left = [ws for ws in everybody if ws not in here[:2]]
        for ws in left:
            ask(ws, "join", "team")
        publisher.broadcast("team", "goodbye")
        publisher.disconnect(group="team", code=4002, reason="grüße")
        for ws in left:
            assert listen(ws) == ["goodbye"]
            assert close_of(ws) == (4002, "grüße")
        poll(lambda: redis.command("PUBSUB", "CHANNELS") == b"*0\r\n")


@pytest.mark.parametrize("engine", ["gevent", "coroutines"])
def test_connections_can_be_disconnected_again_after_redis_was_away(
    engine: str, tmp_path: Path
) -> None:
    with (
        redis_server(tmp_path) as redis,
        Publisher(redis.url) as publisher,
        ExitStack() as stack,
    ):
        redis.kill()
        server = stack.enter_context(instance(engine, redis.url, tmp_path / "log", workers=1))
        ws = stack.enter_context(talk(server))
        name = str(ask(ws, "id"))
        assert ask(ws, "disconnect", {"connection": name})["error"] == "BrokerUnavailable"
        redis.start()

        def is_heard() -> bool:
            answer = redis.command("PUBSUB", "NUMSUB", "wsviews:{{connections}}:channel")
            return answer.endswith(b":1\r\n")

        poll(is_heard, 20)
        publisher.disconnect(connection=name)
        assert close_of(ws) == (1008, "")


def test_one_subscription_per_worker_and_group(tmp_path: Path) -> None:
    with (
        redis_server(tmp_path) as redis,
        instance("gevent", redis.url, tmp_path / "log", workers=1) as server,
        ExitStack() as stack,
    ):
        members = [stack.enter_context(talk(server)) for _ in range(20)]
        for ws in members:
            ask(ws, "join", "team")
        answer = redis.command("PUBSUB", "NUMSUB", "wsviews:{team}:channel")
        assert answer.endswith(b":1\r\n"), answer
        stack.close()
        poll(lambda: redis.command("PUBSUB", "CHANNELS") == b"*0\r\n")


@pytest.mark.parametrize("engine", ON_UWSGI)
def test_redis_is_killed_and_started_again(engine: str, tmp_path: Path) -> None:
    with (
        redis_server(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as redis,
        instance(engine, redis.url, tmp_path / "log") as server,
        ExitStack() as stack,
    ):
        members = [stack.enter_context(talk(server)) for _ in range(4)]
        for ws in members:
            ask(ws, "join", "kept:team")
            ask(ws, "join", "plain")
        publish(server, "kept:team", "before")
        for ws in members:
            assert listen(ws) == ["before"]
        redis.kill()
        with pytest.raises(urllib.error.HTTPError) as caught:
            publish(server, "plain", "nobody hears")
        assert caught.value.code == 503
        assert b"nothing was sent" in caught.value.read()
        caught.value.close()
        redis.start()
        with Publisher(redis.url) as publisher:
            # Perhaps before the workers are listening again.
            publisher.broadcast("kept:team", "at once")
        published(server, "kept:team", "after")
        for ws in members:
            assert listen(ws, 2) == ["at once", "after"]
            assert sorted(ask(ws, "groups")) == ["kept:team", "plain"]
        for number in (1, 2):
            assert server.log.count("fails: ") <= 2 * number
    assert "Traceback" not in server.log


def test_redis_is_paused(tmp_path: Path) -> None:
    with (
        redis_server(tmp_path) as redis,
        instance("gevent", redis.url, tmp_path / "log", workers=1) as server,
        talk(server) as ws,
    ):
        ask(ws, "join", "kept:team")
        redis.pause()
        for number in range(3):
            with pytest.raises(urllib.error.HTTPError) as caught:
                publish(server, "kept:team", f"late {number}")
            assert caught.value.code == 503
            caught.value.close()
        # The connection goes on as ever.
        assert ask(ws, "groups") == ["kept:team"]
        answer = ask(ws, "join", "another")
        assert answer["error"] == "BrokerUnavailable"
        redis.resume()
        published(server, "kept:team", "back")
        # None of the messages that were refused has come through.
        assert listen(ws) == ["back"]
        assert server.log.count("fails: ") == 1
    assert server.log.count("works again") == 1


@pytest.mark.parametrize("engine", ["gevent", "threads"])
def test_many_handlers_at_once(engine: str, tmp_path: Path) -> None:
    """More of them than a pool of redis-py has connections."""
    count = 130
    with (
        redis_server(tmp_path) as redis,
        instance(
            engine, redis.url, tmp_path / "log", workers=1, SET_BROKER_TIMEOUT="15.0"
        ) as server,
        ExitStack() as stack,
    ):
        members = [stack.enter_context(talk(server)) for _ in range(count)]
        ask(members[0], "join", "plain")
        redis.pause()
        for number, ws in enumerate(members):
            ws.send(json.dumps(["broadcast", "plain", str(number)]))
        redis.resume()
        for ws in members[1:]:
            answer = json.loads(ws.recv(timeout=TIMEOUT))
            assert "error" not in answer, answer
        heard = [members[0].recv(timeout=TIMEOUT) for _ in range(count + 1)]
        numbers = [str(text) for text in heard if not str(text).startswith("{")]
        assert sorted(map(int, numbers)) == list(range(count))
    assert "fails" not in server.log


def flood(redis: RedisServer, group: str, count: int) -> None:
    """Publish so many messages faster than any worker hands them out."""
    with Redis.from_url(redis.url) as client, client.pubsub() as listener:
        listener.psubscribe("*")
        with Publisher(redis.url) as publisher:
            publisher.broadcast(group, "x")
        said = next(heard for heard in listener.listen() if heard["type"] == "pmessage")
        with client.pipeline(transaction=False) as pipeline:
            for _ in range(count):
                pipeline.publish(said["channel"], said["data"])
            pipeline.execute()


def test_a_flood_leaves_others_their_turn(tmp_path: Path) -> None:
    # With gevent: elsewhere what listens is a thread, which can't keep others waiting.
    count = 50_000
    # However slow the member is, each message counts as delivered or as dropped.
    patient = {"SET_SLOW_CLIENTS": '"drop-newest"', "SET_PING_INTERVAL": "600.0"}
    with (
        redis_server(tmp_path) as redis,
        instance("gevent", redis.url, tmp_path / "log", workers=1, **patient) as server,
        connect(server.ws("/fanout/flood"), max_queue=None, open_timeout=TIMEOUT) as member,
    ):
        assert member.recv(TIMEOUT) == "joined"
        with ThreadPoolExecutor(1) as pool:
            flooding = pool.submit(flood, redis, "flood", count)
            seen: list[int] = []

            def is_over() -> bool:
                with urllib.request.urlopen(server.http("/counters"), timeout=60) as response:
                    counters = json.load(response)
                seen.append(counters["delivered"] + counters["dropped"])
                return seen[-1] > count

            poll(is_over, 60)
            flooding.result()
    # One more than the flood, which made the message.
    assert seen[-1] == count + 1
    # Somebody was answered meanwhile.
    assert any(1 < number <= count for number in seen), seen


def test_redis_loses_everything(tmp_path: Path) -> None:
    with (
        redis_server(tmp_path) as redis,
        instance("coroutines", redis.url, tmp_path / "log", workers=1) as server,
    ):
        with talk(server) as ws:
            position = ask(ws, "join", "kept:team")["position"]
            published(server, "kept:team", "one")
            listen(ws)
            redis.kill()
            redis.start()
            published(server, "kept:team", "two")
            assert listen(ws) == ["two"]
        with talk(server) as ws:
            ws.send(json.dumps(["join", "kept:team", position]))
            assert listen(ws) == ["two"]
            assert json.loads(ws.recv(timeout=TIMEOUT))["result"]["lost"] is True
    assert "are lost" in server.log


@pytest.mark.parametrize("engine", ["gevent", "threads", "coroutines"])
def test_no_group_goes_deaf_when_ids_go_back(engine: str, tmp_path: Path) -> None:
    """Redis loses its data, and its clock is behind what it was."""
    with (
        redis_server(tmp_path) as redis,
        instance(engine, redis.url, tmp_path / "log") as server,
        ExitStack() as stack,
        Redis.from_url(redis.url) as client,
    ):
        stream = "wsviews:{kept:team}:stream"
        fields = {"before": "", "epoch": "123456789012"}
        client.xadd(stream, fields, id="99999999999999-0")  # type: ignore[arg-type]
        members = [stack.enter_context(talk(server)) for _ in range(6)]
        for ws in members:
            ask(ws, "join", "kept:team")
        old = publish(server, "kept:team", "one")
        client.flushall()
        told = publish(server, "kept:team", "two")
        for ws in members:
            assert listen(ws, 2) == ["one", "two"]
        client.delete(stream)
        publish(server, "kept:team", "three")
        redis.kill()
        redis.start()
        newcomer = stack.enter_context(talk(server))
        poll(lambda: "error" not in ask(newcomer, "join", "kept:team"), 20)
        published(server, "kept:team", "four")
        for ws in members:
            assert listen(ws, 2) == ["three", "four"]
        assert listen(newcomer) == ["four"]
        for since in (old, told, told.partition("-")[2], "0-0"):
            with talk(server) as ws:
                ws.send(json.dumps(["join", "kept:team", since]))
                assert listen(ws) == ["four"]
                assert json.loads(ws.recv(timeout=TIMEOUT))["result"]["lost"] is True
    assert "Traceback" not in server.log


def test_redis_is_out_of_memory(tmp_path: Path) -> None:
    with (
        redis_server(tmp_path) as redis,
        instance("gevent", redis.url, tmp_path / "log", workers=1) as server,
        talk(server) as ws,
    ):
        ask(ws, "join", "kept:team")
        ask(ws, "join", "plain")
        redis.command("CONFIG", "SET", "maxmemory", "1")
        for _ in range(2):
            with pytest.raises(urllib.error.HTTPError) as caught:
                publish(server, "kept:team", "refused")
            assert b"OOM" in caught.value.read()
            caught.value.close()
        publish(server, "plain", "needs no memory")
        redis.command("CONFIG", "SET", "maxmemory", "0")
        published(server, "kept:team", "back")
        assert listen(ws, 2) == ["needs no memory", "back"]
        assert server.log.count("fails: ") == 1


def test_the_password_is_wrong(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--requirepass", "right") as redis:
        wrong = redis.url.replace("//", "//:wrong@")
        with Publisher(wrong) as publisher:
            for _ in range(2):
                with pytest.raises(BrokerUnavailable) as caught:
                    publisher.broadcast("team", "refused")
        assert "password" in str(caught.value)
        assert "wrong@" not in str(caught.value)
        with Publisher(redis.url.replace("//", "//:right@")) as publisher:
            assert publisher.broadcast("team", "goes out", history=10)


@pytest.mark.parametrize("engines", [("gevent", "coroutines"), ("threads", "asyncio")])
def test_everybody_gets_everything_once_and_in_order(
    engines: tuple[str, str], tmp_path: Path
) -> None:
    # Threads are one for each member.
    count, members = (10_000, 200) if "gevent" in engines else (1000, 40)
    # The readers answer no Pings, and a busy machine may take a minute.
    patient = {"SET_PING_INTERVAL": "600.0"}

    async def run(one: Server, two: Server, redis: RedisServer) -> list[Reader]:
        readers = [Reader(server, count) for server in (one, two) for _ in range(members // 2)]
        tasks = [asyncio.create_task(reader.run()) for reader in readers]
        await asyncio.wait_for(asyncio.gather(*(r.joined.wait() for r in readers)), 60)
        await publish_all(redis, one, count)
        await asyncio.wait_for(asyncio.gather(*tasks), 120)
        return readers

    with (
        redis_server(tmp_path, "--appendonly", "yes", "--appendfsync", "everysec") as redis,
        instance(engines[0], redis.url, tmp_path / "one", **patient) as one,
        instance(engines[1], redis.url, tmp_path / "two", **patient) as two,
    ):
        readers = asyncio.run(run(one, two, redis))
    expected = list(range(count))
    assert [reader.difference(expected) for reader in readers] == [""] * members
    assert not any(reader.lost for reader in readers)
    # Those of the workers that were replaced have come back, and nobody else had to.
    again = [reader for reader in readers if reader.connections > 1]
    assert again == [reader for reader in readers if reader.server is one]


@pytest.mark.parametrize("engine", ["gevent", "threads", "coroutines"])
def test_a_new_worker_has_nothing_of_the_histories_in_its_predecessors_memory(
    engine: str, tmp_path: Path
) -> None:
    with instance(engine, "memory://", tmp_path / "log", workers=1) as server:
        [worker] = workers_of(server)
        with talk(server) as ws:
            position = ask(ws, "join", "kept:x")["position"]
            publish(server, "kept:x", "gone with the worker")
            server.kill_worker(worker)
        poll(lambda: workers_of(server) not in ([worker], []))
        server.wait_ready()
        with talk(server) as ws:
            assert ask(ws, "join", "kept:x", position)["lost"] is True
