"""Tools for tests: a client that needs no server, and captured broadcasts."""

from __future__ import annotations

from .broadcasts import Broadcast, Disconnect, captured_broadcasts, captured_disconnects
from .client import WebSocketTestClient
from .connect import HandshakeRejected, websocket_connect
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
