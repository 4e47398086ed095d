"""A connection's conversation with its view, from the 101 to the end.

Begin: join the view's groups and call the opening hook, ``on_connect`` or a route's function.
Listen: call ``on_message`` for each message. Finish: leave the groups and call ``on_close``.

An engine runs it in turns. A conversation with nothing to do returns ``False``, and the engine
calls it again when something arrives: an idle connection needs no thread, greenlet or task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from ..close_codes import ABNORMAL_CLOSURE
from ..common.notify import notify
from ..common.steps import (
    Step,
    Steps,
    hook_of,
    is_needless,
    run_steps,
    run_steps_async,
)
from ..observers import Observer, Summary
from ..protocol.pongs import Pong
from .context import Handshake
from .hooks import HookRunner
from .joining import join_groups
from .routing import take

if TYPE_CHECKING:
    from ..clients.base import BaseClient
    from ..typing import AsyncDriver, Message, RunHook, WaitingDriver
    from ..views import WebSocketView


class Conversation(ABC):
    """What an engine runs on a connection.

    :param handshake: the parts of the handshake's request that hooks see.
    :param view: the instance that serves this connection.
    :param view_args: the URL variables.
    :param client: the ``ws`` that hooks get.
    :param observers: notified of hooks, exceptions, the beginning and the end.
    :param give_back: called when the socket is closed.
    """

    #: Whether one call lasts as long as the connection.
    is_function = False

    def __init__(
        self,
        handshake: Handshake,
        view: WebSocketView,
        view_args: dict[str, Any],
        client: BaseClient[Any],
        observers: Sequence[Observer] = (),
        give_back: Callable[[], object] | None = None,
    ) -> None:
        self._view = view
        self._view_args = view_args
        self._client = client
        self._hooks = HookRunner(handshake, view, client, observers, self.is_function)
        self._give_back = give_back
        # Options are read off the class: attributes of the instance are the application's.
        declared = type(view)._wsviews_declared(view)
        self._has_groups = bool(declared.groups)
        #: Whether messages are checked or routed before a hook gets them.
        self._is_routed = declared.protocol.is_typed or not declared.protocol.binary
        if self.is_function and self._is_routed:
            # The function receives by itself, so the client loads what it gets.
            client._loads_messages = True
        #: Whether the view has an ``on_pong``.
        self._takes_pongs = not self.is_function and not is_needless(hook_of(view, "on_pong"))
        self._is_connected = False
        self._has_begun = False
        self._listens = False
        self._owes_on_close = False

    # -- what function routes and classes do differently -----------------------------------------

    @abstractmethod
    def _opening_hook(self) -> Callable[..., Any]:
        """Return the hook that is called first, with the URL variables."""

    # -- for the engine --------------------------------------------------------------------------

    def converse(self, driver: WaitingDriver) -> bool:
        """Begin or resume the conversation in this thread or greenlet.

        :returns: whether the conversation is over.
        """
        client, hooks = self._client, self._hooks
        if not self._is_connected:
            self._connect(driver)
        receive = client._receive_event if self._takes_pongs else client.receive
        try:
            if not self._has_begun:
                if self.needs_turn:
                    run_steps(self._begin(hooks.run))
                else:
                    self._skip_begin()
            while self._listens:
                if not driver.wait_for_news():
                    return False
                message = receive()
                if message is None:
                    self._listens = False
                else:
                    hook, args = self._hook_for(message)
                    hooks.run(hook, args)
        except BaseException:
            run_steps(self._finish(hooks.run))
            raise
        run_steps(self._finish(hooks.run))
        return True

    async def converse_async(self, driver: AsyncDriver) -> bool:
        """Begin or resume the conversation in this task. Plain hooks run in threads."""
        client, hooks = self._client, self._hooks
        if not self._is_connected:
            self._connect(driver)
        run = partial(hooks.run_async, driver)
        parks = driver.parks
        receives_as_is = parks and client._receives_as_is
        # A compiled await inside an exception handler can crash the process.
        raised: BaseException | None = None
        try:
            if not self._has_begun:
                await run_steps_async(self._begin(run))
            while self._listens:
                if parks and not driver.has_news and not await driver.wait_for_news_async():
                    return False
                # A plain client would wait in a thread for the next message.
                if receives_as_is:
                    message = driver.take()
                else:
                    message = await client._receive_async(driver, pongs=True)
                if message is None:
                    self._listens = False
                else:
                    hook, args = self._hook_for(message)
                    await hooks.run_async(driver, hook, args)
        except BaseException as error:
            raised = error
        await run_steps_async(self._finish(run))
        if raised is not None:
            raise raised
        return True

    def _hook_for(self, message: Message | Pong) -> tuple[Any, tuple[Any, ...]]:
        """Return the hook for a message or a Pong, and its arguments."""
        view, client = self._view, self._client
        if self._takes_pongs and isinstance(message, Pong):
            return hook_of(view, "on_pong"), (client, bytes(message))
        if self._is_routed:
            return take(view, client, message), ()
        return hook_of(view, "on_message"), (client, message)

    def released(self) -> None:
        """Give the connection's place back, and notify the observers: its socket is closed."""
        if self._give_back is not None:
            self._give_back()
        client = self._client
        watching = [one for one in self._hooks.observers if one._watches_ends()]
        # A connection that couldn't be served never had a driver.
        if not watching or not self._is_connected:
            return
        request = self._hooks.handshake.request
        summary = Summary(
            endpoint=client.endpoint,
            path=request.path,
            remote_addr=request.remote_addr,
            duration=monotonic() - client._opened().connection.opened_at,
            close_code=client.close_code or ABNORMAL_CLOSURE,
            close_reason=client.close_reason or "",
            traffic=client.traffic,
        )
        notify(watching, lambda observer: observer.disconnected(client, summary))

    # -- begin and finish ------------------------------------------------------------------------

    def _connect(self, driver: Any) -> None:
        self._is_connected = True
        self._client._open(driver, pongs=self._takes_pongs)
        notify(self._hooks.observers, lambda observer: observer.connected(self._client))

    def _begin(self, run: RunHook) -> Generator[Step, Any, None]:
        """Join the groups, then call the opening hook."""
        view, client, view_args = self._view, self._client, self._view_args
        self._has_begun = True
        # A message that ends the connection can arrive while the groups are joined.
        self._listens = True
        if self._has_groups:
            join = partial(join_groups, view, client, view_args)
            if not (yield partial(run, Steps("join", join))):
                return
        self._listens = self._owes_on_close = not self.is_function
        opening_hook = self._opening_hook()
        if self._matters(opening_hook):
            yield partial(run, opening_hook, (client,), view_args)

    def _finish(self, run: RunHook) -> Generator[Step, Any, None]:
        """Leave the groups, then call ``on_close``."""
        client = self._client
        client._leave_groups()
        on_close = hook_of(self._view, "on_close")
        if self._owes_on_close and self._matters(on_close):
            code, reason = client.close_code or ABNORMAL_CLOSURE, client.close_reason or ""
            yield partial(run, on_close, (client, code, reason))

    def _matters(self, hook: Callable[..., Any]) -> bool:
        """Return whether a hook does something, or an observer watches it."""
        return bool(self._hooks.watchers) or not is_needless(hook)

    # -- shortcut: begin or end an idle connection without a thread, greenlet or task ------------

    @property
    def needs_turn(self) -> bool:
        """Whether the beginning, or once it has begun the end, runs code of the application."""
        if self.is_function:
            return True
        if not self._has_begun:
            return self._has_groups or self._matters(self._opening_hook())
        has_joined = self._client._membership is not None
        return has_joined or self._matters(hook_of(self._view, "on_close"))

    def skip_turn(self, driver: WaitingDriver) -> bool:
        """Begin, or end, without a hook; returns whether the conversation is over."""
        if not self._is_connected:
            self._connect(driver)
        if not self._has_begun:
            self._skip_begin()
            return False
        self._client._leave_groups()
        return True

    def _skip_begin(self) -> None:
        self._has_begun = self._listens = self._owes_on_close = True


class HookConversation(Conversation):
    """The conversation of a class: its hooks are called as things happen."""

    def _opening_hook(self) -> Callable[..., Any]:
        hook: Callable[..., Any] = hook_of(self._view, "on_connect")
        return hook


class FunctionConversation(Conversation):
    """The conversation of a function route: the function is called once, and receives itself."""

    is_function = True

    def _opening_hook(self) -> Callable[..., Any]:
        view: Any = self._view
        function: Callable[..., Any] = view.function
        return function


def conversation_class(view: WebSocketView) -> type[Conversation]:
    """Return the kind of conversation for a view, which is a class or a function route."""
    is_function = type(view)._wsviews_owns_conversation
    return FunctionConversation if is_function else HookConversation
