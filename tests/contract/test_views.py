"""What views and function routes can rely on, on every engine and server."""

from __future__ import annotations

import json
import threading

import pytest
from support.journal import journal, without_teardown
from support.raw import RawClient, close_frame, frame
from support.servers import poll
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK
from websockets.frames import Opcode
from websockets.sync.client import connect


@pytest.mark.parametrize(
    "message", ["text", "", "grüße ☃ 🚀", b"binary", b"", "x" * 70_000, b"\xff" * 1_048_576]
)
def test_a_function_route_answers_with_the_type_it_got(server, message):
    with connect(server.ws("/echo")) as ws:
        ws.send(message)
        assert ws.recv(timeout=10) == message


def test_a_hundred_messages_come_back_in_order(server):
    with connect(server.ws("/echo")) as ws:
        for number in range(100):
            ws.send(str(number))
        assert [ws.recv(timeout=10) for _ in range(100)] == [str(n) for n in range(100)]


def test_hooks_run_in_order_and_close_once(server, key):
    with connect(server.ws(f"/views/all/bob?key={key}")) as ws:
        assert ws.recv() == "hello bob"
        ws.send("one")
        ws.send(b"two")
        assert [ws.recv(), ws.recv()] == ["one", b"two"]
        ws.close(4000, "bye")
    entries = journal(server, key, until="close")
    assert without_teardown(entries) == [
        ["connect", "bob", True],
        ["message", "one", 1],
        ["message", 3, 2],
        ["close", 4000, "bye", False],
    ]


def test_pongs_come_to_on_pong(server):
    with connect(server.ws("/pings")) as ws:
        assert ws.recv(timeout=10) == "/pings hello"
        for text in ("one", "x" * 125):
            ws.pong("nobody asked for it")
            ws.send(text)
            assert ws.recv(timeout=10) == "pinged"
            assert ws.recv(timeout=10) == f"/pings {text}"
        # A payload that is too long is an error of the hook.
        ws.send("x" * 126)
        with pytest.raises(ConnectionClosedError) as caught:
            ws.recv(timeout=10)
        assert caught.value.rcvd.code == 1011


def test_a_close_without_a_code_is_1005(server, key):
    with RawClient(server).open(f"/views/all/bob?key={key}") as client:
        client.recv()
        client.send(Opcode.CLOSE)
        answer = client.recv()
        assert (answer.opcode, bytes(answer.data)) == (Opcode.CLOSE, b"")
    assert ["close", 1005, "", False] in journal(server, key, until="close")


def test_a_view_that_has_nothing_to_do_but_to_take_messages(server):
    with RawClient(server).open("/messages-only") as client:
        client.sock.sendall(frame(Opcode.TEXT, "one") + frame(Opcode.TEXT, "two"))
        assert [client.recv_message(), client.recv_message()] == [b"one", b"two"]
        client.sock.sendall(frame(Opcode.TEXT, "three") + close_frame(4000, "bye"))
        assert client.recv_message() == b"three"
        assert client.recv_close().code == 4000
        assert client.at_eof()


def test_a_view_that_never_has_anything_to_do(server):
    with RawClient(server).open("/messages-only") as client:
        client.sock.sendall(close_frame(4000))
        assert client.recv_close().code == 4000
        assert client.at_eof()


@pytest.mark.parametrize("leave", ["reset", "hang up"])
def test_the_end_of_a_view_that_never_has_anything_to_do(server, leave):
    def views() -> int:
        return json.loads(server.get("/process"))["idle views"]

    # Those of earlier tests may still be about to go.
    poll(lambda: views() == 0)
    with RawClient(server).open("/messages-only") as client:
        assert views() == 1
        if leave == "reset":
            client.reset()
        else:
            client.sock.shutdown(1)
            assert client.at_eof()
    poll(lambda: views() == 0)


def test_each_connection_has_an_instance_of_its_own(server, key):
    keys = [f"{number}-of-{key}" for number in range(2)]
    with (
        connect(server.ws(f"/views/all/a?key={keys[0]}")) as one,
        connect(server.ws(f"/views/all/b?key={keys[1]}")) as two,
    ):
        for ws in (one, two):
            ws.recv()
            ws.send("x")
            ws.recv()
    for each in keys:
        assert ["message", "x", 1] in journal(server, each, until="close")


