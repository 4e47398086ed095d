"""Class-based WebSocket views for Flask, built for uWSGI."""

from .blueprints import Blueprint
from .client import GeventWebSocketClient, WebSocketClient
from .connection import Connection
from .dispatcher import Dispatcher
from .engines import Engine
from .exceptions import (
    CloseConnection,
    CommandError,
    ConfigError,
    ConnectionClosed,
    EngineError,
    RegistrationError,
    ServerError,
    WSViewsError,
)
from .extension import GeventWebSocket, WebSocket
from .handshake import UpgradeRequired
from .middleware import GeventWebSocketMiddleware, Upgrade, WebSocketMiddleware
from .views import WebSocketView

__version__ = "0.1.0"

__all__ = [
    "Blueprint",
    "CloseConnection",
    "CommandError",
    "ConfigError",
    "Connection",
    "ConnectionClosed",
    "Dispatcher",
    "Engine",
    "EngineError",
    "GeventWebSocket",
    "GeventWebSocketClient",
    "GeventWebSocketMiddleware",
    "RegistrationError",
    "ServerError",
    "Upgrade",
    "UpgradeRequired",
    "WSViewsError",
    "WebSocket",
    "WebSocketClient",
    "WebSocketMiddleware",
    "WebSocketView",
]
