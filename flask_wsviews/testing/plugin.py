"""Fixtures for pytest. They use a fixture ``app`` that returns the application."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from flask import Flask

    from . import Broadcast, Disconnect, WebSocketTestClient


@pytest.fixture
def ws_client(app: Flask) -> Iterator[Callable[..., WebSocketTestClient]]:
    """A function that opens WebSockets, which are closed when the test ends::

        ws = ws_client("/chat/lobby")

    They share the cookies of one Flask test client, ``ws_client.client``.
    """
    from . import websocket_connect

    with ExitStack() as stack:
        client = stack.enter_context(app.test_client())

        def connect(path: str, **options: Any) -> WebSocketTestClient:
            return stack.enter_context(websocket_connect(client, path, **options))

        connecting: Any = connect
        connecting.client = client
        yield connecting
    _stop(app)


@pytest.fixture
def broadcasts(app: Flask) -> Iterator[list[Broadcast]]:
    """The messages that the application publishes to its groups during the test."""
    from . import captured_broadcasts

    with captured_broadcasts(app) as found:
        yield found


@pytest.fixture
def disconnects(app: Flask) -> Iterator[list[Disconnect]]:
    """The calls of ``websocket.disconnect()`` during the test."""
    from . import captured_disconnects

    with captured_disconnects(app) as found:
        yield found


def _stop(app: Flask) -> None:
    from ..app_state import EXTENSION

    app.extensions[EXTENSION].stop()
