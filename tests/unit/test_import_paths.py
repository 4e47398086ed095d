"""Where applications import public names from: each path stays when code moves."""

from __future__ import annotations

from importlib import import_module

import pytest

PATHS = {
    "blueprints": ["Blueprint"],
    "client": ["AsyncioWebSocketClient", "GeventWebSocketClient", "WebSocketClient"],
    "config": ["Settings"],
    "connection": ["Connection", "PreparedMessage", "State"],
    "dispatcher": ["Dispatcher"],
    "engines": ["Engine"],
    "engines.asyncio": ["Drained"],
    "extension": ["AsyncWebSocket", "AsyncioWebSocket", "GeventWebSocket", "WebSocket"],
    "groups": ["Broker", "Group", "GroupMember", "History", "Outcome", "PresenceStore"],
    "groups.base": ["Broker", "Delivery", "make_id", "new_epoch", "parse_id"],
    "groups.brokers": ["REGISTRY", "make_broker"],
    "groups.wire": ["decode", "encode"],
    "handshake": ["UpgradeRequired"],
    "messages": ["ErrorMessage", "SchemaLike", "message"],
    "metrics": ["Metrics"],
    "middleware": ["Upgrade", "WebSocketMiddleware"],
    "observers": ["Observer", "Summary", "Traffic"],
    "signals": ["message_received", "websocket_connected"],
    "testing": ["WebSocketTestClient", "captured_broadcasts", "websocket_connect"],
    "tracing": ["Tracing"],
    "typing": ["Message", "Sendable"],
    "views": ["WebSocketView"],
}


@pytest.mark.parametrize("path", PATHS)
def test_public_names_stay_importable(path: str) -> None:
    module = import_module(f"flask_wsviews.{path}")
    assert {name for name in PATHS[path] if not hasattr(module, name)} == set()
