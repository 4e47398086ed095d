"""Receiving: count, observe, load and convert each message before its handler gets it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Generator, Sequence
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from ..close_codes import POLICY_VIOLATION
from ..common.notify import notify
from ..common.steps import Step, run_steps, run_steps_async
from ..exceptions import InvalidMessage
from ..messages.protocol import MessageProtocol
from ..protocol.pongs import Pong
from ..protocol.state import State
from ..typing import AsyncDriver, Message

if TYPE_CHECKING:
    from flask import Flask

    from ..common.rate_limits import Meter
    from ..engines import Driver

# Shared by all clients whose view declares no messages.
_ANY_MESSAGES = MessageProtocol()


class MessageWatcher(Protocol):
    """An observer of messages."""

    def received(self, ws: Any, message: Any) -> None:
        """Observe a message from the client, before a schema loads it."""

    def sent(self, ws: Any, message: Any) -> None:
        """Observe a message that a method of *ws* sends."""


class ReceivingClient(ABC):
    """Receives messages: each is counted, observed, loaded and converted, in this order."""

    #: The application that the connection belongs to.
    app: Flask

    _driver: Driver | None  # None until the engine has the socket

    # Class attributes: a connection that doesn't change them spends no memory on them.
    _protocol: MessageProtocol = _ANY_MESSAGES
    _loads_messages: bool = False  # in receive(), for a function route with a message_schema
    _text_as_bytes: bool = False  # from WSVIEWS_TEXT_AS_BYTES
    _reports_pongs: bool = False  # to the view's on_pong
    _watchers: Sequence[MessageWatcher] = ()
    _meter: Meter | None = None

    #: Shortcut: handlers get exactly what the driver returns. Saves a generator per message.
    _receives_as_is: bool = True

    @abstractmethod
    def receive(self, timeout: float | None = None) -> Any:
        """Wait for the next message."""

    @abstractmethod
    def send_error(self, error: InvalidMessage) -> Any:
        """Answer an invalid message with an error frame."""

    def recv_nb(self) -> Any:
        """Return the next message without waiting.

        :returns: ``""`` if there is none yet, ``None`` once the connection is closed.
        :raises RuntimeError: if another thread, greenlet or task is in :meth:`receive`.
        """
        driver = self._opened()
        message = driver.receive_nowait()
        while self._reports_pongs and isinstance(message, Pong):
            message = driver.receive_nowait()
        if message is None:
            return None if driver.connection.state is State.CLOSED else ""
        if self._meter is not None and not self._meter.count():
            self._close_for_rate()
            return None
        if self._watchers:
            self._observe_received(message)
        try:
            return self._given(message)
        except InvalidMessage as error:
            self.send_error(error)
            return ""

    def _receive_checked(
        self,
        receive: Callable[[float | None], Any],
        timeout: float | None,
        *,
        pongs: bool = False,
    ) -> Generator[Step, Any, Any]:
        """Receive until there is a valid message for the handler.

        :param receive: the driver's method, which waits or returns an awaitable.
        :param pongs: whether the caller handles :class:`Pong` as well.
        """
        deadline = None if timeout is None else monotonic() + timeout
        left, has_looked = timeout, False
        while True:
            message = yield partial(receive, left)
            if message is None:
                return None
            if self._reports_pongs and isinstance(message, Pong):
                if pongs:
                    return message
                # receive() returns messages only.
                left = None if deadline is None else max(0.0, deadline - monotonic())
                continue
            if self._meter is not None and not (yield self._meter.count):
                self._close_for_rate()
                continue
            if self._watchers:
                self._observe_received(message)
            try:
                return self._given(message)
            except InvalidMessage as error:
                yield partial(self.send_error, error)
            if deadline is not None:
                left = max(0.0, deadline - monotonic())
                if not left and not self._opened().connection.has_news:
                    # Look at the socket once more, then stop: a client can't prolong the wait by
                    # sending invalid messages.
                    if has_looked:
                        raise TimeoutError(f"no message within {timeout:g} s")
                    has_looked = True

    def _receive_event(self) -> Any:
        """Return the next message or :class:`Pong`, for the conversation of a view."""
        return run_steps(self._receive_checked(self._opened().receive, None, pongs=True))

    def _receive_async(
        self, driver: AsyncDriver, timeout: float | None = None, *, pongs: bool = False
    ) -> Coroutine[Any, Any, Any]:
        """Receive on an event loop; a meter that waits for the network counts in a thread."""
        if self._receives_as_is:
            return driver.receive_async(timeout)
        steps = self._receive_checked(driver.receive_async, timeout, pongs=pongs)
        meter = self._meter
        if meter is None or not meter.waits:
            return run_steps_async(steps)
        return run_steps_async(
            steps,
            lambda step: driver.call_aside(step) if step == meter.count else step(),
        )

    def _given(self, message: Message) -> Any:
        """Return the object that the handler gets for a message.

        :raises InvalidMessage: if the message doesn't match its schema.
        """
        given: Any = message
        if self._loads_messages:
            given = self._protocol.take(message, self.app.json.loads).data
        return given.encode() if self._text_as_bytes and isinstance(given, str) else given

    def _open(self, driver: Any, *, pongs: bool = False) -> None:
        """Note the driver, before the first hook: the options above don't change from now on.

        :param pongs: whether the driver returns Pongs as well, in order with the messages.
        """
        self._driver = driver
        if pongs:
            self._reports_pongs = True
            driver.connection.report_pongs()
        if (
            self._loads_messages
            or self._meter is not None
            or self._watchers
            or self._text_as_bytes
            or self._reports_pongs
        ):
            self._receives_as_is = False

    def _observe_received(self, message: Message) -> None:
        notify(self._watchers, lambda watcher: watcher.received(self, message))

    def _close_for_rate(self) -> None:
        assert self._meter is not None
        self._opened().close(POLICY_VIOLATION, self._meter.reason)

    def _opened(self) -> Driver:
        if self._driver is None:
            raise RuntimeError("the WebSocket isn't open yet: use it in on_connect() or later")
        return self._driver
