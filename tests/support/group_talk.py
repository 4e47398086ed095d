"""Clients of the groups application, and servers with workers that run it."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from websockets.sync.client import ClientConnection, connect

from support import servers
from support.engines import ON_UWSGI
from support.servers import Server, poll

TIMEOUT = 15.0


def publish(server: Server, group: str, message: str | bytes, **arguments: str) -> str:
    query = "&".join(f"{name}={value}" for name, value in arguments.items())
    data = message.encode() if isinstance(message, str) else message
    url = server.http(f"/broadcast/{group}?{query}")
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=TIMEOUT) as response:
        return response.read().decode()


def talk(server: Server) -> ClientConnection:
    return connect(server.ws("/commands"), open_timeout=TIMEOUT)


def ask(ws: ClientConnection, *command: object) -> object:
    """Send a command and return its result, which must be the next message."""
    ws.send(json.dumps(command))
    answer = json.loads(ws.recv(timeout=TIMEOUT))
    return answer.get("result", answer)


def listen(ws: ClientConnection, count: int = 1) -> list:
    return [ws.recv(timeout=TIMEOUT) for _ in range(count)]


def local_count(server: Server, group: str) -> int:
    return int(server.get(f"/count/{group}"))


def enter(ws: ClientConnection, group: str, meta: dict) -> str:
    """Join a group with presence, and return the connection's id from the event."""
    name = str(ask(ws, "id"))
    ws.send(json.dumps(["join", group, None, meta]))
    answers = [json.loads(text) for text in listen(ws, 2)]
    assert ["joined", name, meta] in answers
    assert {"result": {"position": None, "lost": False, "sent": 0}} in answers
    return name


@contextlib.contextmanager
def instance(
    engine: str, url: str, log: Path, *, workers: int = 2, **more: str
) -> Iterator[Server]:
    options, env = ON_UWSGI[engine]
    command = servers.uwsgi("groups:app", "--processes", str(workers), *options)
    settings = {"SET_BROKER_URL": json.dumps(url), "SET_BROKER_TIMEOUT": "1.0"}
    with servers.running(command, log, {**env, **settings, **more}) as server:
        yield server


def workers_of(server: Server) -> list[int]:
    """Return the pids of a uWSGI without a router."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    return [int(pid) for pid in children.split()]


def published(server: Server, group: str, message: str) -> str:
    """Publish, and try again until the broker accepts it."""

    def attempt() -> str:
        try:
            return publish(server, group, message)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != 503:
                raise
            return ""

    return poll(attempt, 20)
