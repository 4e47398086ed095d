"""What is particular to uWSGI's own asyncio loop, which only some builds have."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import servers, uwsgi_asyncio
from support.engines import ASYNCIO, BLOCKING
from support.servers import poll
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

pytestmark = pytest.mark.skipif(
    uwsgi_asyncio.why_not() is not None, reason=str(uwsgi_asyncio.why_not())
)


LIVE = """
import asyncio
import sys
import threading

from flask import Flask, request

from flask_wsviews import AsyncioWebSocket, WebSocketView

app = Flask(__name__)
websocket = AsyncioWebSocket(app)


def where():
    threads = sorted(thread.name for thread in threading.enumerate())
    return [id(asyncio.get_running_loop()), threading.get_ident(), threads]


@app.get("/")
def index():
    return where()


@websocket.route("/where")
async def where_am_i(ws):
    await ws.send_json(where())


doors = []


@websocket.route("/door")
class Door(WebSocketView):
    async def on_handshake(self, ws):
        self.name = request.args["name"]
        if self.name == "nobody":
            await asyncio.sleep(0)
            return "nobody may come in", 403
        opened = asyncio.Event()
        doors.append(opened)
        await opened.wait()
        # Still the request that it was before others were handled.
        assert self.name == request.args["name"]

    async def on_connect(self, ws):
        await ws.send(self.name)


@app.get("/waiting")
def waiting():
    return [len(doors)]


@app.get("/open")
def open_doors():
    for door in doors:
        door.set()
    return []


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(sys.argv[1]), asyncio=100, greenlet=True, verbose=True)
"""


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """``python app.py``, with the uWSGI that the environment names."""
    folder = tmp_path_factory.mktemp("live")
    app = folder / "app.py"
    app.write_text(LIVE)
    env = {"FLASK_UWSGI_BINARY": str(uwsgi_asyncio.binary())}

    def command(port: int) -> list[str]:
        return [sys.executable, str(app), str(port)]

    with servers.running(command, folder / "log", env) as server:
        poll(lambda: "--asyncio 100 --greenlet" in server.log)
        poll(lambda: "running asyncio loop engine" in server.log)
        yield server


def test_conversations_are_tasks_on_the_loop_of_uwsgi(live):
    with connect(live.ws("/where")) as ws:
        on_the_loop = json.loads(ws.recv(timeout=10))
    assert on_the_loop == json.loads(live.get("/"))
    assert "wsviews-asyncio" not in on_the_loop[-1]


def test_an_async_handshake_leaves_the_loop_to_others(live):
    with ThreadPoolExecutor(20) as threads:
        names = [str(number) for number in range(20)]

        def enter(name: str) -> str:
            with connect(live.ws(f"/door?name={name}")) as ws:
                return str(ws.recv(timeout=10))

        entering = threads.map(enter, names)
        poll(lambda: json.loads(live.get("/waiting")) == [20])
        live.get("/open")
        assert list(entering) == names
    with pytest.raises(InvalidStatus) as caught, connect(live.ws("/door?name=nobody")):
        pass
    assert caught.value.response.status_code == 403


@pytest.mark.parametrize(
    ("engine", "left_out", "complaint"),
    [
        (ASYNCIO, "--greenlet", "uWSGI's asyncio loop needs a greenlet for each request"),
        (BLOCKING, "", "WebSocket would block uWSGI's asyncio loop: use AsyncioWebSocket"),
    ],
)
def test_a_misconfiguration_fails_at_the_start(tmp_path, engine, left_out, complaint):
    options = [option for option in uwsgi_asyncio.OPTIONS if option != left_out]
    command = servers.uwsgi("contract:app", *options, binary=uwsgi_asyncio.binary)
    with servers.running(command, tmp_path / "log", engine, ready=None) as server:
        assert server.wait_exit() != 0
        assert complaint in server.log


def test_auto_is_asyncio(tmp_path):
    command = servers.uwsgi("chosen:app", *uwsgi_asyncio.OPTIONS, binary=uwsgi_asyncio.binary)
    with (
        servers.running(command, tmp_path / "log") as server,
        connect(server.ws("/engine")) as ws,
    ):
        assert ws.recv(timeout=10) == "asyncio"
