"""Import path of the clients: their code is in clients/."""

from .clients.asyncio import AsyncioWebSocketClient
from .clients.blocking import GeventWebSocketClient, WebSocketClient

__all__ = [
    "AsyncioWebSocketClient",
    "GeventWebSocketClient",
    "WebSocketClient",
]
