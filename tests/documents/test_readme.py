"""The examples of the README and of the docs do what their text says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from support.pages import DOCS, README, blocks
from support.raw import RawClient
from support.snippets import run
from websockets.frames import Opcode
from websockets.sync.client import connect


def test_the_first_example(tmp_path):
    with run(blocks(README)[0], tmp_path) as server:
        lobby = f"ws://localhost:{server.port}/chat/lobby"
        with connect(lobby) as one, connect(lobby) as two:
            for ws in (one, two):
                assert ws.recv(timeout=10) == "You are in lobby, stranger."
            with RawClient(server).open("/chat/other") as elsewhere:
                elsewhere.recv()
                two.send("hello")
                assert one.recv(timeout=10) == two.recv(timeout=10) == "hello"
                elsewhere.send(Opcode.TEXT, "nobody here")
                assert elsewhere.recv_message() == b"nobody here"
            two.close()
            one.send("still here")
            assert one.recv(timeout=10) == "still here"


def test_the_second_example(tmp_path):
    with run(blocks(README)[1], tmp_path) as server:
        with connect(f"ws://localhost:{server.port}/chat/lobby") as ws:
            ws.send('{"type": "say", "text": "Hi", "ref": 1}')
            assert json.loads(ws.recv(timeout=10)) == {
                "type": "said",
                "text": "Hi",
                "room": "lobby",
                "ref": 1,
            }
        assert json.loads(server.get("/docs/ws/asyncapi.json"))["info"]["title"] == "Chat"


def test_the_page_on_typed_messages(tmp_path):
    page = DOCS / "messages.md"
    code = "\n".join([*blocks(page), "if __name__ == '__main__':\n    app.run(gevent=100)\n"])
    [conversation] = [block for block in blocks(page, "") if block.startswith("→")]
    with run(code, tmp_path) as server:
        with connect(f"ws://localhost:{server.port}/chat") as ws:
            assert json.loads(ws.recv(timeout=10)) == {"type": "greeting", "text": "Hello!"}
            for line in conversation.splitlines():
                direction, _, frame = line.partition(" ")
                if direction == "→":
                    ws.send(frame)
                    continue
                expected, heard = json.loads(frame), json.loads(ws.recv(timeout=10))
                assert ("at" in expected) == ("at" in heard)
                assert {**expected, "at": None} == {**heard, "at": None}
            ws.send('{"type": "say", "text": "spam"}')
            heard = json.loads(ws.recv(timeout=10))
            assert heard["errors"] == {"text": ["No advertising, please."]}
        with connect(f"ws://localhost:{server.port}/say") as ws:
            ws.send('{"text": "hi"}')
            assert ws.recv(timeout=10) == "HI"


def test_the_page_on_documents(tmp_path):
    code = "\n".join(blocks(DOCS / "asyncapi.md"))
    with run(f"{code}\nif __name__ == '__main__':\n    app.run(gevent=100)\n", tmp_path) as server:
        request = urllib.request.Request(server.http("/docs/ws/"))
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        refused.value.close()
    # Without a secret key the session can't be read, which is empty then.
    assert refused.value.code == 403


PREAMBLE = """
import flask
from flask_wsviews import Blueprint, WebSocket, WebSocketView

app = flask.Flask("readme")
websocket = WebSocket(app)
bp, plain = Blueprint("bp", "readme"), flask.Blueprint("plain", "readme")
bp.websocket("/before", endpoint="before")(lambda ws: None)


class Chat(WebSocketView):
    def on_message(self, ws, message):
        ws.send(message.upper())
"""
RULE = (
    "websocket.add_url_rule('/chat/<room>', 'room', lambda ws, room: ws.send(ws.receive().upper()))"
)


@pytest.mark.parametrize(
    ("begin", "after"),
    [
        ('@websocket.route("/echo")  # on', "app.register_blueprint(bp)"),
        ('@websocket.route("/echo")\ndef', ""),
        ('@websocket.route("/rooms/<room>")', ""),
        ("from flask_wsviews.testing", "websocket.stop()"),
    ],
)
def test_parts_of_applications(begin, after, tmp_path):
    [part] = [block for block in blocks(README) if block.startswith(begin)]
    code = "\n".join([PREAMBLE, RULE, part, after])
    command = [sys.executable, "-W", "error", "-c", code]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr


def test_the_ways_to_run(tmp_path):
    [part] = [block for block in blocks(README) if block.startswith("app.run(")]
    expected = [
        {"--processes 8", "--threads 50", "--http localhost:8080", "--http-buffer-size 65536"},
        {"--gevent 100", "--python-autoreload 1", "--http localhost:5000"},
    ]
    for line, options in zip(part.splitlines(), expected, strict=True):
        (tmp_path / "app.py").write_text(f"{PREAMBLE}\n{line}")
        ran = subprocess.run(
            [sys.executable, "app.py"],
            cwd=tmp_path,
            env={**os.environ, "FLASK_UWSGI_BINARY": "echo"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ran.returncode == 0, ran.stderr
        assert all(option in ran.stdout for option in options), ran.stdout


def test_no_block_is_left_out():
    # Two applications, and what the two tests above run.
    assert len(blocks(README)) == 2 + 4 + 1
