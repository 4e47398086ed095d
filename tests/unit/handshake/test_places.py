"""What a handshake takes of its worker is given back, wherever the handshake fails."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, nullcontext, suppress
from itertools import islice
from typing import Any

import pytest
import uvloop
from flask import Flask, Response, abort, request
from greenlet import GreenletExit

import flask_wsviews
from flask_wsviews import AsyncioWebSocket, WebSocket, WebSocketView
from flask_wsviews.app_state import AppState
from flask_wsviews.engines import Engine
from flask_wsviews.engines.asyncio import AsyncioEngine
from flask_wsviews.engines.asyncio_loop import LoopThread
from flask_wsviews.engines.blocking import BlockingEngine
from flask_wsviews.engines.gevent import GeventEngine
from flask_wsviews.engines.keeper import Keeper
from flask_wsviews.handshake import take_over
from flask_wsviews.servers import Adapter
from flask_wsviews.servers.testing import PairTransport, TestingAdapter
from flask_wsviews.testing import HandshakeRejected, websocket_connect

# libuv opens a pipe for signals with its first loop, and keeps it.
uvloop.new_event_loop().close()

ERRORS: dict[str, type[BaseException]] = {
    "error": ValueError,
    "exit": SystemExit,
    "interrupt": KeyboardInterrupt,
    "greenlet": GreenletExit,
    "generator": GeneratorExit,
}


@pytest.fixture(params=["WebSocket", "GeventWebSocket", "AsyncioWebSocket"])
def websocket(request: pytest.FixtureRequest) -> Iterator[WebSocket]:
    app = Flask("site")
    app.config["WSVIEWS_MAX_CONNECTIONS"] = 1
    app.config["WSVIEWS_MAX_CONNECTIONS_PER_ADDRESS"] = 1
    made = getattr(flask_wsviews, request.param)(app)
    add_view(app, made)
    yield made
    made.stop()


def add_view(app: Flask, websocket: WebSocket) -> None:
    def decorator(view: Callable[..., Any]) -> Callable[..., Any]:
        def decorated(**view_args: Any) -> Any:
            fail("before")
            answer = view(**view_args)
            if "twice" in request.args:
                answer = view(**view_args)
            fail("after")
            return Response("instead", 409) if "replace" in request.args else answer

        return decorated

    @websocket.route("/")
    class Echo(WebSocketView):
        decorators = (decorator,)

        def on_handshake(self, ws: Any) -> Any:
            fail("hook")
            if "refuse" in request.args:
                abort(403)
            return Response("no", 404) if "answer" in request.args else None

        def on_message(self, ws: Any, message: Any) -> None:
            ws.send(message)

    @app.after_request
    def after(response: Response) -> Response:
        fail("after_request")
        if "header" in request.args:
            response.headers["X-Name"] = "\N{SNOWMAN}"
        return Response("veto", 409) if "veto" in request.args else response

    @app.teardown_request
    def teardown(error: object) -> None:
        fail("teardown")


def fail(where: str) -> None:
    if where in request.args:
        raise ERRORS[request.args[where]]("on purpose")


def counts(websocket: WebSocket) -> tuple[int, int, int]:
    admission = websocket.admission
    return admission._count, len(admission._by_address), websocket.engine.connections


def echoes(websocket: WebSocket) -> None:
    assert websocket.app is not None
    with websocket.app.test_client() as client, websocket_connect(client, "/") as ws:
        ws.send("hello")
        assert ws.receive() == "hello"


def status(websocket: WebSocket, path: str = "/") -> int:
    assert websocket.app is not None
    with websocket.app.test_client() as client:
        try:
            with websocket_connect(client, path):
                return 101
        except HandshakeRejected as error:
            return error.status_code


def test_what_a_coroutine_raises_in_the_handshake_costs_no_other_connection() -> None:
    app = Flask("site")
    websocket = AsyncioWebSocket(app)
    add_view(app, websocket)

    @websocket.route("/coroutine")
    class Coroutine(WebSocketView):
        async def on_handshake(self, ws: Any) -> None:
            fail("hook")

    with app.test_client() as client, websocket_connect(client, "/") as ws:
        for error, kind in ERRORS.items():
            # What Flask lets through is the server's to answer.
            with nullcontext() if kind in (SystemExit, KeyboardInterrupt) else suppress(kind):
                assert status(websocket, f"/coroutine?hook={error}") == 500
            ws.send(error)
            assert ws.receive() == error
    assert counts(websocket) == (0, 0, 0)
    websocket.stop()


@pytest.mark.parametrize("where", ["before", "hook", "after", "after_request", "teardown"])
def test_what_raises(websocket: WebSocket, where: str) -> None:
    for error, kind in ERRORS.items():
        try:
            assert status(websocket, f"/?{where}={error}") == 500
        except kind:
            # What Flask lets through is the server's to answer.
            assert error != "error" or where == "teardown"
        assert counts(websocket) == (0, 0, 0)
    echoes(websocket)


def test_what_answers_otherwise(websocket: WebSocket) -> None:
    for query, expected in (
        ("refuse=1", 403),
        ("answer=1", 404),
        ("replace=1", 409),
        ("veto=1", 409),
        ("header=1", 500),
        ("twice=1", 101),
    ):
        assert status(websocket, f"/?{query}") == expected
        assert counts(websocket) == (0, 0, 0)
    echoes(websocket)


class FaultyEngine:
    """An engine one of whose methods raises."""

    def __init__(self, engine: Engine, method: str, error: BaseException) -> None:
        self._engine = engine
        setattr(self, method, raising(error))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


@contextmanager
def faulty(websocket: WebSocket, what: str, error: BaseException) -> Iterator[None]:
    """Have what the middleware calls, of the engine or of others, raise an error."""
    engine: Any = websocket.engine
    with pytest.MonkeyPatch.context() as patch:
        if hasattr(engine, what):
            failing = FaultyEngine(engine, what, error)
            patch.setattr(AppState, "engine", failing)
        elif hasattr(Adapter, what):
            patch.setattr(TestingAdapter, what, raising(error))
        else:
            patch.setattr(take_over, what, raising(error))
        yield


def raising(error: BaseException) -> Callable[..., Any]:
    def function(*args: Any, **options: Any) -> Any:
        raise error

    return function


NO_DESCRIPTOR = OSError(errno.EMFILE, "Too many open files")
NO_THREAD = RuntimeError("can't start new thread")


def test_what_can_not_be_had(websocket: WebSocket, caplog: pytest.LogCaptureFixture) -> None:
    for error in (NO_DESCRIPTOR, NO_THREAD):
        for what in ("make_ready", "before_exit", "take_socket", "serve"):
            caplog.clear()
            with faulty(websocket, what, error):
                assert status(websocket) == 503
            assert str(error) in caplog.text
            assert counts(websocket) == (0, 0, 0)
    echoes(websocket)


def test_what_fails_once_the_socket_is_taken(
    websocket: WebSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = []
    release = PairTransport.release

    def note(transport: PairTransport) -> None:
        released.append(transport)
        release(transport)

    monkeypatch.setattr(PairTransport, "release", note)
    for error in (ValueError("x"), KeyboardInterrupt()):
        for what in ("detach_environ", "Connection", "announce", "serve"):
            released.clear()
            with faulty(websocket, what, error), pytest.raises(type(error)):
                status(websocket)
            assert len(released) == 1
            assert counts(websocket) == (0, 0, 0)
    monkeypatch.undo()
    echoes(websocket)


def test_a_connection_that_no_driver_can_be_made_for(
    websocket: WebSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a thread of ours, or on the loop, where nobody sees what is raised."""
    app = websocket.app
    assert app is not None
    with monkeypatch.context() as patch, app.test_client() as client:
        # A closed socket can't be watched.
        patch.setattr(PairTransport, "detach", lambda transport: transport.sock.close())
        with websocket_connect(client, "/") as ws:
            ws.assert_closed(1006)
    assert counts(websocket) == (0, 0, 0)
    echoes(websocket)


