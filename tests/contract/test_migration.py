"""What the old package's users have written runs once they have changed the import."""

from __future__ import annotations

import pytest
from support import servers
from support.raw import RawClient
from support.servers import poll
from websockets.exceptions import ConnectionClosedOK
from websockets.frames import Opcode
from websockets.sync.client import connect

COMMANDS = {
    "GeventWebSocket": servers.uwsgi("migrated:app", "--gevent", "100", router=True),
    "WebSocket": servers.uwsgi("migrated:app", "--threads", "10", router=True),
}


@pytest.fixture(scope="module", params=COMMANDS)
def server(request, tmp_path_factory):
    log = tmp_path_factory.mktemp("migrated") / "log"
    with servers.running(COMMANDS[request.param], log, {"ENGINE": request.param}) as running:
        yield running


@pytest.mark.parametrize("path", ["/echo", "/endless"])
def test_echo(server, path):
    with connect(server.ws(path)) as ws:
        for message in ("text", "", b"binary"):
            ws.send(message)
            assert ws.recv(timeout=10) == message
    assert "Traceback" not in server.log


def test_chat_goes_on_when_a_client_vanishes(server):
    with connect(server.ws("/chat")) as one, connect(server.ws("/chat")) as two:
        vanishing = RawClient(server).open("/chat")
        poll(lambda: server.get("/") == "3")
        vanishing.reset()
        for number in range(20):
            one.send(str(number))
            assert two.recv(timeout=10) == str(number)
        poll(lambda: server.get("/") == "2")
    with connect(server.ws("/chat")) as late:
        assert [late.recv(timeout=10) for _ in range(3)] == ["17", "18", "19"]
    poll(lambda: server.get("/") == "0")
    assert "Traceback" not in server.log


def test_polling_for_messages(server):
    with RawClient(server).open("/polled") as client:
        client.send(Opcode.TEXT, "there")
        assert client.recv_message() in (b"there after 1 or more", b"there after 0 or more")
        assert client.recv_close().code == 1000


def test_the_client_object(server):
    with connect(server.ws("/binary?x=1")) as ws:
        assert [ws.recv(timeout=10) for _ in range(4)] == [b"one", b"two", "three", "2 True x=1"]
        with pytest.raises(ConnectionClosedOK):
            ws.recv(timeout=10)


def test_a_request_context_of_its_environ(server):
    with connect(server.ws("/context?name=bob")) as ws:
        assert ws.recv(timeout=10) == "bob"


def test_a_plain_blueprint(server):
    with connect(server.ws("/greet/ann")) as ws:
        assert ws.recv(timeout=10) == "hello ann"


@pytest.mark.parametrize("engine", COMMANDS)
def test_a_client_class_of_ones_own(tmp_path, engine):
    env = {"ENGINE": engine, "SHOUT": "yes"}
    with (
        servers.running(COMMANDS[engine], tmp_path / "log", env) as server,
        connect(server.ws("/echo")) as ws,
    ):
        ws.send("loud")
        assert ws.recv(timeout=10) == "LOUD"
