"""Pings, and what happens to a peer that doesn't answer them; timers of tenths of seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import servers
from support.engines import ASYNCIO, BLOCKING, GEVENT
from support.journal import journal
from support.raw import RawClient
from support.servers import Server
from websockets.frames import Opcode

SETTINGS = json.dumps(
    {"WSVIEWS_PING_INTERVAL": 0.2, "WSVIEWS_PING_TIMEOUT": 0.4, "WSVIEWS_CLOSE_TIMEOUT": 0.5}
)


ENGINES = {
    "gevent": (GEVENT, ["--gevent", "10"]),
    "blocking": (BLOCKING, []),
    "asyncio": (ASYNCIO, []),
}


@pytest.fixture(scope="module", params=ENGINES)
def server(request, tmp_path_factory):
    engine, options = ENGINES[request.param]
    with servers.running(
        servers.uwsgi("contract:app", *options),
        tmp_path_factory.mktemp("keepalive") / "log",
        {**engine, "SETTINGS": SETTINGS},
    ) as running:
        yield running


def next_ping(client: RawClient) -> bytes:
    while (received := client.recv()).opcode is not Opcode.PING:
        pass
    return bytes(received.data)


@pytest.mark.parametrize("engine", ENGINES)
def test_pings_come_more_often_than_they_time_out(engine: str, tmp_path: Path):
    settings = json.dumps({"WSVIEWS_PING_INTERVAL": 0.2, "WSVIEWS_PING_TIMEOUT": 60})
    extension, options = ENGINES[engine]
    command = servers.uwsgi("contract:app", *options)
    env = {**extension, "SETTINGS": settings}
    with servers.running(command, tmp_path / "log", env) as server:
        # Pongs and messages both are signs of life.
        for sign in (Opcode.PONG, Opcode.TEXT):
            with RawClient(server).open("/views/all/bob") as client:
                for _ in range(4):
                    client.send(sign, next_ping(client))


@pytest.mark.parametrize("busy", [False, True])
def test_pings_go_out_also_while_a_hook_is_busy(server: Server, busy: bool):
    with RawClient(server).open("/views/all/bob") as client:
        client.recv()
        if busy:
            client.send(Opcode.TEXT, "sleep 1.5")
        for _ in range(4):
            client.send(Opcode.PONG, next_ping(client))
        client.send(Opcode.TEXT, "after it")
        expected = [b"slept", b"after it"] if busy else [b"after it"]
        for message in expected:
            while (received := client.recv()).opcode is Opcode.PING:
                client.send(Opcode.PONG, received.data)
            assert bytes(received.data) == message


def test_a_peer_that_does_not_answer_is_closed(server: Server, key: str):
    with RawClient(server).open(f"/views/all/bob?key={key}") as client:
        client.recv()
        next_ping(client)
        assert client.recv_close().code == 1011
        assert client.at_eof()
    assert ["close", 1006, "", False] in journal(server, key, until="close")


def test_a_peer_that_does_not_answer_while_a_hook_is_busy(server: Server, key: str):
    with RawClient(server).open(f"/views/all/bob?key={key}") as client:
        client.recv()
        client.send(Opcode.TEXT, "sleep 2")
        next_ping(client)
        assert client.recv_close().code == 1011
    assert ["close", 1006, "", False] in journal(server, key, until="close")


def test_a_peer_that_never_answers_a_close_frame_is_left(server: Server, key: str):
    with RawClient(server).open(f"/views/all/bob?key={key}") as client:
        client.recv()
        server.get(f"/close/{key}")
        assert client.recv_close().code == 4002
        assert client.at_eof()
    assert ["close", 1006, "", False] in journal(server, key, until="close")


def test_what_is_due_while_a_thread_waits_in_a_read(tmp_path: Path):
    # Beyond a second the keeper sees to it, in place of the connection's own thread.
    names = ("WSVIEWS_PING_INTERVAL", "WSVIEWS_PING_TIMEOUT", "WSVIEWS_CLOSE_TIMEOUT")
    settings = json.dumps(dict.fromkeys(names, 1.2))
    env = {**BLOCKING, "SETTINGS": settings}
    with (
        servers.running(servers.uwsgi("contract:app"), tmp_path / "log", env) as server,
        RawClient(server).open("/views/all/bob?key=answers") as answers,
        RawClient(server).open("/views/all/bob?key=silent") as silent,
        RawClient(server).open("/views/all/bob?key=closed") as closed,
    ):
        for client in (answers, silent, closed):
            client.recv()
        server.get("/close/closed")
        assert closed.recv_close().code == 4002
        assert closed.at_eof()
        for _ in range(2):
            answers.send(Opcode.PONG, next_ping(answers))
        assert silent.recv_close().code == 1011
        assert silent.at_eof()
        for key in ("silent", "closed"):
            assert ["close", 1006, "", False] in journal(server, key, until="close")
        answers.send(Opcode.TEXT, "still there")
        assert answers.recv_message() == b"still there"


def test_a_peer_that_stops_reading_is_given_up(server: Server, key: str):
    with RawClient(server).open(f"/asks?key={key}") as client:
        client.recv()
        client.send(Opcode.TEXT, "big")
        entries = journal(server, key, until="teardown", times=2)
    assert ["sent it all"] not in entries
    assert ["teardown", "ConnectionClosed"] in entries
