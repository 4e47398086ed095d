"""Who is in a group, over several workers and instances, some of which are killed."""

from __future__ import annotations

import json
import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.engines import ON_UWSGI
from support.group_talk import TIMEOUT, ask, enter, instance, talk
from support.redis_server import RedisServer, redis_server
from support.servers import Server, poll
from websockets.sync.client import ClientConnection

GROUP = "present:team"


class Site:
    """Two instances of two workers each, and their clients by worker."""

    def __init__(self, stack: ExitStack, engine: str, redis: RedisServer, folder: Path, ttl: float):
        self._stack = stack
        self.instances = [
            stack.enter_context(
                instance(engine, redis.url, folder / name, SET_PRESENCE_TTL=str(ttl))
            )
            for name in ("one", "two")
        ]

    def members(self) -> list[str]:
        """The ids of the members, as a page of another worker than theirs may tell."""
        found = json.loads(self.instances[1].get(f"/members/{GROUP}"))
        if found["count"] != len(found["members"]):
            # Somebody has come between the two questions, or else they never agree.
            return ["the members and their count differ"]
        return sorted(member["id"] for member in found["members"])

    def talk(self, server: Server) -> ClientConnection:
        return self._stack.enter_context(talk(server))


def hear(ws: ClientConnection, event: str, name: str) -> dict:
    """Wait until the client hears what happened to a member; returns what is said of that."""
    while True:
        heard = json.loads(ws.recv(timeout=TIMEOUT))
        if heard[:2] == [event, name]:
            return heard[2]


@pytest.mark.parametrize("engine", ["gevent", "coroutines"])
def test_members_of_a_killed_worker_are_gone(engine: str, tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis, ExitStack() as stack:
        # Long enough for a busy machine not to lose anybody else.
        site = Site(stack, engine, redis, tmp_path, ttl=4)
        one, two = site.instances
        watcher = site.talk(two)
        staying = enter(watcher, GROUP, {"stays": True})
        dying: dict[int, list[str]] = {}
        clients = [site.talk(one) for _ in range(6)]
        for number, ws in enumerate(clients):
            name = enter(ws, GROUP, {"number": number})
            assert hear(watcher, "joined", name) == {"number": number}
            dying.setdefault(int(ask_pid(ws)), []).append(name)
        everybody = sorted([staying, *(name for names in dying.values() for name in names)])
        assert site.members() == everybody
        pid, names = next(iter(dying.items()))
        one.kill_worker(pid)
        heard = {hear_left(watcher) for _ in names}
        assert heard == set(names)
        assert site.members() == sorted(set(everybody) - set(names))
        # The others are there for longer than a lease lasts.
        position = len(site.members())
        started = json.loads(two.get(f"/members/{GROUP}"))["members"]
        renewed(redis, staying)
        assert len(site.members()) == position
        assert json.loads(two.get(f"/members/{GROUP}"))["members"] == started


def ask_pid(ws: ClientConnection) -> str:
    """The pid of the worker that serves a client; what it hears meanwhile is dropped."""
    ws.send(json.dumps(["pid"]))
    while True:
        heard = json.loads(ws.recv(timeout=TIMEOUT))
        if isinstance(heard, dict):
            return str(heard["result"])


def hear_left(ws: ClientConnection) -> str:
    while True:
        event, name, _ = json.loads(ws.recv(timeout=TIMEOUT))
        if event == "left":
            return str(name)


def renewed(redis: RedisServer, name: str, times: int = 4) -> None:
    """Wait until a member's lease has been renewed so many times."""
    seen = set()

    def look() -> bool:
        seen.add(redis.command("ZSCORE", f"wsviews:{{{GROUP}}}:leases", name))
        return len(seen) > times

    poll(look)


def test_members_come_back_to_a_redis_that_lost_everything(tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis, ExitStack() as stack:
        site = Site(stack, "gevent", redis, tmp_path, ttl=1.5)
        clients = [site.talk(server) for server in site.instances for _ in range(2)]
        names = sorted(enter_quietly(ws) for ws in clients)
        assert site.members() == names
        redis.command("FLUSHALL")
        poll(lambda: site.members() == names)
        redis.kill()
        redis.start()
        poll(lambda: back(site) == names)


def back(site: Site) -> list[str]:
    try:
        return site.members()
    except OSError:  # 503 while Redis is away
        return []


def enter_quietly(ws: ClientConnection) -> str:
    """Join among others, whose events come in between."""
    name = str(ask(ws, "id"))
    ws.send(json.dumps(["join", GROUP]))
    hear_all = [json.loads(ws.recv(timeout=TIMEOUT))]
    while not {"joined", "result"} <= {kind_of(heard, name) for heard in hear_all}:
        hear_all.append(json.loads(ws.recv(timeout=TIMEOUT)))
    return name


def kind_of(heard: object, name: str) -> str:
    if isinstance(heard, dict):
        return "result"
    return "joined" if isinstance(heard, list) and heard[:2] == ["joined", name] else "other"


@pytest.mark.parametrize("engine", ON_UWSGI)
def test_a_reload_leaves_no_ghosts(engine: str, tmp_path: Path) -> None:
    """Members of a worker that says goodbye are gone with it, long before their leases end."""
    with redis_server(tmp_path) as redis, ExitStack() as stack:
        site = Site(stack, engine, redis, tmp_path, ttl=600)
        one, two = site.instances
        watcher = site.talk(two)
        staying = enter(watcher, GROUP, {})
        leaving = {enter(site.talk(one), GROUP, {}) for _ in range(3)}
        assert len(site.members()) == 4
        one.process.send_signal(signal.SIGHUP)
        assert {hear_left(watcher) for _ in leaving} == leaving
        assert site.members() == [staying]


def test_redis_is_away_while_members_come_and_go(tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis, ExitStack() as stack:
        site = Site(stack, "threads", redis, tmp_path, ttl=1.5)
        one, _ = site.instances
        staying = site.talk(one)
        name = enter(staying, GROUP, {})
        redis.kill()
        refused = site.talk(one)
        assert ask(refused, "join", GROUP)["error"] == "BrokerUnavailable"
        assert ask(staying, "count", GROUP)["error"] == "BrokerUnavailable"
        assert ask(refused, "groups") == []
        redis.start()
        poll(lambda: back(site) == [name])
    assert "Traceback" not in one.log


def test_a_worker_that_was_stopped_for_long_comes_back(tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis, ExitStack() as stack:
        site = Site(stack, "asyncio", redis, tmp_path, ttl=1.5)
        one, two = site.instances
        watcher = site.talk(two)
        enter(watcher, GROUP, {})
        paused = site.talk(one)
        name = enter(paused, GROUP, {})
        pid = int(ask_pid(paused))
        os.kill(pid, signal.SIGSTOP)
        try:
            assert hear(watcher, "left", name) == {}
        finally:
            os.kill(pid, signal.SIGCONT)
        assert hear(watcher, "joined", name) == {}
        poll(lambda: name in site.members())
