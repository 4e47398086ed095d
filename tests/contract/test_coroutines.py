"""Handlers that are coroutines, on the asyncio engine."""

from __future__ import annotations

import json
import re
import sys
import time
from contextlib import ExitStack

import pytest
from support import servers, uwsgi_asyncio
from support.engines import ASYNCIO, UVLOOP
from support.journal import journal, without_teardown
from support.raw import RawClient
from support.servers import Server, poll
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.frames import Opcode
from websockets.sync.client import connect

COMMANDS = {
    "uwsgi": servers.uwsgi("coroutines:app"),
    "gunicorn": servers.gunicorn("coroutines:app", "-k", "gthread", "--threads", "20"),
    "werkzeug": servers.flask_run("coroutines:app"),
}
if uwsgi_asyncio.why_not() is None:
    COMMANDS["uwsgi-own-asyncio"] = servers.uwsgi(
        "coroutines:app", *uwsgi_asyncio.OPTIONS, binary=uwsgi_asyncio.binary
    )


@pytest.fixture(scope="module", params=COMMANDS)
def server(request, tmp_path_factory):
    log = tmp_path_factory.mktemp("coroutines") / "log"
    env = UVLOOP if request.param == "gunicorn" else ASYNCIO
    with servers.running(COMMANDS[request.param], log, env) as running:
        yield running


@pytest.mark.parametrize("path", ["/echo", "/old-echo"])
def test_echo(server: Server, path: str):
    with connect(server.ws(path), max_size=None) as ws:
        for message in ("text", "", "grüße", b"\xff" * 1_000_000):
            ws.send(message)
            assert ws.recv(timeout=10) == message


def test_a_loop_over_the_messages_can_be_gone_on_with(server: Server):
    with connect(server.ws("/loops")) as ws:
        for message in ("a", "next", "b", "c", "next", "next", "last"):
            ws.send(message)
        expected = ["0 a", "0 next", "1 b", "1 c", "1 next", "2 next", "last"]
        assert [ws.recv(timeout=10) for _ in expected] == expected


def test_a_view_that_is_idle_has_no_task_but_keeps_its_context_variables(
    server: Server, request: pytest.FixtureRequest
):
    ends_tasks = sys.version_info >= (3, 11) and "uwsgi" in request.node.name
    with connect(server.ws("/variable")) as ws:
        for message, answer in (("one", "connected"), ("two", "one"), ("three", "two")):
            if ends_tasks:
                poll(lambda: server.get("/tasks") == "0")
            ws.send(message)
            assert ws.recv(timeout=10) == answer


def test_a_hook_is_like_any_task(server: Server):
    with connect(server.ws("/task")) as ws:
        # The second time, what runs the hooks is there already.
        for _ in range(2):
            for message, answer in (
                (["gather"], "[1, 2]"),
                (["wait for"], "timed out"),
                *([(["timeout"], "nothing came")] if sys.version_info >= (3, 11) else []),
                (["next", "one"], "then one"),
                (["next in another task", "two"], "then two"),
                (["same"], "True"),
            ):
                for part in message:
                    ws.send(part)
                assert ws.recv(timeout=10) == answer
        ws.send("cancel")
        with pytest.raises(ConnectionClosedError) as caught:
            ws.recv(timeout=10)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1011


def test_the_client_object(server: Server):
    with connect(server.ws("/asks")) as ws:
        ws.send("names")
        assert json.loads(ws.recv(timeout=10)) == ["AsyncioWebSocketClient", "True"]
        for message in ("one", "two"):
            ws.send(message)
        expected = ["a_send", "not awaited", "send_nb", b"binary", "one", "two"]
        assert [ws.recv(timeout=10) for _ in expected] == expected
        ws.send("nb")
        assert json.loads(ws.recv(timeout=10)) == ""
        ws.send("timeout")
        assert ws.recv(timeout=10) == "no message within 0.05 s"


def test_after_a_close(server: Server, key: str):
    with connect(server.ws(f"/asks?key={key}")) as ws:
        ws.send("close")
        with pytest.raises(ConnectionClosedError) as caught:
            ws.recv(timeout=10)
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4001, "as you wish")
    assert without_teardown(journal(server, key, until="after the end")) == [
        ["send_nb", "ConnectionClosed"],
        ["after the end", 4001, None, None],
    ]


def test_awaiting_send_waits_for_a_slow_client(server: Server, key: str):
    with RawClient(server).open(f"/asks?key={key}") as client:
        client.send(Opcode.TEXT, "big")
        # What the kernel's buffers hold is sent without waiting, and no more than that.
        journal(server, key, until="waited")
        while client.recv_message() != b"the rest":
            pass
        entries = journal(server, key, until="sent it all")
    assert without_teardown(entries)[:2] == [["waited"], ["sent it all"]]


@pytest.mark.parametrize("method", ["send_nb", "send"])
def test_sending_without_waiting_gives_a_slow_client_up(server: Server, key: str, method: str):
    with RawClient(server).open(f"/asks?key={key}") as client:
        client.send(Opcode.TEXT, method)
        entries = journal(server, key, until="after the end")
    assert without_teardown(entries) == [
        ["flood", "ConnectionClosed"],
        ["after the end", 1006, None, None],
    ]