def test_slow_handshakes_reserve_their_places(websocket: WebSocket) -> None:
    app = websocket.app
    assert app is not None
    app.config["WSVIEWS_MAX_CONNECTIONS"] = 5
    app.config["WSVIEWS_MAX_CONNECTIONS_PER_ADDRESS"] = 100
    all_in, decided = threading.Barrier(5), threading.Event()

    @websocket.route("/slow")
    class Slow(WebSocketView):
        def on_handshake(self, ws: Any) -> None:
            all_in.wait(10)
            decided.wait(10)

    with ThreadPoolExecutor(20) as pool:
        futures = [pool.submit(status, websocket, "/slow") for _ in range(20)]
        # Fifteen are refused while five wait in their hooks.
        first = list(islice(as_completed(futures, 20), 15))
        decided.set()
        assert {future.result() for future in first} == {503}
        assert sorted(future.result(10) for future in futures) == [101] * 5 + [503] * 15
    assert counts(websocket) == (0, 0, 0)


def test_a_keeper_without_a_thread_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for engine in (BlockingEngine(), GeventEngine(), AsyncioEngine()):
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", raising(NO_THREAD))
            with pytest.raises(RuntimeError):
                engine.make_ready()
        engine.make_ready()
        engine.stop()


def test_a_keeper_without_descriptors_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("socket.socketpair", raising(NO_DESCRIPTOR))
        with pytest.raises(OSError, match="Too many"):
            Keeper()
    with monkeypatch.context() as patch:
        patch.setattr("os.pipe", raising(NO_DESCRIPTOR))
        with pytest.raises(OSError, match="Too many"):
            LoopThread(1, None)
