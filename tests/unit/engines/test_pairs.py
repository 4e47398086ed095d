"""The table of engines and servers, and uWSGI's sockets, without any of them."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask

from flask_wsviews import AsyncioWebSocket, EngineError, WebSocket, WebSocketView
from flask_wsviews.common.per_process import PerProcess
from flask_wsviews.common.process import Gunicorn, choose_engine, patched_by
from flask_wsviews.engines import make_engine, places
from flask_wsviews.engines.places import PLACES, REFUSED, Place, here, problem
from flask_wsviews.servers.uwsgi.fronts import doubtful_routers, local_address, unusable, usable
from flask_wsviews.testing import websocket_connect

ENGINES = ("blocking", "gevent", "asyncio")


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine has been checked in this process."""
    monkeypatch.setattr(places, "_checked", PerProcess(set))
    monkeypatch.setattr(places, "_warned", [])


def test_every_refusal_says_what_to_change() -> None:
    for refused in (REFUSED, *(make_engine(name).refused for name in ENGINES)):
        assert refused.keys() <= set(PLACES)
        for refusal in refused.values():
            assert any(word in refusal for word in (": add ", ": use ", ": leave ")), refusal


def test_places_that_are_not_in_the_table_are_as_those_without_their_worker() -> None:
    for engine in map(make_engine, ENGINES):
        assert problem(engine.refused, Place("gunicorn", "of its own")) == ""
        found = problem(engine.refused, Place("uwsgi", "threads", "eventlet"))
        assert found.startswith("eventlet has")
    asyncio = make_engine("asyncio").refused
    assert problem(asyncio, Place("gunicorn", "sync", "gevent"))
    assert "no gevent loop" in problem(asyncio, Place("uwsgi", "asyncio", "gevent"))


@pytest.fixture
def eventlet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose standard library eventlet has patched."""
    patcher: Any = SimpleNamespace(is_monkey_patched=lambda what: what == "thread")
    monkeypatch.setitem(sys.modules, "eventlet.patcher", patcher)


@pytest.mark.usefixtures("eventlet")
@pytest.mark.parametrize("extension", [WebSocket, AsyncioWebSocket])
def test_eventlet_is_refused_at_the_handshake(extension: type[WebSocket]) -> None:
    assert patched_by() == "eventlet"
    app = Flask("site")
    app.testing = True
    websocket = extension(app)

    @websocket.route("/talk")
    class Talk(WebSocketView):
        pass

    with (
        pytest.raises(EngineError, match="eventlet has patched"),
        websocket_connect(app.test_client(), "/talk"),
    ):
        pass
    websocket.stop()


class GeventWorker:
    """As gunicorn's is called."""


class OwnWorker(GeventWorker):
    """Somebody's."""


@pytest.mark.parametrize(
    ("worker", "kind", "chosen"),
    [(OwnWorker, "gevent", "gevent"), (GeventWorker, "gevent", "gevent"), (object, "", "blocking")],
    ids=["inherited", "gevent", "unknown"],
)
def test_gunicorn_workers_are_known_by_what_they_inherit(
    monkeypatch: pytest.MonkeyPatch, worker: type, kind: str, chosen: str
) -> None:
    found = Gunicorn(SimpleNamespace(timeout=30), worker)
    monkeypatch.setattr("flask_wsviews.common.process.find_gunicorn", lambda: found)
    monkeypatch.setattr("flask_wsviews.engines.places.find_gunicorn", lambda: found)
    assert here() == Place("gunicorn", kind)
    assert choose_engine() == chosen
    if kind:
        with pytest.raises(EngineError, match="-k gthread"):
            AsyncioWebSocket(Flask("site"))


class SyncWorker:
    """As gunicorn's is called."""


@pytest.mark.parametrize(("timeout", "said"), [(30, "--timeout (30 s)"), (0, "meanwhile: use")])
def test_a_sync_worker_is_warned_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, timeout: int, said: str
) -> None:
    found = Gunicorn(SimpleNamespace(timeout=timeout), SyncWorker)
    monkeypatch.setattr("flask_wsviews.engines.places.find_gunicorn", lambda: found)
    WebSocket(Flask("site"))
    WebSocket(Flask("other"))
    [record] = caplog.records
    assert said in record.getMessage()


# -- uWSGI's sockets ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "local"),
    [
        (":8000", 8000),
        ("127.0.0.1:8000", 8000),
        ("[::1]:8000", 8000),
        ("127.0.0.1:443,cert.pem,key.pem", 443),
        ("/run/site.sock", "/run/site.sock"),
        ("127.0.0.1:0", None),
        ("=0", None),
        ("@abstract", None),
        ("fd://3", None),
    ],
)
def test_the_local_address_of_a_socket(address: str, local: int | str | None) -> None:
    assert local_address(address) == local


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"http-socket": b":80", "uwsgi-socket": b":81", "http": b":82"}, []),
        ({"http11-socket": b":80"}, ["http11-socket"]),
        ({"fastcgi-socket": [b":80", b":81"]}, ["fastcgi-socket"] * 2),
        ({"ssl-socket": ":80,a,b", "https-socket": ":81,a,b"}, ["https-socket", "ssl-socket"]),
        ({"socket": b":80", "protocol": b"http"}, []),
        ({"socket": b":80", "socket-protocol": b"puwsgi"}, ["socket-protocol puwsgi"]),
        ({"protocol": b"fastcgi", "http-socket": b":80"}, []),
    ],
)
def test_sockets_that_websockets_cannot_be_taken_from(
    options: dict[str, Any], found: list[str]
) -> None:
    assert [front.option for front in unusable(options)] == found
    for front in unusable(options):
        assert front.local in (80, 81)
        assert front.local not in usable(options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"http": b":80"}, ["--http-websockets"]),
        ({"https": b":80", "http-websockets": True}, []),
        ({"http": b":80", "http-raw-body": True}, []),
        ({"sslrouter": b":443,a,b", "http-socket": b":80"}, ["--https"]),
    ],
)
def test_routers_that_lose_messages(options: dict[str, Any], said: list[str]) -> None:
    warnings = list(doubtful_routers(options))
    assert len(warnings) == len(said)
    for warning, option in zip(warnings, said, strict=True):
        assert option in warning