def test_tasks_of_one_handler_send_whole_messages(server: Server):
    with connect(server.ws("/asks")) as ws:
        ws.send("tasks")
        got = [ws.recv(timeout=10) for _ in range(60)]
        assert ws.recv(timeout=10) == "done"
    for name in "abc":
        mine = [message for message in got if message.startswith(name)]
        assert [re.match(r"\w(\d+) \.{20000}$", message).group(1) for message in mine] == [
            str(number) for number in range(20)
        ]


def test_typed_handlers_are_coroutines_or_plain(server: Server):
    with connect(server.ws("/typed")) as ws:
        for kind, answer in [("say", "hi True"), ("plain", r"hi wsviews-hook-\d+")]:
            ws.send(json.dumps({"type": kind, "text": "hi", "ref": 1}))
            assert json.loads(ws.recv(timeout=10)) == {"type": "more", "text": "hi"}
            reply = json.loads(ws.recv(timeout=10))
            assert (reply["type"], reply["ref"]) == (kind, 1)
            assert re.fullmatch(answer, reply["text"])
            ws.send("{}")
            assert json.loads(ws.recv(timeout=10))["code"] == "unknown_type"


def test_a_coroutine_gets_loaded_messages(server: Server):
    with connect(server.ws("/typed-function")) as ws:
        ws.send("{}")
        assert json.loads(ws.recv(timeout=10))["code"] == "invalid_message"
        ws.send('{"text": "loaded"}')
        assert json.loads(ws.recv(timeout=10)) == {"type": "more", "text": "loaded"}


def test_hooks_are_coroutines_in_a_request_context(server: Server, key: str):
    with connect(server.ws(f"/all/bob?key={key}")) as ws:
        assert ws.recv(timeout=10) == "hello bob"
        assert ws.response.headers["Set-Cookie"].startswith("session=")
        for message in ("slow", "after it", "survive", "and on"):
            ws.send(message)
        assert ws.recv(timeout=10) == "after it in /all/bob"
        assert ws.recv(timeout=10) == "and on in /all/bob"
    assert without_teardown(journal(server, key, until="close")) == [
        ["connect", "bob"],
        # One at a time, each with a g of its own.
        ["slow", True, False],
        ["on_error", "ArithmeticError"],
        ["close", 1000, "", "All"],
    ]


def test_an_async_handshake_can_refuse(server: Server):
    with pytest.raises(InvalidStatus) as caught, connect(server.ws("/all/refused")):
        pass
    assert caught.value.response.status_code == 401
    assert b"who are you?" in caught.value.response.body


@pytest.mark.parametrize(
    ("command", "code", "noted"),
    [
        ("value", 1011, [["on_error", "ValueError"]]),
        ("lookup", 1011, [["on_error", "LookupError"], ["app error handler", "lookup"]]),
        ("close", 4002, []),
    ],
)
def test_what_hooks_raise_ends_their_connection(server: Server, key, command, code, noted):
    with connect(server.ws("/echo")) as other, connect(server.ws(f"/all/bob?key={key}")) as ws:
        ws.recv()
        ws.send(command)
        with pytest.raises(ConnectionClosedError) as caught:
            ws.recv(timeout=10)
        assert caught.value.rcvd.code == code
        other.send("unharmed")
        assert other.recv(timeout=10) == "unharmed"
    entries = journal(server, key, until="close")
    assert without_teardown(entries) == [["connect", "bob"], *noted, ["close", code, "", "All"]]


def test_the_old_chat_goes_on_when_a_client_vanishes(server: Server):
    with connect(server.ws("/old-chat")) as one, connect(server.ws("/old-chat")) as two:
        one.send("first")
        assert two.recv(timeout=10) == "first"
        vanishing = RawClient(server).open("/old-chat")
        assert vanishing.recv_message() == b"first"
        vanishing.reset()
        for number in range(20):
            one.send(str(number))
            assert two.recv(timeout=10) == str(number)
    assert "Traceback" not in server.log[server.log.rfind("/old-chat") :]


def test_plain_functions_share_a_bounded_number_of_threads(tmp_path):
    env = {**ASYNCIO, "SETTINGS": '{"WSVIEWS_THREADS": 2}'}
    with (
        servers.running(servers.uwsgi("contract:app"), tmp_path / "log", env) as running,
        ExitStack() as stack,
    ):
        echoes = [stack.enter_context(connect(running.ws("/echo"))) for _ in range(2)]
        for ws in echoes:
            ws.send("served")
            assert ws.recv(timeout=10) == "served"
        with RawClient(running).open("/echo") as third:
            close = third.recv_close()
        assert (close.code, close.reason) == (1013, "no thread is free")
        # Hooks have threads of their own, and hold none between messages.
        views = [stack.enter_context(connect(running.ws("/views/all/bob"))) for _ in range(10)]
        for ws in views:
            assert ws.recv(timeout=10) == "hello bob"
            ws.send("hi")
        assert [ws.recv(timeout=10) for ws in views] == ["hi"] * 10
        echoes[0].close()

        def has_room() -> bool:
            with connect(running.ws("/echo")) as ws:
                try:
                    ws.send("room?")
                    return ws.recv(timeout=10) == "room?"
                except ConnectionClosedError:
                    return False

        poll(has_room)


def test_a_slow_coroutine_delays_no_other_connection(server: Server):
    with connect(server.ws("/all/slow")) as slow, connect(server.ws("/echo")) as other:
        slow.recv()
        slow.send("slow")
        began = time.monotonic()
        other.send("quick")
        assert other.recv(timeout=10) == "quick"
        slow.send("done")
        assert slow.recv(timeout=10) == "done in /all/slow"
        assert time.monotonic() - began >= 0.25
