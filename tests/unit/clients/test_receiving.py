"""What receiving promises on every engine: to look before it times out, and one at a time."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from math import inf
from typing import Any

import gevent
import pytest
import uvloop
from flask import Flask
from marshmallow import Schema, fields
from support.servers import poll

import flask_wsviews
from flask_wsviews import WebSocket
from flask_wsviews.common.steps import run_steps, run_steps_async
from flask_wsviews.testing import WebSocketTestClient, websocket_connect

# libuv opens a pipe for signals with its first loop, and keeps it.
uvloop.new_event_loop().close()

#: A handler, as a generator of the calls that a plain one makes and a coroutine awaits.
Steps = Generator[Callable[[], Any], Any, None]
Script = Callable[[Any], Steps]

ENGINES = {
    "blocking": "WebSocket",
    "gevent": "GeventWebSocket",
    "asyncio": "AsyncioWebSocket",
    "coroutines": "AsyncioWebSocket",
}
LITTLE = [0, 0.0, -1, 1e-9, 1e-6]


class Hub:
    """A thread whose greenlets are switched by a hub, as those of a server with gevent are."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._is_over = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._is_over:
            while not self._work.empty():
                gevent.spawn(self._work.get())
            gevent.sleep(0.002)
        gevent.get_hub().destroy(destroy_loop=True)

    def call(self, function: Callable[[], Any]) -> Any:
        """Call *function* in a greenlet; returns what it returns."""
        future: Future[Any] = Future()

        def work() -> None:
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        self._work.put(work)
        return future.result(10)

    def stop(self) -> None:
        self._is_over = True
        self._thread.join(10)


class Site:
    """An application with an engine, whose function routes run what a test gives them."""

    def __init__(self, engine: str) -> None:
        self.app = Flask("site")
        self.app.config["WSVIEWS_CLOSE_TIMEOUT"] = 0.3
        self.engine = engine
        self.websocket: WebSocket = getattr(flask_wsviews, ENGINES[engine])(self.app)
        self.is_async = engine == "coroutines"
        self.tasks: list[asyncio.Future[None]] = []
        self._hub = Hub() if engine == "gevent" else None

    def connect(self, script: Script, **options: Any) -> WebSocketTestClient:
        if self.is_async:

            async def serve(ws: Any) -> None:
                await run_steps_async(script(ws))
        else:

            def serve(ws: Any) -> None:  # type: ignore[misc]
                run_steps(script(ws))

        self.websocket.add_url_rule("/", "serve", serve, **options)

        def connect() -> WebSocketTestClient:
            return websocket_connect(self.app.test_client(), "/")

        return self.call(connect)  # type: ignore[no-any-return]

    def call(self, function: Callable[[], Any]) -> Any:
        """Call *function* outside of the handler, where the engine allows it."""
        return function() if self._hub is None else self._hub.call(function)

    def pause(self) -> Any:
        """For a handler: let others go on."""
        if self.is_async:
            return asyncio.sleep(0.002)
        return gevent.sleep(0.002) if self.engine == "gevent" else time.sleep(0.002)

    def begin_to_receive(self, ws: Any, timeout: float | None, received: list[object]) -> None:
        """For a handler: have another thread, greenlet or task receive."""
        if self.is_async:

            async def receive() -> None:
                received.append(await ws.receive(timeout))

            self.tasks.append(asyncio.ensure_future(receive()))
        elif self.engine == "gevent":
            gevent.spawn(lambda: received.append(ws.receive(timeout)))
        else:
            threading.Thread(target=lambda: received.append(ws.receive(timeout))).start()

    def stop(self) -> None:
        self.websocket.stop()
        if self._hub is not None:
            self._hub.stop()


@pytest.fixture(params=ENGINES)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    made = Site(request.param)
    yield made
    made.stop()


@pytest.fixture
def sent() -> threading.Event:
    """Set once the client's bytes are in the kernel; who waits for it blocks a loop."""
    return threading.Event()


@pytest.mark.parametrize("timeout", LITTLE)
def test_a_timeout_of_nothing_is_for_what_is_there(
    site: Site, sent: threading.Event, timeout: float
) -> None:
    def script(ws: Any) -> Steps:
        yield lambda: ws.send("begun")
        assert sent.wait(10)
        message = yield lambda: ws.receive(timeout=timeout)
        yield lambda: ws.send(message)
        try:
            yield lambda: ws.receive(timeout=timeout)
        except TimeoutError as error:
            text = str(error)
            yield lambda: ws.send(text)

    with site.connect(script) as ws:
        assert ws.receive() == "begun"
        ws.send("there")
        sent.set()
        assert ws.receive() == "there"
        assert ws.receive() == f"no message within {timeout:g} s"


@pytest.mark.parametrize("timeout", LITTLE)
def test_a_loop_that_polls_hears_messages_and_the_end(site: Site, timeout: float) -> None:
    ends: list[int] = []

    def script(ws: Any) -> Steps:
        while True:
            try:
                message = yield lambda: ws.receive(timeout=timeout)
            except TimeoutError:
                continue
            if message is None:
                ends.append(ws.close_code)
                return
            yield lambda message=message: ws.send(message)

    with site.connect(script) as ws:
        for message in ("one", "two" * 100_000):
            ws.send(message)
            assert ws.receive() == message
        ws.close(1001)
    assert ends == [1001]