def test_one_instance_can_be_shared(server):
    with connect(server.ws("/shared")) as ws:
        before = int(ws.recv())
    with connect(server.ws("/shared")) as ws:
        assert int(ws.recv()) == before + 1


def test_a_hook_runs_in_a_short_request_context(server, key):
    with connect(server.ws(f"/views/all/bob?key={key}&x=1")) as ws:
        ws.recv()
        ws.send("context")
        assert json.loads(ws.recv()) == {
            "path": "/views/all/bob",
            "args": {"key": key, "x": "1"},
            "endpoint": "views.All",
            "blueprint": "views",
            "view_args": {"name": "bob"},
            "session": {"name": "bob"},
            "app": "contract",
            "fresh g": True,
            "url": f"ws://127.0.0.1:{server.port}/views/all/x",
            "page": f"http://127.0.0.1:{server.port}/",
        }
    # One for the handshake's request, one for each of the three hooks.
    entries = journal(server, key, until="teardown", times=4)
    assert [e for e in entries if e[0] == "teardown"] == [["teardown", None]] * 4


def test_the_old_way_to_a_request_context_works(server):
    with connect(server.ws("/old-context?q=found:")) as ws:
        assert ws.recv() == f"found:127.0.0.1:{server.port}"


def test_a_client_that_vanishes_is_1006(server, key):
    client = RawClient(server).open(f"/views/all/bob?key={key}")
    client.recv()
    client.reset()
    assert ["close", 1006, "", False] in journal(server, key, until="close")


def test_an_end_without_a_close_frame_is_1006(server, key):
    with RawClient(server).open(f"/views/all/bob?key={key}") as client:
        client.recv()
        client.send(Opcode.TEXT, "the last one")
        client.sock.shutdown(1)
        entries = journal(server, key, until="close")
    assert ["message", "the last one", 1] in entries
    assert ["close", 1006, "", False] in entries


@pytest.mark.parametrize(
    ("error", "handler", "seen"),
    [
        ("value", None, "ValueError"),
        ("lookup", ["app error handler", "lookup"], "LookupError"),
        ("key", ["blueprint error handler", "'key'"], "KeyError"),
    ],
)
def test_an_exception_ends_its_own_connection_only(server, key, error, handler, seen):
    with (
        connect(server.ws("/views/all/other")) as other,
        connect(server.ws(f"/views/all/bob?key={key}")) as ws,
    ):
        other.recv()
        ws.recv()
        ws.send(f"raise {error}")
        with pytest.raises(ConnectionClosedError) as caught:
            ws.recv(timeout=10)
        assert caught.value.rcvd.code == 1011
        other.send("still here")
        assert other.recv(timeout=10) == "still here"
    entries = journal(server, key, until="close")
    assert ["on_error", seen] in entries
    assert ["signal", seen] in entries
    assert ["teardown", seen] in entries
    assert [e for e in entries if "error handler" in e[0]] == ([handler] if handler else [])
    assert ["close", 1011, "", False] in entries
    assert f"{seen}: " in server.log


def test_on_error_can_keep_the_connection(server, key):
    with connect(server.ws(f"/views/all/bob?key={key}")) as ws:
        ws.recv()
        ws.send("survive")
        ws.send("still here")
        assert ws.recv(timeout=10) == "still here"
    assert ["on_error", "ArithmeticError"] in journal(server, key, until="close")


def test_on_close_runs_when_on_connect_failed(server, key):
    with (
        connect(server.ws(f"/views/all/breaks?key={key}")) as ws,
        pytest.raises(ConnectionClosedError),
    ):
        ws.recv(timeout=10)
    entries = without_teardown(journal(server, key, until="close"))
    assert [e[0] for e in entries] == ["connect", "on_error", "signal", "close"]


@pytest.mark.parametrize(
    ("command", "code", "reason"),
    [
        ("close why", 4001, "why"),
        ("close() because", 4003, "because"),
        ("abort", 1008, "Forbidden"),
    ],
)
def test_a_hook_can_close_with_a_code(server, key, command, code, reason):
    with RawClient(server).open(f"/views/all/bob?key={key}") as client:
        client.recv()
        # What comes after the message that closes is dropped, though it is there already.
        client.sock.sendall(frame(Opcode.TEXT, command) + frame(Opcode.TEXT, "too late"))
        close = client.recv_close()
        assert (close.code, close.reason) == (code, reason)
        client.sock.sendall(close_frame(code, reason))
        assert client.at_eof()
    entries = journal(server, key, until="close")
    assert ["close", code, reason, False] in entries
    assert [e for e in entries if e[0] == "message"] == [["message", command, 1]]


