"""A client for tests: it talks to an application's WebSockets without a server."""

from __future__ import annotations

from .broadcasts import Broadcast, Disconnect, captured_broadcasts, captured_disconnects
from .client import HandshakeRejected, WebSocketTestClient, websocket_connect
from .coroutines import AsyncWebSocketTestClient, async_websocket_connect

__all__ = [
    "AsyncWebSocketTestClient",
    "Broadcast",
    "Disconnect",
    "HandshakeRejected",
    "WebSocketTestClient",
    "async_websocket_connect",
    "captured_broadcasts",
    "captured_disconnects",
    "websocket_connect",
]
