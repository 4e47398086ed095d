"""Import path of the middlewares: their code is in handshake/."""

from .handshake.middleware import (
    AsyncioWebSocketMiddleware,
    GeventWebSocketMiddleware,
    Upgrade,
    WebSocketMiddleware,
)

__all__ = [
    "AsyncioWebSocketMiddleware",
    "GeventWebSocketMiddleware",
    "Upgrade",
    "WebSocketMiddleware",
]