def test_nothing_after_the_close_frame_is_dispatched(server, key):
    with RawClient(server).open(f"/views/all/bob?key={key}") as client:
        client.recv()
        client.sock.sendall(
            frame(Opcode.TEXT, "before") + close_frame(1000) + frame(Opcode.TEXT, "after")
        )
        assert client.recv_message() == b"before"
        assert client.recv_close().code == 1000
        assert client.at_eof()
    entries = journal(server, key, until="close")
    assert [e for e in entries if e[0] == "message"] == [["message", "before", 1]]


def test_a_function_route_that_returns_closes_with_1000(server):
    with connect(server.ws("/returns")) as ws:
        assert ws.recv() == "last words"
        with pytest.raises(ConnectionClosedOK) as caught:
            ws.recv()
        assert caught.value.rcvd.code == 1000


def test_the_loop_of_the_old_readme_ends_quietly(server):
    with connect(server.ws("/old-echo")) as ws:
        ws.send("hi")
        assert ws.recv() == "hi"
        before = server.log
    with connect(server.ws("/old-echo")) as ws:
        ws.send("again")
        assert ws.recv() == "again"
    assert "ConnectionClosed" not in server.log[len(before) :]


def test_a_loop_that_polls_hears_messages_and_the_end(server, key):
    """It asks for what is there, again and again, and its thread ends with its client."""
    with connect(server.ws(f"/polls?key={key}")) as ws:
        for message in ("one", "two" * 50_000):
            ws.send(message)
            assert ws.recv(timeout=10) == message
    poll(lambda: ["end", 1000] in journal(server, key))


def test_what_is_left_after_the_end(server, key):
    with connect(server.ws(f"/ends?key={key}")) as ws:
        ws.send("one")
        ws.send("two")
        ws.close(4005)
    entries = journal(server, key, until="ConnectionClosed")
    assert without_teardown(entries) == [
        ["messages", ["one", "two"], "then", None, None, False, 4005],
        ["ConnectionClosed", 4005],
    ]


def test_the_client_object(server):
    with connect(server.ws("/asks")) as ws:
        about = json.loads(ws.recv())
        assert about["path"] == "/asks"
        assert about["timeout"] == 1
        assert about["fd"] >= 0
        assert len(about["id"]) == 36
        ws.send("nb")
        assert json.loads(ws.recv()) == ""
        ws.send("wait for nb")
        ws.send("there")
        assert json.loads(ws.recv(timeout=10)) == "there"
        ws.send("timeout")
        assert ws.recv() == "TimeoutError: no message within 0.05 s"
        ws.send("recv")
        ws.send(b"bytes")
        assert ws.recv() == b"bytes"
        ws.send("binary")
        assert [ws.recv() for _ in range(5)] == [
            b"text as binary",
            "bytes as text",
            b"also binary",
            b"array",
            b"view",
        ]
        ws.send("bad type")
        with pytest.raises(ConnectionClosedError):
            ws.recv()
    assert "TypeError: a message is str or bytes, not dict" in server.log


def test_a_page_and_a_thread_can_send_to_a_connection(server, key):
    with connect(server.ws(f"/views/all/bob?key={key}")) as ws:
        ws.recv()
        server.get(f"/push/{key}")
        assert ws.recv(timeout=10) == "p"
        assert json.loads(server.get(f"/push-from-thread/{key}")) == {"alive": False}
        assert ws.recv(timeout=10) == "from a thread"


def test_a_hook_can_send_to_another_connection(server, key):
    with (
        connect(server.ws(f"/views/all/a?key={key}")) as one,
        connect(server.ws("/views/all/b")) as two,
    ):
        one.recv()
        two.recv()
        two.send(f"tell {key}")
        assert one.recv(timeout=10) == "from another hook"


