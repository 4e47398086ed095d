"""Tasks of Celery broadcast to the members of a uWSGI worker, from each of its pools."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import servers
from support.engines import ASYNCIO, BLOCKING, GEVENT
from support.raw import RawClient
from support.redis_server import RedisServer, redis_server
from support.servers import BIN, Server
from websockets.frames import Opcode

#: Celery's pools, and the engine of the application that its tasks import.
POOLS = {"prefork": BLOCKING, "threads": ASYNCIO, "solo": GEVENT, "gevent": GEVENT}


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


def environment(redis: RedisServer) -> dict[str, str]:
    # Another database for the tasks, of the same Redis.
    tasks = f"{redis.url.rpartition('/')[0]}/1"
    return {"SET_BROKER_URL": json.dumps(redis.url), "TASKS_URL": tasks}


@pytest.fixture(scope="module")
def site(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    command = servers.uwsgi("tasks:app", "--threads", "4")
    log = tmp_path_factory.mktemp("site") / "log"
    with servers.running(command, log, {**BLOCKING, **environment(redis)}) as server:
        yield server


def later(site: Server, group: str, text: str) -> None:
    request = urllib.request.Request(site.http(f"/later/{group}/{text}"), method="POST")
    with urllib.request.urlopen(request, timeout=20) as response:
        assert response.read() == b"soon"


def join(member: RawClient, group: str) -> None:
    member.send(Opcode.TEXT, json.dumps(["join", group]))
    assert b"result" in member.recv_message()


@pytest.mark.parametrize("pool", POOLS)
def test_a_task_broadcasts(site: Server, redis: RedisServer, tmp_path: Path, pool: str) -> None:
    """The worker has broadcast already when a pool's processes are forked."""
    worker = [str(BIN / "celery"), "--app", "tasks:celery", "worker", "--pool", pool]
    quick = ["--concurrency", "2", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    env = {**POOLS[pool], **environment(redis)}
    with RawClient(site, 30).open("/commands") as member:
        join(member, "workers")
        join(member, pool)
        texts = ["first", "second", "third"]
        with servers.running(
            lambda port: [*worker, *quick], tmp_path / "log", env, ready=None
        ) as celery:
            assert member.recv_message() == b"a worker starts"
            for text in texts:
                later(site, pool, text)
            # Two tasks at a time.
            assert sorted(member.recv_message().decode() for _ in texts) == texts
    assert "Traceback" not in celery.log
