"""Type aliases, and the protocols by which one layer calls another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    import socket

    from _typeshed.wsgi import StartResponse


#: A received message: text as ``str``, binary as ``bytes``.
Message: TypeAlias = str | bytes

#: A message to send: text as ``str``, binary as any bytes-like object.
Sendable: TypeAlias = str | bytes | bytearray | memoryview

#: A WSGI environment.
Environ: TypeAlias = dict[str, Any]

#: Runs a hook in its context. Returns whether the conversation continues; on asyncio, an awaitable.
RunHook: TypeAlias = Callable[..., Any]


class WaitingDriver(Protocol):
    """The methods of a driver that a conversation in a thread or greenlet calls."""

    def wait_for_news(self) -> bool:
        """Wait for a message or the end of the connection. May stop waiting early, to park.

        :returns: whether there is one. If not, the conversation must return.
        """
        ...


class AsyncDriver(Protocol):
    """The methods of a driver that a conversation on asyncio calls."""

    #: Whether an idle conversation may return, to be resumed when there is news.
    parks: bool

    @property
    def has_news(self) -> bool:
        """Whether :meth:`take` can return a message or the end of the connection."""
        ...

    async def wait_for_news_async(self) -> bool:
        """Wait for a message or the end of the connection. May stop waiting early, to park.

        :returns: whether there is one. If not, the conversation must return.
        """
        ...

    def take(self) -> Message | None:
        """Return the next message, or ``None`` at the end. Call it only if :attr:`has_news`."""
        ...

    def receive_async(self, timeout: float | None = None) -> Coroutine[Any, Any, Message | None]:
        """Wait for the next message; the result is ``None`` at the end."""
        ...

    def call_in_thread(self, function: Callable[[], Any], *, keep: bool = False) -> Awaitable[Any]:
        """Call *function* in a thread that may block.

        It runs in the connection's context variables, so only the conversation may call this.

        :param keep: whether the connection keeps the thread until it ends.
        """
        ...

    def call_aside(self, function: Callable[[], Any]) -> Awaitable[Any]:
        """Call *function*, which isn't a hook, in a thread that may block; from any task."""
        ...


class Conversation(Protocol):
    """Runs the hooks of a connection. Each engine calls the method that suits it.

    :meth:`converse` and :meth:`converse_async` return whether the conversation is over. They return
    ``False`` only to drivers that park: the conversation is idle, and the engine calls the same
    method again once there is news.
    """

    def converse(self, driver: WaitingDriver) -> bool:
        """Begin or resume the conversation in this thread or greenlet."""
        ...

    def converse_async(self, driver: AsyncDriver) -> Coroutine[Any, Any, bool]:
        """Begin or resume the conversation in this task."""
        ...

    @property
    def needs_turn(self) -> bool:
        """Whether the next step, its beginning or its end, runs code of the application."""
        ...

    def skip_turn(self, driver: WaitingDriver) -> bool:
        """Begin or end the conversation without a turn; only if not :attr:`needs_turn`."""
        ...

    def released(self) -> None:
        """Clean up after the socket is closed. Called once, from any thread."""


class Transport(Protocol):
    """The client's socket, taken from a WSGI server."""

    #: The raw, non-blocking client stream.
    sock: socket.socket

    #: Whether the connection can outlive its request.
    can_detach: bool

    def preface(self, fields: list[tuple[str, str]]) -> bytes:
        """Return the bytes that the engine writes first: the 101 with these header fields."""
        ...

    def detach(self) -> None:
        """Take the connection from the server, which then no longer uses it."""

    def release(self) -> None:
        """Close our descriptor of the socket. The engine calls this last."""

    def finish(
        self, start_response: StartResponse, fields: list[tuple[str, str]]
    ) -> Iterable[bytes]:
        """End the request with a response that the server logs but doesn't send.

        :param start_response: the server's, or one that a middleware has wrapped, which may raise.
        :param fields: the header fields of the 101.
        :returns: the body of the response.
        """
        ...
