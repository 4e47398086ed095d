"""What watches connections: it is told everything, and harms nobody."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from flask import Flask
from support.servers import poll

from flask_wsviews import Observer, WebSocket, WebSocketView, signals
from flask_wsviews.client import WebSocketClient
from flask_wsviews.config import Settings
from flask_wsviews.observers import Traffic
from flask_wsviews.protocol.connection import Connection
from flask_wsviews.protocol.prepared import PreparedMessage
from flask_wsviews.testing import HandshakeRejected, websocket_connect


class Echo(WebSocketView):
    def on_message(self, ws: Any, message: Any) -> None:
        if message == "fail":
            raise LookupError
        ws.send(message)


@pytest.fixture
def app() -> Flask:
    return Flask(__name__)


@pytest.fixture
def websocket(app: Flask) -> Iterator[WebSocket]:
    made = WebSocket(app)
    made.add_url_rule("/echo", view_func=Echo)
    yield made
    made.stop()


class Everything(Observer):
    """Notes what it is told."""

    watches_messages = True
    watches_hooks = True

    def __init__(self) -> None:
        self.told: list[Any] = []

    def rejected(self, environ: Any, status: int) -> None:
        self.told.append(("rejected", environ["PATH_INFO"], status))

    def connected(self, ws: Any) -> None:
        self.told.append(("connected", ws.endpoint))

    def received(self, ws: Any, message: Any) -> None:
        self.told.append(("received", message))

    def sent(self, ws: Any, message: Any) -> None:
        self.told.append(("sent", message))

    @contextmanager
    def hook(self, ws: Any, name: str) -> Iterator[None]:
        self.told.append(("before", name))
        yield
        self.told.append(("after", name))

    def failed(self, ws: Any, error: Exception) -> None:
        self.told.append(("failed", type(error).__name__))

    def disconnected(self, ws: Any, summary: Any) -> None:
        self.told.append(("disconnected", summary))


class Broken(Observer):
    """Raises whatever it is told."""

    watches_messages = True
    watches_hooks = True

    def _break(self, *args: Any) -> Any:
        raise ValueError("an observer that is broken")

    rejected = connected = received = sent = hook = failed = disconnected = _break


class BrokenAtTheEnd(Observer):
    watches_hooks = True

    @contextmanager
    def hook(self, ws: Any, name: str) -> Iterator[None]:
        yield
        raise ValueError("an observer that is broken")


def refuse_echo_and_fail(app: Flask) -> None:
    """A handshake that is refused, and a connection with a message of each kind."""
    app.config["PROPAGATE_EXCEPTIONS"] = False
    with app.test_client() as client:
        with pytest.raises(HandshakeRejected):
            websocket_connect(client, "/nowhere")
        with websocket_connect(client, "/echo") as ws:
            ws.send("hello")
            assert ws.receive() == "hello"
            ws.send("fail")
            ws.assert_closed(1011)


def test_an_observer_is_told_everything(app: Flask, websocket: WebSocket) -> None:
    observer = Everything()
    websocket.add_observer(observer)
    refuse_echo_and_fail(app)
    poll(lambda: observer.told[-1][0] == "disconnected")
    *told, (_, summary) = observer.told
    assert told == [
        ("rejected", "/nowhere", 404),
        ("connected", "Echo"),
        ("before", "on_connect"),
        ("after", "on_connect"),
        ("received", "hello"),
        ("before", "on_message"),
        ("sent", "hello"),
        ("after", "on_message"),
        ("received", "fail"),
        ("before", "on_message"),
        ("failed", "LookupError"),
        ("after", "on_message"),
        ("before", "on_close"),
        ("after", "on_close"),
    ]
    assert (summary.endpoint, summary.path, summary.close_code) == ("Echo", "/echo", 1011)
    assert summary.duration >= 0
    assert summary.traffic.messages_received == 2
    assert summary.traffic.messages_sent == 1
    # A masked frame has 6 bytes before its payload, one of ours 2.
    assert summary.traffic.bytes_sent >= 2 + 5
    assert summary.traffic.bytes_received >= 6 + 5 + 6 + 4


@pytest.mark.parametrize(
    "observer", [Broken(), BrokenAtTheEnd()], ids=lambda one: type(one).__name__
)
def test_an_observer_that_fails_harms_nobody(
    observer: Observer, app: Flask, websocket: WebSocket, caplog: pytest.LogCaptureFixture
) -> None:
    websocket.add_observer(observer)
    with app.test_client() as client:
        with pytest.raises(HandshakeRejected):
            websocket_connect(client, "/nowhere")
        with websocket_connect(client, "/echo") as ws:
            ws.send("hello")
            assert ws.receive() == "hello"
    assert "an observer of WebSockets failed" in caplog.text


def test_an_observer_may_pass_over_everything(app: Flask, websocket: WebSocket) -> None:
    class Nothing(Observer):
        watches_messages = True
        watches_hooks = True

    websocket.add_observer(Nothing())
    refuse_echo_and_fail(app)


def test_the_base_class_has_a_context_for_hooks() -> None:
    context = Observer().hook(WebSocketClient({}), "on_message")
    assert isinstance(context, AbstractContextManager)


def test_receivers_of_messages_are_asked_for_once(app: Flask, websocket: WebSocket) -> None:
    heard = []

    def receiver(sender: Any, ws: Any, message: Any) -> None:
        heard.append(message)

    with app.test_client() as client, websocket_connect(client, "/echo") as early:
        early.send("early")
        assert early.receive() == "early"
        with signals.message_received.connected_to(receiver, app):
            with websocket_connect(client, "/echo") as late:
                late.send("late")
                assert late.receive() == "late"
            early.send("early again")
            assert early.receive() == "early again"
    assert heard == ["late"]


def test_the_line_of_a_connection(
    app: Flask, websocket: WebSocket, caplog: pytest.LogCaptureFixture
) -> None:
    def records() -> list[logging.LogRecord]:
        return [one for one in caplog.records if one.name == "flask_wsviews.connections"]

    def talk() -> None:
        with app.test_client() as client, websocket_connect(client, "/echo") as ws:
            ws.send("hello")
            assert ws.receive() == "hello"

    talk()
    assert "endpoint" not in caplog.text
    with caplog.at_level(logging.INFO, "flask_wsviews.connections"):
        talk()
        poll(records)
    [record] = records()
    fields = record.websocket  # type: ignore[attr-defined]
    assert fields["endpoint"] == "Echo"
    assert fields["messages_received"] == 1
    assert "hello" not in record.getMessage()


def test_traffic_before_the_handshake() -> None:
    assert WebSocketClient({}).traffic == Traffic()


def test_dropped_messages_are_counted() -> None:
    frame = PreparedMessage("x" * 1000)

    def counts(policy: str) -> tuple[int, int]:
        connection = Connection(Settings(max_send_buffer=2500), 0.0)
        for _ in range(5):
            if connection.state.value == "open":
                connection.send_prepared(frame, policy, 0.0)
        return connection.messages_sent, connection.messages_dropped

    assert counts("drop-newest") == (2, 3)
    assert counts("drop-oldest") == (2, 3)
    assert counts("close") == (2, 1)


def test_metrics_in_one_process(app: Flask, websocket: WebSocket) -> None:
    prometheus = pytest.importorskip("prometheus_client")
    from flask_wsviews.metrics import Metrics

    registry = prometheus.CollectorRegistry()
    metrics = Metrics(websocket, registry, prefix="chat")
    app.register_blueprint(metrics.blueprint)

    def value(name: str, **labels: str) -> Any:
        return registry.get_sample_value(f"chat_{name}", labels)

    with app.test_client() as client, websocket_connect(client, "/echo") as ws:
        ws.send("hello")
        assert ws.receive() == "hello"
        assert value("connections", endpoint="Echo") == 1
        page = client.get("/metrics").text
        assert 'chat_messages_total{direction="in",endpoint="Echo"} 1.0' in page
        assert "chat_broker_up 1.0" in page
    poll(lambda: value("connections", endpoint="Echo") == 0)
    assert value("connections_closed_total", endpoint="Echo", code="1000") == 1
    # It is asked at any time, also when nothing is open.
    metrics.count()
    assert value("messages_total", endpoint="Echo", direction="in") == 1
