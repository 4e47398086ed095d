"""A WebSocket that was accepted: what an engine runs, and what its observers are told of it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from time import monotonic
from typing import TYPE_CHECKING, cast

from ..close_codes import ABNORMAL_CLOSURE
from ..observers import Observer, Summary, tell

if TYPE_CHECKING:
    from flask import Request

    from ..clients.base import WebSocketClient
    from ..engines import Driver
    from ..typing import AsyncDriver
    from .dispatcher import Dispatcher

#: How a connection ended of which nothing is known (RFC 6455 7.1.5).


class Accepted:
    """The conversation of an accepted WebSocket.

    :param client: what the hooks get.
    :param dispatcher: runs them.
    :param request: that of the handshake.
    :param observers: are told of the beginning and of the end.
    :param give_back: is called at the end.
    """

    # It lasts as long as its connection does, so it holds nothing that only the handshake needs.
    __slots__ = ("_client", "_dispatcher", "_give_back", "_observers", "_request")

    def __init__(
        self,
        client: WebSocketClient,
        dispatcher: Dispatcher,
        request: Request,
        observers: Sequence[Observer],
        give_back: Callable[[], object] | None,
    ) -> None:
        self._client = client
        self._dispatcher = dispatcher
        self._request = request
        self._observers = observers
        self._give_back = give_back

    def converse(self, driver: Driver) -> bool:
        """See :meth:`Conversation.converse`."""
        if self._client._driver is None:
            self._begin(driver)
        return self._dispatcher.converse(driver)

    def converse_async(self, driver: AsyncDriver) -> Coroutine[None, None, bool]:
        """See :meth:`Conversation.converse_async`."""
        if self._client._driver is None:
            self._begin(cast("Driver", driver))
        return self._dispatcher.converse_async(driver)

    @property
    def needs_turn(self) -> bool:
        """See :attr:`Conversation.needs_turn`."""
        return self._dispatcher.needs_turn

    def skip_turn(self, driver: Driver) -> bool:
        """See :meth:`Conversation.skip_turn`."""
        if self._client._driver is None:
            self._begin(driver)
        return self._dispatcher.skip_turn()

    def _begin(self, driver: Driver) -> None:
        self._client._driver = driver
        tell(self._observers, lambda observer: observer.connected(self._client))

    def released(self) -> None:
        """See :meth:`Conversation.released`."""
        if self._give_back is not None:
            self._give_back()
        client = self._client
        watching = [one for one in self._observers if one.watches_ends]
        # A connection that could not be served has never begun.
        if not watching or client._driver is None:
            return
        summary = Summary(
            endpoint=client.endpoint,
            path=self._request.path,
            remote_addr=self._request.remote_addr,
            duration=monotonic() - client._opened().connection.opened_at,
            close_code=client.close_code or ABNORMAL_CLOSURE,
            close_reason=client.close_reason or "",
            traffic=client.traffic,
        )
        tell(watching, lambda observer: observer.disconnected(client, summary))
