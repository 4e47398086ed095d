"""The client of handlers that are ``async def``: what its methods return may be awaited."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from ..close_codes import NORMAL_CLOSURE
from ..exceptions import check_close
from ..groups.outcome import Outcome
from ..protocol.connection import State
from ..protocol.pongs import ping_payload
from ..typing import Sendable
from .base import BaseClient

if TYPE_CHECKING:
    from ..engines.asyncio import AsyncioDriver, Drained
    from ..groups import Joined


class AsyncioWebSocketClient(BaseClient["Drained"]):
    """The client of :class:`~flask_wsviews.AsyncioWebSocket` for handlers that are ``async def``.

    ``send()`` and ``close()`` do their work when they are called; awaiting what they return waits
    while the client is slow.
    """

    def receive(self, timeout: float | None = None) -> Coroutine[Any, Any, Any]:
        """Wait for the next message, as :meth:`WebSocketClient.receive` does."""
        driver = self._opened_async()
        if self._receives_as_is:
            return driver.receive_async(timeout)
        return self._receive_async(driver, timeout)

    def recv(self, timeout: float | None = None) -> Coroutine[Any, Any, Any]:
        """The same as :meth:`receive`."""
        return self.receive(timeout)

    def a_recv(self, timeout: float | None = None) -> Coroutine[Any, Any, Any]:
        """The same as :meth:`receive`."""
        return self.receive(timeout)

    def recv_nb(self) -> Any:
        """The next message without waiting for it, as :meth:`WebSocketClient.recv_nb`.

        :raises RuntimeError: if messages are counted where counting takes a while: in Redis.
        """
        if self._meter is not None and self._meter.waits:
            raise RuntimeError(
                "recv_nb() would block the event loop, as messages are counted in "
                "WSVIEWS_RATE_LIMIT_STORAGE: await receive(timeout)"
            )
        return super().recv_nb()

    async def __aiter__(self) -> AsyncIterator[Any]:
        """The messages up to the end of the connection."""
        driver = self._opened_async()
        receive = driver.receive_async if self._receives_as_is else self.receive
        while (message := await receive()) is not None:
            yield message

    async def __anext__(self) -> Any:
        """The next message."""
        message = await self._receive_async(self._opened_async())
        if message is None:
            raise StopAsyncIteration
        return message

    def send(self, message: Sendable, binary: bool | None = None) -> Drained:
        """Send a message, as :meth:`WebSocketClient.send` does.

        Who never awaits it loses a client that has more than ``WSVIEWS_MAX_SEND_BUFFER`` bytes to
        catch up: it is closed with 1008.

        :returns: what may be awaited, to wait while the client is slow.
        """
        driver = self._opened_async()
        if binary is not None or self._text_as_bytes:
            message = self._converted(message, binary)
        drained = driver.send_async(message)
        if self._watchers:
            self._tell_sent(message)
        return drained

    def a_send(self, message: Sendable, binary: bool | None = None) -> Drained:
        """The same as :meth:`send`."""
        return self.send(message, binary)

    def send_nb(self, message: Sendable) -> None:
        """Send without waiting; a client that lags behind by too much is closed with 1008.

        :raises ConnectionClosed: if the connection is closed.
        """
        driver = self._opened_async()
        if driver.connection.state is not State.OPEN:
            raise driver.connection.closed_error()
        if self._text_as_bytes:
            message = self._converted(message, None)
        driver._send_from_outside(message)
        if self._watchers:
            self._tell_sent(message)

    def join(
        self, group: str, since: str | None = None, meta: Mapping[str, Any] | None = None
    ) -> Outcome[Joined]:
        """Join a group, as :meth:`WebSocketClient.join` does.

        :returns: what may be awaited, until messages arrive. If it isn't awaited and fails, that
            is logged and the connection closed: with 1013 if the broker can't be reached.
        """
        return self._the_membership().join_async(group, since, meta)

    def leave(self, group: str) -> Outcome[None]:
        """Leave a group, as :meth:`WebSocketClient.leave` does.

        :returns: what may be awaited; it is done when it is called.
        """
        self._leave(group)
        return Outcome()

    def ping(self, payload: str | bytes = b"") -> Drained:
        """Send a Ping, as :meth:`WebSocketClient.ping` does.

        :returns: what may be awaited, to wait while the client is slow.
        """
        return self._opened_async().ping_async(ping_payload(payload))

    def close(self, code: int = NORMAL_CLOSURE, reason: str = "") -> Drained:
        """Close the connection, as :meth:`WebSocketClient.close` does.

        :returns: what may be awaited, until the close frame is out.
        """
        check_close(code, reason)
        return self._opened_async().close_async(code, reason)

    def _opened_async(self) -> AsyncioDriver:
        return self._driver or self._opened()  # type: ignore[return-value]
