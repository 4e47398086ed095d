"""Prometheus metrics of an application's WebSockets, and a page that exports them.

::

    from flask_wsviews.metrics import Metrics

    metrics = Metrics(websocket)
    app.register_blueprint(metrics.blueprint)  # GET /metrics

With several workers, set ``PROMETHEUS_MULTIPROC_DIR`` to an empty folder before they start. Each
worker writes its own files there, and the page of any worker adds them up.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import flask
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

from .app_state import groups_of
from .common.threads import start_thread
from .observers import Observer, Summary, Traffic
from .typing import Environ

if TYPE_CHECKING:
    from .extension import WebSocket

#: Seconds between two counts of the messages and bytes of open connections.
INTERVAL = 1.0

#: Upper bounds of the histogram of hook durations, in seconds.
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics(Observer):
    """Counts connections, handshakes, messages, bytes, exceptions and close codes; times hooks.

    Messages and bytes are counted once a second and at the end of each connection, so the metrics
    add no cost per message. Each hook is timed.

    :param websocket: the extension to observe.
    :param registry: the registry of the metrics; by default the global one of prometheus_client.
    :param prefix: the prefix of the metrics' names.
    :param buckets: upper bounds of the histogram of hook durations, in seconds.
    """

    watches_hooks = True

    def __init__(
        self,
        websocket: WebSocket,
        registry: CollectorRegistry = REGISTRY,
        prefix: str = "wsviews",
        buckets: Iterable[float] = BUCKETS,
    ) -> None:
        self._websocket = websocket
        self._registry = registry
        self._lock = threading.Lock()
        self._counted: dict[Any, Traffic] = {}
        self._has_thread = False

        def name(rest: str) -> str:
            return f"{prefix}_{rest}"

        def counter(rest: str, text: str, *labels: str) -> Counter:
            return Counter(name(rest), text, labels, registry=registry)

        self.connections = Gauge(
            name("connections"),
            "Open WebSockets.",
            ["endpoint"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.opened = counter("connections_opened", "WebSockets that were opened.", "endpoint")
        self.closed = counter(
            "connections_closed", "WebSockets that have ended, by close code.", "endpoint", "code"
        )
        self.handshakes = counter("handshakes", "Answers to handshakes, by HTTP status.", "status")
        self.messages = counter("messages", "Messages received and sent.", "endpoint", "direction")
        self.bytes = counter("bytes", "Bytes received and sent.", "endpoint", "direction")
        self.dropped = counter(
            "messages_dropped",
            "Group messages that were dropped for slow clients.",
            "endpoint",
        )
        self.errors = counter("errors", "Exceptions of handlers.", "endpoint")
        self.hooks = Histogram(
            name("hook_seconds"),
            "How long hooks of class-based views took.",
            ["endpoint", "hook"],
            registry=registry,
            buckets=tuple(buckets),
        )
        self.broker = Gauge(
            name("broker_up"),
            "Whether the broker of the groups answers: 0 if it fails in any worker.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        #: Register it to serve the page ``/metrics``.
        self.blueprint = flask.Blueprint("wsviews_metrics", __name__)
        self.blueprint.add_url_rule("/metrics", "show", self.show)
        websocket.add_observer(self)

    def show(self) -> flask.Response:
        """Return the page, in the text format that Prometheus reads."""
        self.count()
        return flask.Response(generate_latest(self._collected()), content_type=CONTENT_TYPE_LATEST)

    def count(self) -> None:
        """Count the messages and bytes of this worker's open connections since the last count."""
        with self._lock:
            for ws in self._counted:
                self._count(ws, ws.traffic)
        app = self._websocket.app
        if app is not None:
            self.broker.set(groups_of(app).broker.is_reachable)

    def _collected(self) -> CollectorRegistry:
        folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        if folder is None:
            return self._registry
        untyped: Any = multiprocess
        for pid in _dead_workers(Path(folder)):
            untyped.mark_process_dead(pid, folder)
        registry = CollectorRegistry()
        untyped.MultiProcessCollector(registry, folder)
        return registry

    # -- as an observer ---------------------------------------------------------------------------

    def rejected(self, environ: Environ, status: int) -> None:
        """Count a refused handshake."""
        self.handshakes.labels(str(status)).inc()

    def connected(self, ws: Any) -> None:
        """Count a connection."""
        self.handshakes.labels("101").inc()
        self.opened.labels(ws.endpoint).inc()
        self.connections.labels(ws.endpoint).inc()
        with self._lock:
            self._counted[ws] = Traffic()
            if not self._has_thread:
                start_thread(self._run, "wsviews-metrics")
                self._has_thread = True

    @contextmanager
    def hook(self, ws: Any, name: str) -> Iterator[None]:
        """Time a hook."""
        began = perf_counter()
        try:
            yield
        finally:
            self.hooks.labels(ws.endpoint, name).observe(perf_counter() - began)

    def failed(self, ws: Any, error: Exception) -> None:
        """Count an exception."""
        self.errors.labels(ws.endpoint).inc()

    def disconnected(self, ws: Any, summary: Summary) -> None:
        """Count the end of a connection."""
        with self._lock:
            self._count(ws, summary.traffic)
            self._counted.pop(ws, None)
        self.connections.labels(ws.endpoint).dec()
        self.closed.labels(ws.endpoint, str(summary.close_code)).inc()

    def _count(self, ws: Any, now: Traffic) -> None:
        before = self._counted.get(ws)
        if before is None or before == now:
            return
        # Messages that were counted as sent may be dropped later, and counters never decrease.
        now = replace(now, messages_sent=max(now.messages_sent, before.messages_sent))
        self._counted[ws] = now
        endpoint = ws.endpoint
        received = now.messages_received - before.messages_received
        self.messages.labels(endpoint, "in").inc(received)
        self.messages.labels(endpoint, "out").inc(now.messages_sent - before.messages_sent)
        self.bytes.labels(endpoint, "in").inc(now.bytes_received - before.bytes_received)
        self.bytes.labels(endpoint, "out").inc(now.bytes_sent - before.bytes_sent)
        self.dropped.labels(endpoint).inc(now.messages_dropped - before.messages_dropped)

    def _run(self) -> None:
        """Count every ``INTERVAL`` seconds, until there are no connections."""
        pause = threading.Event()
        while not self._ends():
            pause.wait(INTERVAL)
            self.count()

    def _ends(self) -> bool:
        with self._lock:
            self._has_thread = bool(self._counted)
            return not self._has_thread


def _dead_workers(folder: Path) -> Iterator[int]:
    """Yield the ids of processes that have ended but left a file of a live gauge."""
    for path in folder.glob("gauge_live*.db"):
        pid: Any = path.stem.rpartition("_")[2]
        if pid.isdigit() and not Path("/proc", pid).exists():
            yield int(pid)
