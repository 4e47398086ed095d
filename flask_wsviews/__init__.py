"""Class-based WebSocket views for Flask, built for uWSGI."""

from .asyncapi import AsyncAPI
from .blueprints import Blueprint
from .clients.asyncio import AsyncioWebSocketClient
from .clients.blocking import GeventWebSocketClient, WebSocketClient
from .conversation.conversation import Conversation as Dispatcher
from .engines import Engine
from .exceptions import (
    BrokerUnavailable,
    CloseConnection,
    CommandError,
    ConfigError,
    ConnectionClosed,
    EngineError,
    GroupError,
    GroupRefused,
    InvalidMessage,
    OutgoingMessageError,
    RegistrationError,
    ServerError,
    WSViewsError,
)
from .extension import AsyncioWebSocket, AsyncWebSocket, GeventWebSocket, WebSocket
from .groups import Broker, Group, GroupMember, Joined, PresenceStore, Publisher
from .handshake.middleware import (
    AsyncioWebSocketMiddleware,
    GeventWebSocketMiddleware,
    Upgrade,
    WebSocketMiddleware,
)
from .messages import ErrorMessage, message
from .observers import Observer, Summary, Traffic
from .protocol.connection import Connection
from .protocol.opening import UpgradeRequired
from .views import WebSocketView

# Names that Flask-uWSGI-WebSocket had.
AsyncWebSocketClient = WebSocketClient
AsyncWebSocketMiddleware = WebSocketMiddleware
GeventNotInstalled = AsyncioNotAvailable = EngineError

__version__ = "0.1.0"

__all__ = [
    "AsyncAPI",
    "AsyncWebSocket",
    "AsyncWebSocketClient",
    "AsyncWebSocketMiddleware",
    "AsyncioNotAvailable",
    "AsyncioWebSocket",
    "AsyncioWebSocketClient",
    "AsyncioWebSocketMiddleware",
    "Blueprint",
    "Broker",
    "BrokerUnavailable",
    "CloseConnection",
    "CommandError",
    "ConfigError",
    "Connection",
    "ConnectionClosed",
    "Dispatcher",
    "Engine",
    "EngineError",
    "ErrorMessage",
    "GeventNotInstalled",
    "GeventWebSocket",
    "GeventWebSocketClient",
    "GeventWebSocketMiddleware",
    "Group",
    "GroupError",
    "GroupMember",
    "GroupRefused",
    "InvalidMessage",
    "Joined",
    "Observer",
    "OutgoingMessageError",
    "PresenceStore",
    "Publisher",
    "RegistrationError",
    "ServerError",
    "Summary",
    "Traffic",
    "Upgrade",
    "UpgradeRequired",
    "WSViewsError",
    "WebSocket",
    "WebSocketClient",
    "WebSocketMiddleware",
    "WebSocketView",
    "message",
]
