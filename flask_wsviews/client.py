"""Import path of the clients: their code is in clients/."""

from .clients.base import AsyncioWebSocketClient, GeventWebSocketClient, WebSocketClient

__all__ = [
    "AsyncioWebSocketClient",
    "GeventWebSocketClient",
    "WebSocketClient",
]
