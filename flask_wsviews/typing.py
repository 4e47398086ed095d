"""Aliases and protocols that more than one module names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    import socket

    from _typeshed.wsgi import StartResponse


#: What a client sent: text as ``str``, binary as ``bytes``.
Message: TypeAlias = str | bytes

#: What can be sent: text as ``str``, binary as anything bytes-like.
Sendable: TypeAlias = str | bytes | bytearray | memoryview

#: A WSGI environment.
Environ: TypeAlias = dict[str, Any]

#: Runs one hook in its context; says, perhaps to who awaits it, whether the conversation may go on.
RunHook: TypeAlias = Callable[..., Any]


class WaitingDriver(Protocol):
    """What a conversation in a thread or greenlet needs of its driver."""

    def wait_for_news(self) -> bool:
        """Wait for a message, or the end, as far as that is worth it.

        :returns: whether there is some; otherwise the conversation shall return.
        """
        ...


class AsyncDriver(Protocol):
    """What a conversation on asyncio needs of its driver."""

    #: Whether a conversation may stop where it has nothing to do, to be gone on with later.
    parks: bool

    @property
    def has_news(self) -> bool:
        """Whether :meth:`take` has something: a message, or the end."""
        ...

    async def wait_for_news(self) -> bool:
        """Wait for it, as far as that is worth it.

        :returns: whether there is some; otherwise the conversation shall return.
        """
        ...

    def take(self) -> Message | None:
        """The next message, ``None`` at the end, without waiting; only if there is news."""
        ...

    def receive_async(self, timeout: float | None = None) -> Coroutine[Any, Any, Message | None]:
        """Wait for the next message, ``None`` at the end."""
        ...

    def call_in_thread(self, function: Callable[[], Any], *, keep: bool = False) -> Awaitable[Any]:
        """Call *function* in a thread that may block, and that it may keep to the end.

        It runs in the connection's context variables, so only the conversation itself may call
        this.
        """
        ...

    def call_aside(self, function: Callable[[], Any]) -> Awaitable[Any]:
        """Call *function*, which isn't a hook, in a thread that may block; from any task."""
        ...


class Conversation(Protocol):
    """What an engine runs on a connection, in the way that suits it.

    Both ways return whether the conversation is over. If not, it has nothing to do: it is gone
    on with, by the same call, once there is news. That answer is for drivers that park only.
    """

    def converse(self, driver: WaitingDriver) -> bool:
        """Begin it or go on with it, in this thread or greenlet."""
        ...

    def converse_async(self, driver: AsyncDriver) -> Coroutine[Any, Any, bool]:
        """Begin it or go on with it, in this task."""
        ...

    @property
    def needs_turn(self) -> bool:
        """Whether its beginning or, once it has begun, its end runs code of the application."""
        ...

    def skip_turn(self, driver: WaitingDriver) -> bool:
        """Begin it or end it, in place of the above, where that needs no turn."""
        ...

    def released(self) -> None:
        """The socket is closed; called once, from wherever that was done."""


class Transport(Protocol):
    """The client's socket as a WSGI server hands it over."""

    #: The raw, non-blocking client stream.
    sock: socket.socket

    #: Whether the request may end while the connection lives on.
    can_detach: bool

    def preface(self, fields: list[tuple[str, str]]) -> bytes:
        """What the engine writes first: the 101 with these header fields."""
        ...

    def detach(self) -> None:
        """Take the connection away from the server, which will not touch it again."""

    def release(self) -> None:
        """Close what is ours of the socket. The engine does it last."""

    def finish(
        self, start_response: StartResponse, fields: list[tuple[str, str]]
    ) -> Iterable[bytes]:
        """End the request: give the server a response that it logs and no client receives.

        :param start_response: perhaps a surrounding middleware's, which may do anything.
        :param fields: the header fields of the 101.
        :returns: the body.
        """
        ...
