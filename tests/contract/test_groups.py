"""Groups, on every engine and through every broker."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from support import servers
from support.endings import close_of
from support.engines import small_modes
from support.group_talk import TIMEOUT, ask, enter, listen, local_count, publish, talk
from support.raw import RawClient
from support.redis_server import RedisServer, redis_server
from support.servers import Server, poll
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Opcode
from websockets.sync.client import ClientConnection, connect

APP = "groups:app"

MODES = small_modes(APP)


@pytest.fixture(scope="module")
def redis(tmp_path_factory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(scope="module", params=["memory", "redis"])
def broker_url(request) -> str:
    if request.param == "memory":
        return "memory://"
    return str(request.getfixturevalue("redis").url)


@pytest.fixture(scope="module", params=MODES)
def server(request, broker_url, tmp_path_factory) -> Iterator[Server]:
    command, env = MODES[request.param]
    log = tmp_path_factory.mktemp("groups") / "log"
    with servers.running(command, log, {**env, "SET_BROKER_URL": json.dumps(broker_url)}) as made:
        yield made
    assert "Traceback" not in made.log, made.log


@pytest.fixture
def group() -> str:
    return f"group-{uuid4().hex}"


def test_members_hear_what_pages_and_members_say(server, group):
    with talk(server) as one, talk(server) as two, talk(server) as other:
        for ws in (one, two):
            assert ask(ws, "join", group) == {"position": None, "lost": False, "sent": 0}
            assert ask(ws, "groups") == [group]
        ask(other, "join", f"{group}-other")
        publish(server, group, "grüße")
        publish(server, group, b"\x00\xff", binary="1")
        for ws in (one, two):
            assert listen(ws, 2) == ["grüße", b"\x00\xff"]
        ask(other, "broadcast", group, "from outside")
        assert listen(one) == listen(two) == ["from outside"]
        assert ask(other, "id")


def test_who_is_excluded_hears_nothing(server, group):
    with talk(server) as one, talk(server) as two:
        for ws in (one, two):
            ask(ws, "join", group)
        ask(one, "others", group, "not to me")
        publish(server, group, "to two", exclude=str(ask(one, "id")))
        ask(one, "leave", group)
        assert listen(two, 2) == ["not to me", "to two"]
        # Nothing came in between.
        assert ask(one, "groups") == []


def test_a_member_that_leaves_hears_no_more(server, group):
    with talk(server) as one, talk(server) as two:
        for ws in (one, two):
            ask(ws, "join", group)
        ask(one, "leave", group)
        ask(one, "leave", group)
        ask(two, "broadcast", f"{group}-unknown", "nobody hears")
        publish(server, group, "still here?")
        assert listen(two) == ["still here?"]
        assert ask(one, "id")


def test_a_connection_leaves_by_itself_when_it_ends(server, group):
    with talk(server) as one:
        ask(one, "join", group)
        assert local_count(server, group) == 1
    poll(lambda: local_count(server, group) == 0)
    with RawClient(server).open("/commands") as client:
        client.send(Opcode.TEXT, json.dumps(["join", group]))
        client.recv_message()
        assert local_count(server, group) == 1
    poll(lambda: local_count(server, group) == 0)


def test_what_cannot_be_joined(server, group):
    with talk(server) as ws:
        assert ask(ws, "join", "secret")["error"] == "GroupRefused"
        for name in ("", "a{b}", " a", 5):
            assert ask(ws, "join", name)["error"] == "GroupError"
        assert ask(ws, "broadcast", "", "x")["error"] == "GroupError"
        assert "has no history" in ask(ws, "join", group, "1-0")["text"]
        assert ask(ws, "groups") == []


def test_a_view_declares_its_groups(server, group):
    with connect(server.ws(f"/rooms/{group}")) as one:
        joined = [json.loads(text) for text in listen(one, 2)]
        assert [entry[0] for entry in joined] == ["lobby", f"room:{group}"]
        assert listen(one) == [f"welcome to {group}"]
        publish(server, f"room:{group}", "to the room")
        assert listen(one) == ["to the room"]
        with connect(server.ws(f"/rooms/{group}-2")) as two:
            listen(two, 3)
        # It had left before its on_close.
        assert listen(one) == ["closed []"]


def test_messages_arrive_in_order_and_once(server, group):
    with talk(server) as one, talk(server) as two, talk(server) as publisher:
        for ws in (one, two):
            ask(ws, "join", group)
        for number in range(300):
            publisher.send(json.dumps(["broadcast", group, str(number)]))
        listen(publisher, 300)
        expected = [str(number) for number in range(300)]
        assert listen(one, 300) == listen(two, 300) == expected


def test_a_group_joined_without_waiting_hears_what_follows(server, group):
    with connect(server.ws(f"/unawaited/{group}")) as ws:
        assert listen(ws) == ["here I am"]


def test_who_comes_back_gets_what_was_missed(server, group):
    kept = f"kept:{group}"
    with talk(server) as ws:
        start = ask(ws, "join", kept)["position"]
        first = publish(server, kept, "one")
        assert listen(ws) == ["one"]
    for message in ("two", "three"):
        publish(server, kept, message)
    with talk(server) as ws:
        ws.send(json.dumps(["join", kept, start]))
        assert listen(ws, 3) == ["one", "two", "three"]
        result = json.loads(ws.recv(timeout=TIMEOUT))["result"]
        assert (result["lost"], result["sent"]) == (False, 3)
        ws.send(json.dumps(["join", kept, result["position"]]))
        assert json.loads(ws.recv(timeout=TIMEOUT))["result"]["sent"] == 0
        publish(server, kept, "four")
        assert listen(ws) == ["four"]
    if first != "None":
        with talk(server) as ws:
            ws.send(json.dumps(["join", kept, first]))
            assert listen(ws, 3) == ["two", "three", "four"]


def test_what_is_gone_from_the_history_is_told(server, group):
    short = f"short:{group}"
    with talk(server) as ws:
        start = ask(ws, "join", short)["position"]
        for number in range(3):
            publish(server, short, str(number))
        listen(ws, 3)
    for lost, messages in ((False, "012"), (True, "123"), (True, "234")):
        with talk(server) as ws:
            ws.send(json.dumps(["join", short, start]))
            assert listen(ws, 3) == list(messages)
            assert json.loads(ws.recv(timeout=TIMEOUT))["result"]["lost"] is lost
        publish(server, short, str(int(messages[-1]) + 1))


def test_a_long_history_is_replayed_while_more_is_published(server, group):
    kept = f"kept:{group}"
    with talk(server) as one, talk(server) as publisher:
        start = ask(one, "join", kept)["position"]
        for number in range(250):
            publisher.send(json.dumps(["broadcast", kept, str(number)]))
        listen(one, 250)
        listen(publisher, 250)
        for number in range(250, 500):
            publisher.send(json.dumps(["broadcast", kept, str(number)]))
        with talk(server) as two:
            two.send(json.dumps(["join", kept, start]))
            received: list[str] = []
            while len(received) < 500:
                message = listen(two)[0]
                if "position" not in message:
                    received.append(message)
        assert received == [str(number) for number in range(500)]
        listen(publisher, 250)
        assert listen(one, 250) == received[250:]


def test_a_view_resumes(server, group):
    def listen(ws: ClientConnection, count: int) -> list:
        """Read so many messages, without the goodbyes of connections that have just ended."""
        heard: list = []
        while len(heard) < count:
            message = ws.recv(timeout=TIMEOUT)
            if not message.startswith("closed "):
                heard.append(message)
        return heard

    room = f"room:{group}"
    with connect(server.ws(f"/rooms/{group}")) as ws:
        position = json.loads(listen(ws, 3)[1])[1]
    publish(server, room, "missed")
    with connect(server.ws(f"/rooms/{group}?since={position}")) as ws:
        messages = listen(ws, 4)
        assert messages[1] == "missed"
        assert json.loads(messages[2])[2] is False
    with connect(server.ws(f"/rooms/{group}?since=1-0")) as ws:
        assert json.loads(listen(ws, 3)[2])[2] is True
    # What a client has made up is as what is gone.
    with connect(server.ws(f"/rooms/{group}?since=nonsense")) as ws:
        messages = listen(ws, 4)
        assert messages[1] == "missed"
        assert json.loads(messages[2])[2] is True
    with connect(server.ws("/rooms/%7Bx%7D")) as ws:
        listen(ws, 1)
        with pytest.raises(ConnectionClosedError) as caught:
            ws.recv(timeout=TIMEOUT)
        assert caught.value.rcvd.code == 1008


def test_typed_messages_carry_their_ids(server, group):
    def receive(ws: ClientConnection) -> dict:
        return json.loads(ws.recv(timeout=TIMEOUT))

    path = f"/typed/{group}"
    with connect(server.ws(path)) as ws:
        ws.send('{"type": "say", "text": "one"}')
        one = receive(ws)
        assert one == {"type": "said", "text": "one", "message_id": one["message_id"]}
        url = server.http(f"/say/{group}")
        urllib.request.urlopen(url, b"two", timeout=TIMEOUT).close()
        assert receive(ws)["text"] == "two"
    with connect(server.ws(f"{path}?since={one['message_id']}")) as ws:
        two = receive(ws)
        assert two["text"] == "two"
        for number in range(4):
            ws.send(json.dumps({"type": "say", "text": str(number)}))
        assert [receive(ws)["text"] for _ in range(4)] == list("0123")
    with connect(server.ws(f"{path}?since={two['message_id']}")) as ws:
        assert [receive(ws)["text"] for _ in range(3)] == list("123")
        lost = receive(ws)
        assert (lost["type"], lost["code"]) == ("error", "messages_lost")


def test_who_is_present(server, group):
    present = f"present:{group}"
    ann, bob = {"user": "ann"}, {"user": "bób", "tags": [1, None]}
    with talk(server) as one, talk(server) as two:
        first = enter(one, present, ann)
        second = enter(two, present, bob)
        assert json.loads(listen(one)[0]) == ["joined", second, bob]
        for ws in (one, two):
            assert ask(ws, "members", present) == [[first, ann], [second, bob]]
            assert ask(ws, "count", present) == 2
        if "--asyncio" not in server.process.args:
            found = json.loads(server.get(f"/members/{present}"))
            assert found["count"] == 2
            assert [member["meta"] for member in found["members"]] == [ann, bob]
        assert ask(two, "leave", present) is None
        assert json.loads(listen(one)[0]) == ["left", second, bob]
        assert ask(one, "members", present) == [[first, ann]]
        assert enter(two, present, {}) == second
        assert json.loads(listen(one)[0]) == ["joined", second, {}]
        with RawClient(server).open("/commands") as vanishing:
            vanishing.send(Opcode.TEXT, json.dumps(["join", present, None, bob]))
            third = json.loads(listen(one)[0])[1]
            assert json.loads(listen(two)[0]) == ["joined", third, bob]
            vanishing.reset()
        for ws in (one, two):
            assert json.loads(listen(ws)[0]) == ["left", third, bob]
            assert ask(ws, "count", present) == 2
    # Nobody listens any more, and nobody is left.
    with talk(server) as ws:
        poll(lambda: ask(ws, "count", present) == 0)


def test_presence_is_for_groups_that_have_it(server, group):
    with talk(server) as ws:
        assert ask(ws, "join", group, None, {"user": "ann"})["error"] == "GroupError"
        assert ask(ws, "members", group)["error"] == "GroupError"
        assert "presence = True" in ask(ws, "count", group)["text"]
        assert ask(ws, "join", f"present:{group}", None, "ann")["error"] == "TypeError"
        assert ask(ws, "groups") == []
        assert ask(ws, "count", f"present:{group}") == 0


def disconnect(server: Server, **arguments: str) -> int:
    """Call ``websocket.disconnect()`` in a page; returns the worker that it ran in."""
    url = server.http(f"/disconnect?{urlencode(arguments)}")
    with urllib.request.urlopen(url, b"", timeout=TIMEOUT) as response:
        return int(response.read())


def test_a_group_is_disconnected(server, group):
    kept, room = f"kept:{group}", f"room:{group}"
    with talk(server) as one, talk(server) as two, talk(server) as other:
        for ws in (one, two):
            ask(ws, "join", kept)
        for command, answer in (
            ({}, "TypeError"),
            ({"group": kept, "connection": "x"}, "TypeError"),
            ({"group": " x"}, "GroupError"),
            ({"connection": "x"}, "GroupError"),
        ):
            assert ask(other, "disconnect", command)["error"] == answer
        publish(server, kept, "goodbye")
        disconnect(server, group=kept, code="4001", reason="überholt")
        for ws in (one, two):
            assert listen(ws) == ["goodbye"]
            assert close_of(ws) == (4001, "überholt")
        assert ask(other, "groups") == []
        poll(lambda: local_count(server, kept) == 0)
        # Nobody is banned, and what closed the others isn't part of the history.
        ask(other, "join", kept)
        publish(server, kept, "hello")
        assert listen(other) == ["hello"]
        # From a hook, one's own connection too.
        other.send(json.dumps(["disconnect", {"group": kept, "code": 1000}]))
        received = list(other)
        assert other.close_code == 1000
        assert all("result" in text for text in received)
    with connect(server.ws(f"/rooms/{group}")) as declared, talk(server) as closer:
        listen(declared, 3)
        ask(closer, "disconnect", {"group": room})
        assert close_of(declared) == (1008, "")


def test_a_connection_is_disconnected(server):
    with talk(server) as one, talk(server) as two, talk(server) as three:
        first, second = ask(one, "id"), ask(two, "id")
        disconnect(server, connection=first, code="4002")
        assert close_of(one) == (4002, "")
        # It has gone, and nobody is there any more.
        disconnect(server, connection=first)
        assert ask(three, "disconnect", {"connection": second, "reason": "bye"}) is None
        assert close_of(two) == (1008, "bye")
        assert ask(three, "groups") == []


def test_what_is_not_kept_goes_out_live(server, group):
    kept = f"kept:{group}"
    with talk(server) as ws:
        start = ask(ws, "join", kept)["position"]
        texts = ["typing", "said", "typing"]
        for number, text in enumerate(texts):
            ws.send(json.dumps(["say", kept, text, {"keep": number == 1}]))
        messages = listen(ws, 6)
        assert [text for text in messages if "result" not in text] == texts
    with talk(server) as ws:
        ws.send(json.dumps(["join", kept, start]))
        assert listen(ws) == ["said"]
        assert json.loads(listen(ws)[0])["result"]["sent"] == 1


def test_a_function_route_declares_its_groups(server, group):
    name = f"function:{group}"
    with connect(server.ws(f"/function/{group}")) as ws:
        assert json.loads(listen(ws)[0]) == [[name], 1]
        assert publish(server, name, "hello") != "None" or "--asyncio" in server.process.args
        assert listen(ws) == ["hello"]
        with connect(server.ws(f"/function/{group}")) as other:
            assert json.loads(listen(other)[0]) == [[name], 2]
    poll(lambda: local_count(server, name) == 0)
