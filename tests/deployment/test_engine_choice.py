"""engine="auto" on real servers, and WSVIEWS_ENGINE."""

from __future__ import annotations

import pytest
from support import servers
from websockets.sync.client import connect

AUTO = "chosen:app"


@pytest.mark.parametrize(
    ("command", "env", "engine"),
    [
        (servers.uwsgi(AUTO, "--gevent", "10"), {}, "gevent"),
        (servers.uwsgi(AUTO, "--threads", "4"), {}, "blocking"),
        (servers.uwsgi(AUTO), {}, "asyncio"),
        (servers.uwsgi(AUTO, "--threads", "4"), {"OVERRIDE": "asyncio"}, "asyncio"),
        (servers.gunicorn(AUTO, "-k", "gevent"), {}, "gevent"),
        (servers.gunicorn(AUTO, "-k", "gthread", "--threads", "4"), {}, "blocking"),
        (servers.flask_run(AUTO), {}, "blocking"),
    ],
)
def test_the_server_chooses(tmp_path, command, env, engine):
    with (
        servers.running(command, tmp_path / "log", env) as server,
        connect(server.ws("/engine")) as ws,
    ):
        assert ws.recv(timeout=10) == engine
        ws.send("and it works")
        assert ws.recv(timeout=10) == "and it works"


def test_an_engine_that_does_not_fit_is_refused_at_the_start(tmp_path):
    command = servers.uwsgi(AUTO, "--threads", "4")
    env = {"OVERRIDE": "gevent"}
    with servers.running(command, tmp_path / "log", env, ready=None) as server:
        assert server.wait_exit() != 0
        assert "add --gevent 100" in server.log


@pytest.mark.parametrize(
    ("mode", "library"), [("uwsgi-asyncio", "asyncio."), ("uwsgi-asyncio-router", "uvloop")]
)
def test_uvloop_is_used_where_it_is_installed(pool, mode, library):
    server = pool.get(mode)
    with connect(server.ws("/echo")) as ws:
        ws.send("on that loop")
        assert ws.recv(timeout=10) == "on that loop"
    assert server.get("/loop").startswith(library)