def test_a_client_that_vanishes_ends_a_loop_that_polls(site: Site) -> None:
    ends: list[int] = []

    def script(ws: Any) -> Steps:
        yield lambda: ws.send("begun")
        while True:
            try:
                if (yield lambda: ws.receive(timeout=0)) is None:
                    break
            except TimeoutError:
                continue
        ends.append(ws.close_code)

    with site.connect(script) as ws:
        assert ws.receive() == "begun"
        ws.vanish()
    assert ends == [1006]


def test_recv_nb_is_for_what_is_there(site: Site, sent: threading.Event) -> None:
    def script(ws: Any) -> Steps:
        yield lambda: ws.send("begun")
        assert sent.wait(10)
        message = ws.recv_nb()
        yield lambda: ws.send(message)
        nothing = ws.recv_nb()
        yield lambda: ws.send(nothing)

    with site.connect(script) as ws:
        assert ws.receive() == "begun"
        ws.send("there")
        sent.set()
        assert ws.receive() == "there"
        assert ws.receive() == ""


def test_a_timeout_without_end(site: Site) -> None:
    def script(ws: Any) -> Steps:
        message = yield lambda: ws.receive(timeout=inf)
        yield lambda: ws.send(message)

    with site.connect(script) as ws:
        ws.send("late")
        assert ws.receive() == "late"


class Number(Schema):
    number = fields.Integer(required=True)


def test_what_is_there_may_have_something_unusable_before_it(
    site: Site, sent: threading.Event
) -> None:
    def script(ws: Any) -> Steps:
        yield lambda: ws.send("begun")
        assert sent.wait(10)
        data = yield lambda: ws.receive(timeout=0)
        number = str(data["number"])
        yield lambda: ws.send(number)

    with site.connect(script, message_schema=Number) as ws:
        assert ws.receive() == "begun"
        ws.send("nonsense")
        ws.send('{"number": 5}')
        sent.set()
        assert ws.receive_json()["type"] == "error"
        assert ws.receive() == "5"


@pytest.mark.parametrize("timeout", [inf, 1e12], ids=["inf", "long"])
def test_the_testing_client_waits_for_as_long_as_it_takes(site: Site, timeout: float) -> None:
    def script(ws: Any) -> Steps:
        ws.send((yield lambda: ws.receive(timeout=timeout)))

    with site.connect(script) as ws:
        ws.send("hello")
        assert ws.receive(timeout) == "hello"
        ws.assert_closed(1000, timeout=timeout)


def test_the_testing_client_looks_before_it_times_out(site: Site) -> None:
    def script(ws: Any) -> Steps:
        yield lambda: ws.send("much" * 100_000)
        yield lambda: ws.receive()

    def now(timeout: float) -> object:
        try:
            return ws.receive(timeout)
        except TimeoutError:
            return None

    with site.connect(script) as ws:
        assert poll(lambda: now(0)) == "much" * 100_000
        for timeout in LITTLE:
            with pytest.raises(TimeoutError, match="no message within"):
                ws.receive(timeout)


# -- one at a time ------------------------------------------------------------------------------


def refusal(receive: Callable[[], object]) -> str:
    """Why nobody else may receive; empty if somebody may."""
    try:
        receive()
    except RuntimeError as error:
        return str(error)
    return ""


def test_recv_nb_beside_a_receiver_is_refused(site: Site) -> None:
    clients: list[Any] = []

    def script(ws: Any) -> Steps:
        clients.append(ws)
        while (message := (yield lambda: ws.receive())) is not None:
            yield lambda message=message: ws.send(message)

    with site.connect(script) as ws:
        other = poll(lambda: clients and clients[0])
        # The handler may be on its way to receive().
        reason = poll(lambda: site.call(lambda: refusal(other.recv_nb)))
        assert "is already in receive() of this connection" in reason
        for message in ("one", b"two"):
            ws.send(message)
            assert ws.receive() == message


@pytest.mark.parametrize("timeout", [None, 20.0])
@pytest.mark.parametrize("leave", ["close", "vanish"])
def test_the_end_while_somebody_else_receives(
    site: Site, timeout: float | None, leave: str
) -> None:
    received: list[object] = []

    def script(ws: Any) -> Steps:
        site.begin_to_receive(ws, timeout, received)
        while not received and not refusal(ws.recv_nb):
            yield site.pause

    with site.connect(script) as ws:
        if leave == "close":
            ws.assert_closed(1000)
        else:
            ws.vanish()
    assert poll(lambda: received) == [None]
    # The leak detector sees that the other one and all descriptors are gone.


def test_a_client_that_never_answers_while_somebody_else_receives(site: Site) -> None:
    received: list[object] = []

    def script(ws: Any) -> Steps:
        site.begin_to_receive(ws, None, received)
        while not received and not refusal(ws.recv_nb):
            yield site.pause

    ws = site.connect(script)
    with contextlib.closing(ws._frames._sock):
        assert ws._transport.released.wait(10)
    assert poll(lambda: received) == [None]
    ws.vanish()


def test_nobody_receives_from_what_has_ended(site: Site) -> None:
    clients: list[Any] = []

    def script(ws: Any) -> Steps:
        clients.append(ws)
        yield lambda: ws.send("bye")

    with site.connect(script) as ws:
        assert ws.receive() == "bye"
    [client] = clients
    if not site.is_async:
        assert site.call(client.receive) is None
        assert site.call(lambda: client.receive(timeout=0)) is None
    assert site.call(client.recv_nb) is None