def test_a_connection_can_be_closed_from_outside(server, key):
    with connect(server.ws(f"/views/all/bob?key={key}")) as ws:
        ws.recv()
        server.get(f"/close/{key}")
        with pytest.raises(ConnectionClosedError) as caught:
            ws.recv(timeout=10)
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4002, "closed from outside")
    assert ["close", 4002, "closed from outside", False] in journal(server, key, until="close")


def test_frames_of_many_senders_never_interleave(server, key):
    with connect(server.ws(f"/views/all/bob?key={key}"), max_size=None) as ws:
        ws.recv()
        senders = [
            threading.Thread(target=server.get, args=[f"/push/{key}?size=30000&count=20"])
            for _ in range(4)
        ]
        for sender in senders:
            sender.start()
        for _ in range(80):
            assert ws.recv(timeout=10) == "p" * 30000
        for sender in senders:
            sender.join()


def test_a_slow_client_is_closed_and_delays_nobody(server, key):
    with RawClient(server, timeout=15).open(f"/views/all/slow?key={key}") as client:
        client.recv()
        pushed = json.loads(server.get(f"/push/{key}?size=1000000&count=40"))
        assert "closed" in pushed or pushed["seconds"] < 5
        entries = journal(server, key, until="close")
        assert ["close", 1006, "", False] in entries


def test_a_hook_waits_for_its_own_slow_client(server, key):
    with connect(server.ws(f"/asks?key={key}"), max_size=None) as ws:
        ws.recv()
        ws.send("big")
        assert sum(len(ws.recv(timeout=10)) for _ in range(8)) == 8 * 1024 * 1024
        assert ["sent it all"] in journal(server, key, until="sent it all")


def test_a_flood_is_not_read_while_a_hook_is_busy(server, key):
    with RawClient(server, timeout=0.6).open(f"/views/all/bob?key={key}") as client:
        client.recv()
        client.send(Opcode.TEXT, "hold")
        flood = frame(Opcode.BINARY, b"x" * 100_000)
        sent = 0
        try:
            while sent < 50_000_000:
                client.sock.sendall(flood)
                sent += len(flood)
        except TimeoutError:
            pass
        assert sent < 50_000_000
        server.get(f"/release/{key}")


def test_a_hook_that_waits_delays_no_other_connection(server, key):
    with (
        RawClient(server).open(f"/views/all/a?key={key}") as slow,
        RawClient(server).open("/echo") as other,
    ):
        slow.recv()
        slow.send(Opcode.TEXT, "hold")
        for number in range(10):
            other.send(Opcode.TEXT, str(number))
            assert other.recv_message() == str(number).encode()
        slow.sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            slow.sock.recv(1)
        slow.sock.settimeout(10)
        server.get(f"/release/{key}")
        assert slow.recv_message() == b"released"


def test_a_ping_is_answered_while_a_hook_is_busy(server, key):
    with RawClient(server).open(f"/views/all/bob?key={key}") as client:
        client.recv()
        client.send(Opcode.TEXT, "hold")
        client.send(Opcode.PING, "are you there")
        answer = client.recv()
        assert (answer.opcode, bytes(answer.data)) == (Opcode.PONG, b"are you there")
        server.get(f"/release/{key}")
        assert client.recv_message() == b"released"


def test_the_end_interrupts_a_producer(server, key):
    with RawClient(server).open(f"/produces?key={key}") as client:
        assert client.recv_message() == b"tick"
        client.sock.sendall(close_frame(1000))
        while (received := client.recv()).opcode is Opcode.TEXT:
            pass
        assert received.opcode is Opcode.CLOSE
        assert client.at_eof()
    assert ["closed", 1000] in journal(server, key, until="closed")


def test_what_a_hook_sets_is_there_in_the_next(server):
    with connect(server.ws("/variable")) as ws:
        for message, before in [("one", "connected"), ("two", "one"), ("three", "two")]:
            ws.send(message)
            assert ws.recv(timeout=10) == before


def test_what_the_handshake_has_found_out_is_there_in_each_hook(server):
    with connect(server.ws("/tenant?tenant=one")) as one, connect(server.ws("/tenant")) as two:
        for _ in range(2):
            one.send("who?")
            two.send("who?")
            assert json.loads(one.recv(timeout=10)) == ["one", False]
            assert json.loads(two.recv(timeout=10)) == [None, False]
