"""The client for ``async def`` handlers: its methods return awaitables."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from ..close_codes import NORMAL_CLOSURE
from ..exceptions import check_close
from ..groups.outcome import Outcome
from ..protocol.pongs import ping_payload
from ..protocol.state import State
from ..typing import Sendable
from .base import BaseClient

if TYPE_CHECKING:
    from ..engines.asyncio_driver import AsyncioDriver, Drained
    from ..groups import Joined


class AsyncioWebSocketClient(BaseClient["Drained"]):
    """The client of :class:`~flask_wsviews.AsyncioWebSocket` in ``async def`` handlers.

    ``send()`` and ``close()`` take effect when you call them. Await the result to wait while the
    client is slow (backpressure).
    """

    def receive(self, timeout: float | None = None) -> Coroutine[Any, Any, Any]:
        """Wait for the next message, as :meth:`WebSocketClient.receive` does."""
        driver = self._opened_async()
        if self._receives_as_is:
            return driver.receive_async(timeout)
        return self._receive_async(driver, timeout)

    def recv(self, timeout: float | None = None) -> Coroutine[Any, Any, Any]:
        """Wait for the next message: an alias of :meth:`receive`."""
        return self.receive(timeout)

    def a_recv(self, timeout: float | None = None) -> Coroutine[Any, Any, Any]:
        """Wait for the next message: an alias of :meth:`receive`."""
        return self.receive(timeout)

    def recv_nb(self) -> Any:
        """Return the next message without waiting, as :meth:`WebSocketClient.recv_nb` does.

        :raises RuntimeError: if messages are counted in Redis, which would have to be waited for.
        """
        if self._meter is not None and self._meter.waits:
            raise RuntimeError(
                "recv_nb() would block the event loop, because messages are counted in "
                "WSVIEWS_RATE_LIMIT_STORAGE: await receive(timeout)"
            )
        return super().recv_nb()

    async def __aiter__(self) -> AsyncIterator[Any]:
        """Iterate over the messages until the connection is closed."""
        driver = self._opened_async()
        receive = driver.receive_async if self._receives_as_is else self.receive
        while (message := await receive()) is not None:
            yield message

    async def __anext__(self) -> Any:
        """Wait for the next message."""
        message = await self._receive_async(self._opened_async())
        if message is None:
            raise StopAsyncIteration
        return message

    def send(self, message: Sendable, binary: bool | None = None) -> Drained:
        """Send a message, as :meth:`WebSocketClient.send` does.

        If you don't await the result and more than ``WSVIEWS_MAX_SEND_BUFFER`` bytes are buffered,
        the connection is closed with 1008 Policy Violation.

        :returns: an awaitable that waits while the client is slow.
        """
        # Not _opened_async(): a call less for each message.
        driver: Any = self._driver or self._opened()
        if binary is not None or self._text_as_bytes:
            message = self._converted(message, binary)
        drained: Drained = driver.send_async(message)
        if self._watchers:
            self._observe_sent(message)
        return drained

    def a_send(self, message: Sendable, binary: bool | None = None) -> Drained:
        """Send a message: an alias of :meth:`send`."""
        return self.send(message, binary)

    def send_nb(self, message: Sendable) -> None:
        """Send a message without waiting.

        If the client is too slow, the connection is closed with 1008 Policy Violation.

        :raises ConnectionClosed: if the connection is closed.
        """
        driver = self._opened_async()
        if driver.connection.state is not State.OPEN:
            raise driver.connection.closed_error()
        if self._text_as_bytes:
            message = self._converted(message, None)
        driver._send_from_outside(message)
        if self._watchers:
            self._observe_sent(message)

    def join(
        self, group: str, since: str | None = None, meta: Mapping[str, Any] | None = None
    ) -> Outcome[Joined]:
        """Join a group, as :meth:`WebSocketClient.join` does.

        :returns: an awaitable that waits until the group's messages arrive. If you don't await it
            and joining fails, the error is logged and the connection is closed: with 1013 Try Again
            Later if the broker can't be reached.
        """
        return self._the_membership().join_async(group, since, meta)

    def leave(self, group: str) -> Outcome[None]:
        """Leave a group, as :meth:`WebSocketClient.leave` does.

        :returns: an awaitable that is already done: leaving takes effect when you call it.
        """
        self._leave(group)
        return Outcome()

    def ping(self, payload: str | bytes = b"") -> Drained:
        """Send a Ping, as :meth:`WebSocketClient.ping` does.

        :returns: an awaitable that waits while the client is slow.
        """
        return self._opened_async().ping_async(ping_payload(payload))

    def close(self, code: int = NORMAL_CLOSURE, reason: str = "") -> Drained:
        """Close the connection, as :meth:`WebSocketClient.close` does.

        :returns: an awaitable that waits until the close frame is sent.
        """
        check_close(code, reason)
        return self._opened_async().close_async(code, reason)

    def _opened_async(self) -> AsyncioDriver:
        # The engine of this class of clients makes no other kind; a cast would cost each message.
        return self._driver or self._opened()  # type: ignore[return-value]
