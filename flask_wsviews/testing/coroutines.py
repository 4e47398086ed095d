"""The test client for coroutines: each call waits in a thread."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..close_codes import NORMAL_CLOSURE
from ..typing import Message, Sendable
from .client import TIMEOUT, WebSocketTestClient
from .connect import websocket_connect

if TYPE_CHECKING:
    from flask.testing import FlaskClient


class AsyncWebSocketTestClient:
    """A :class:`WebSocketTestClient` whose methods are awaited.

    :param arguments: the positional arguments for :func:`websocket_connect`.
    :param options: the keyword arguments for it.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._arguments = arguments
        self._options = options
        #: The client that does the work.
        self.ws: WebSocketTestClient

    async def __aenter__(self) -> AsyncWebSocketTestClient:
        self.ws = await asyncio.to_thread(websocket_connect, *self._arguments, **self._options)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.ws.__exit__, kind, error, traceback)

    async def send(self, message: Sendable) -> None:
        """Send a message."""
        await asyncio.to_thread(self.ws.send, message)

    async def send_json(self, value: Any) -> None:
        """Send *value* as JSON."""
        await asyncio.to_thread(self.ws.send_json, value)

    async def receive(self, timeout: float = TIMEOUT) -> Message:
        """Wait for the next message and return it."""
        return await asyncio.to_thread(self.ws.receive, timeout)

    async def receive_json(self, timeout: float = TIMEOUT) -> Any:
        """Wait for the next message and return its JSON value."""
        return await asyncio.to_thread(self.ws.receive_json, timeout)

    async def close(self, code: int = NORMAL_CLOSURE, reason: str = "") -> None:
        """Close the connection, and wait for the server's close frame."""
        await asyncio.to_thread(self.ws.close, code, reason)

    async def assert_closed(
        self, code: int | None = None, reason: str | None = None, timeout: float = TIMEOUT
    ) -> None:
        """Check that the server closes the connection, with this code and reason if given."""
        await asyncio.to_thread(self.ws.assert_closed, code, reason, timeout)


def async_websocket_connect(
    client: FlaskClient, path: str, **options: Any
) -> AsyncWebSocketTestClient:
    """Open a WebSocket in a coroutine, as :func:`websocket_connect` does.

    The client's methods are coroutines::

        async with async_websocket_connect(app.test_client(), "/echo") as ws:
            await ws.send("hello")
            assert await ws.receive() == "hello"
    """
    return AsyncWebSocketTestClient(client, path, **options)
