"""OpenTelemetry traces: a span for each connection, with a child span for each hook.

::

    from flask_wsviews.tracing import Tracing

    Tracing(websocket)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.propagate import extract
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider

from .observers import Observer, Summary

if TYPE_CHECKING:
    from .extension import WebSocket


class Tracing(Observer):
    """Makes a span for each connection, and a child span for each hook of a class-based view.

    A connection's span is a child of the span that the handshake's headers name. A hook's span is
    current while the hook runs, so the spans of database queries and HTTP requests that the hook
    makes are its children. A function route has only the connection's span.

    :param websocket: the extension to observe.
    :param tracer_provider: by default the global one of OpenTelemetry.
    """

    watches_hooks = True

    def __init__(self, websocket: WebSocket, tracer_provider: TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("flask_wsviews", tracer_provider=tracer_provider)
        self._spans: dict[str, Span] = {}
        websocket.add_observer(self)

    def connected(self, ws: Any) -> None:
        """Start the connection's span."""
        environ = ws.environ
        headers = {
            key.removeprefix("HTTP_").replace("_", "-").lower(): value
            for key, value in environ.items()
            if key.startswith("HTTP_") and isinstance(value, str)
        }
        self._spans[ws.id] = self._tracer.start_span(
            f"WS {ws.endpoint}",
            context=extract(headers),
            kind=SpanKind.SERVER,
            attributes={
                "url.path": environ.get("PATH_INFO", ""),
                "network.protocol.name": "websocket",
                "wsviews.endpoint": ws.endpoint,
                "wsviews.connection_id": ws.id,
            },
        )

    @contextmanager
    def hook(self, ws: Any, name: str) -> Iterator[None]:
        """Make a span that is current while the hook runs."""
        parent = trace.set_span_in_context(self._spans[ws.id])
        with self._tracer.start_as_current_span(f"{ws.endpoint} {name}", context=parent):
            yield

    def failed(self, ws: Any, error: Exception) -> None:
        """Record an exception in the hook's span; for a function route, in the connection's."""
        span = trace.get_current_span()
        if not span.is_recording():
            span = self._spans[ws.id]
        span.record_exception(error)
        span.set_status(Status(StatusCode.ERROR, type(error).__name__))

    def disconnected(self, ws: Any, summary: Summary) -> None:
        """End the connection's span."""
        span = self._spans.pop(ws.id)
        traffic = summary.traffic
        span.set_attributes(
            {
                "wsviews.close_code": summary.close_code,
                "wsviews.close_reason": summary.close_reason,
                "wsviews.messages_received": traffic.messages_received,
                "wsviews.messages_sent": traffic.messages_sent,
                "wsviews.bytes_received": traffic.bytes_received,
                "wsviews.bytes_sent": traffic.bytes_sent,
            }
        )
        span.end()
