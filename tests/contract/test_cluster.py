"""Groups on a Redis Cluster, by sharded pub/sub: where there is a Redis of 7.0 or later."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.brokers import KEPT, Listening, publish
from support.redis_server import RedisServer
from support.servers import free_port, poll

from flask_wsviews.groups import Publisher


def server_with_shards() -> str | None:
    """A redis-server that knows SPUBLISH: that of REDIS_SERVER, or what is installed."""
    path = os.environ.get("REDIS_SERVER") or shutil.which("redis-server")
    if path is None:
        return None
    told = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10).stdout
    version = re.search(r"v=(\d+)", told)
    return path if version and int(version[1]) >= 7 else None


pytestmark = pytest.mark.skipif(
    server_with_shards() is None, reason="needs a redis-server from 7.0 on, on PATH"
)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory) -> Iterator[list[RedisServer]]:
    made: list[RedisServer] = []
    buses: list[str] = []
    try:
        for first, last in ((0, 8191), (8192, 16383)):
            folder: Path = tmp_path_factory.mktemp("node")
            # By default it is 10,000 above the other, which may be too high.
            buses.append(str(free_port()))
            options = ("--cluster-enabled", "yes", "--cluster-port", buses[-1])
            node = RedisServer(folder, *options, path=server_with_shards())
            made.append(node)
            node.start()
            node.command("CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
        one, two = made
        one.command("CLUSTER", "MEET", "127.0.0.1", str(two.port), buses[1])
        for node in made:
            poll(lambda node=node: b"cluster_state:ok" in node.command("CLUSTER", "INFO"), 20)
            poll(lambda node=node: b"cluster_known_nodes:2" in node.command("CLUSTER", "INFO"), 20)
        yield made
    finally:
        for node in made:
            node.stop()


def test_groups_are_spread_over_the_servers(nodes):
    url = f"redis+cluster://127.0.0.1:{nodes[0].port}"
    groups = [f"group:{number}" for number in range(20)]
    listening = Listening(url)
    for group in groups:
        listening.broker.subscribe(group, KEPT)
    for node in nodes:
        channels = node.command("PUBSUB", "SHARDCHANNELS")
        assert 0 < channels.count(b":channel") < 20
    start = {group: listening.broker.replay(group, None, KEPT).position for group in groups}
    ids = {group: publish(listening, group, group, KEPT) for group in groups}
    poll(lambda: len(listening.heard) == 20)
    assert {one.group: one.id for one in listening.heard} == ids
    for group in groups:
        replay = listening.broker.replay(group, start[group], KEPT)
        assert [one.body for one in replay.deliveries] == [group]
        listening.broker.unsubscribe(group)
    with Publisher(url) as publisher:
        publisher.broadcast("group:0", "nobody listens")
    for node in nodes:
        poll(lambda node=node: node.command("PUBSUB", "SHARDCHANNELS") == b"*0\r\n")
    listening.broker.close()


def test_what_joining_leaves_behind_and_ids_that_go_back(nodes):
    listening = Listening(f"redis+cluster://127.0.0.1:{nodes[0].port}")
    groups = [f"gone:{number}" for number in range(8)]
    start = {}
    for group in groups:
        listening.broker.subscribe(group, KEPT)
        start[group] = listening.broker.replay(group, None, KEPT).position
        listening.broker.unsubscribe(group)
    for node in nodes:
        poll(lambda node=node: node.command("KEYS", "*{gone:*}:set") == b"*0\r\n")
    for group in groups:
        assert listening.broker.replay(group, start[group], KEPT).complete
        publish(listening, group, group, KEPT)
        assert listening.broker.replay(group, start[group], KEPT).complete
    for node in nodes:
        node.command("FLUSHALL")
    for group in groups:
        assert not listening.broker.replay(group, start[group], KEPT).complete
    listening.broker.close()


def test_a_server_that_comes_back_is_listened_to_again(nodes):
    listening = Listening(f"redis+cluster://127.0.0.1:{nodes[0].port}")
    groups = [f"again:{number}" for number in range(8)]
    for group in groups:
        listening.broker.subscribe(group, KEPT)
        listening.broker.replay(group, None, KEPT)
    for node in nodes:
        # All its connections, to those that listen as well.
        node.command("CLIENT", "KILL", "TYPE", "pubsub")
        node.command("CLIENT", "KILL", "TYPE", "normal")
    with Publisher(f"redis+cluster://127.0.0.1:{nodes[1].port}") as publisher:
        for group in groups:
            publisher.broadcast(group, group)
    poll(lambda: {one.group for one in listening.heard} == set(groups), 20)
    assert len(listening.heard) == 8
    listening.broker.close()
