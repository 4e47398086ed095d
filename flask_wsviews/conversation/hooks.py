"""Runs the hooks of a view: enters a context, calls the hook, and handles what it raises."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from flask.signals import got_request_exception
from werkzeug.exceptions import HTTPException, InternalServerError

from ..close_codes import INTERNAL_ERROR
from ..common.notify import notify
from ..common.steps import (
    Step,
    Steps,
    check_result,
    hook_of,
    is_coroutine_function,
    is_for_loop,
    run_steps,
    run_steps_async,
    throwable,
)
from ..exceptions import CloseConnection, ConnectionClosed
from ..observers import Observer, around_hook
from .context import Handshake, HookContext, enter, leave
from .endings import ending_of, is_clients_fault, is_quiet

if TYPE_CHECKING:
    from ..clients.base import BaseClient
    from ..typing import AsyncDriver
    from ..views import WebSocketView

# Most hooks take none. Not *args and **kwargs: those are packed again at each call in between.
NO_KWARGS: Final[dict[str, Any]] = {}


class HookRunner:
    """Runs the hooks of one connection, one after the other.

    No :class:`Exception` leaves it: an exception in a hook ends this connection and no other.

    :param handshake: the parts of the handshake's request that hooks see.
    :param view: the view that has the hooks.
    :param client: the ``ws`` that hooks get.
    :param observers: notified of exceptions and, if they watch hooks, of each hook.
    :param keeps_thread: whether a plain hook on asyncio lasts as long as the connection.
    """

    def __init__(
        self,
        handshake: Handshake,
        view: WebSocketView,
        client: BaseClient[Any],
        observers: Sequence[Observer],
        keeps_thread: bool,
    ) -> None:
        self.handshake = handshake
        self.view = view
        self.client = client
        self.observers = observers
        self.keeps_thread = keeps_thread
        #: The observers that watch each hook. A function route has no hooks.
        self.watchers: Sequence[Observer] = ()
        if not keeps_thread:
            self.watchers = tuple(one for one in observers if one.watches_hooks)
        # Looked up once, because the answer depends on every hook of the view.
        self.is_async = type(view)._wsviews_is_async(view)
        self._reported: Exception | None = None

    def run(
        self, hook: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] = NO_KWARGS
    ) -> bool:
        """Run a hook in this thread or greenlet.

        :param hook: a function, or the ``Steps`` of several calls in one context.
        :param args: the function's arguments.
        :param kwargs: its keyword arguments.
        :returns: whether the conversation may go on.
        """
        if self.watchers or isinstance(hook, Steps):
            return run_steps(self._watched(hook, args, kwargs))
        return self._run_shortcut(hook, args, kwargs)

    def run_async(
        self,
        driver: AsyncDriver,
        hook: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] = NO_KWARGS,
    ) -> Coroutine[Any, Any, bool]:
        """Run a hook in this task, or in a thread if the view has no coroutines; as :meth:`run`."""
        if not self.is_async:
            return self._run_in_thread(driver, partial(self.run, hook, args, kwargs))
        if self.watchers or isinstance(hook, Steps) or not is_coroutine_function(hook):
            call = partial(self._call, driver)
            return run_steps_async(self._watched(hook, args, kwargs), call)
        return self._run_async_shortcut(driver, hook, args, kwargs)

    # -- the bracket around every hook ------------------------------------------------------------

    def _bracket(self, hook: Step | Steps) -> Generator[Step, Any, bool]:
        """Enter a context, call the hook, leave the context."""
        context = None
        try:
            context = self.enter()
            if isinstance(hook, Steps):
                yield from hook.make()
            else:
                yield hook
        except BaseException as error:
            return (yield from self.failed(context, error))
        return self.leave(context)

    def _watched(
        self, hook: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Generator[Step, Any, bool]:
        steps = self._bracket(hook if isinstance(hook, Steps) else partial(hook, *args, **kwargs))
        if not self.watchers:
            return steps
        name = hook.name if isinstance(hook, Steps) else hook.__name__
        return self._notifying(name, steps)

    def _notifying(
        self, name: str, steps: Generator[Step, Any, bool]
    ) -> Generator[Step, Any, bool]:
        with around_hook(self.watchers, self.client, name):
            return (yield from steps)

    def enter(self) -> HookContext:
        """Make a context for one hook, and make it the current one."""
        context = self.handshake.hook_context()
        enter(context)
        return context

    def leave(self, context: HookContext) -> bool:
        """Leave the context of a hook that raised nothing; the result is as for :meth:`run`."""
        try:
            leave(context)
        except BaseException as error:
            # A teardown function raised it.
            return self._end(throwable(error))
        return True

    def failed(
        self, context: HookContext | None, error: BaseException
    ) -> Generator[Step, Any, bool]:
        """Call ``on_error`` and the error handlers, and leave the context.

        :param context: the hook's, or ``None`` if it couldn't be entered.
        :returns: as for :meth:`run`.
        """
        try:
            with ExitStack() as stack:
                if context is not None:
                    stack.push(context.__exit__)
                    # Inline: a generator of its own would raise differently once compiled.
                    if isinstance(error, Exception) and not self._chooses_end(error):
                        if (yield partial(hook_of(self.view, "on_error"), self.client, error)):
                            return True
                        self._report(error)
                        self._call_error_handler(error)
                # Raised through the context, so that teardown functions get it.
                raise error
        except BaseException as last:
            # The hook's exception, or one of an error handler or a teardown function.
            return self._end(throwable(last))

    # -- on asyncio -------------------------------------------------------------------------------

    async def _run_in_thread(self, driver: AsyncDriver, run: Callable[[], bool]) -> bool:
        # The whole bracket runs there: teardown functions and error handlers may block, too.
        try:
            return bool(await driver.call_in_thread(run, keep=self.keeps_thread))
        except CloseConnection as error:
            # No thread was free.
            self.client.close(*ending_of(error))
            return False

    def _call(self, driver: AsyncDriver, step: Step) -> Any:
        """Make one call for a view with coroutines: on the loop, or in a thread if it may block."""
        function = step.func if isinstance(step, partial) else step
        # The methods of an asyncio client never block, coroutines or not.
        is_of_client = getattr(function, "__self__", None) is self.client
        if is_of_client or is_for_loop(function):
            return step()
        return driver.call_in_thread(step)

    # -- shortcuts: the bracket without its generator ---------------------------------------------
    #
    # They save 18 % of the instructions of an echo: 7,600 for a function, 10,300 for a coroutine.

    def _run_shortcut(self, hook: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        context = None
        try:
            context = self.enter()
            result = hook(*args, **kwargs) if kwargs else hook(*args)
            if result is not None:
                check_result(hook, result)
        except BaseException as error:
            return run_steps(self.failed(context, throwable(error)))
        return self.leave(context)

    async def _run_async_shortcut(
        self, driver: AsyncDriver, hook: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> bool:
        context = None
        try:
            context = self.enter()
            result = await (hook(*args, **kwargs) if kwargs else hook(*args))
            if result is not None:
                check_result(hook, result)
        except BaseException as error:
            raised = error
        else:
            return self.leave(context)
        # Outside the handler: a compiled await inside one can crash the process.
        return await run_steps_async(self.failed(context, raised), partial(self._call, driver))

    # -- after an exception -----------------------------------------------------------------------

    def _end(self, error: BaseException) -> bool:
        if not isinstance(error, Exception):
            # The greenlet is being killed, or the process is about to exit.
            self.client.close(INTERNAL_ERROR)
            raise error
        self._report(error)
        self._reported = None
        try:
            self.client.close(*ending_of(error))
        except Exception as unusable:
            # For instance, a subclass of CloseConnection has a reason that is too long.
            self._report(unusable)
            self.client.close(INTERNAL_ERROR)
        return False

    def _chooses_end(self, error: Exception) -> bool:
        """Return whether the exception is for this package, and not for error handlers."""
        return isinstance(error, CloseConnection) or self._is_own_end(error)

    def _is_own_end(self, error: Exception) -> bool:
        """Return whether the exception only reports that this connection has ended."""
        return isinstance(error, ConnectionClosed) and self.client._has_ended()

    def _call_error_handler(self, error: Exception) -> None:
        """Call the error handler that the blueprint or the application has for an exception.

        Its response is dropped; it may raise :class:`CloseConnection`.
        """
        app = self.handshake.app
        candidates = [error]
        if not isinstance(error, HTTPException):
            candidates.append(InternalServerError(original_exception=error))
        for candidate in candidates:
            handler = app._find_error_handler(candidate, self.handshake.request.blueprints)
            if handler is not None:
                app.ensure_sync(handler)(candidate)
                return

    def _report(self, error: Exception) -> None:
        """Log an exception once, unless it only chooses a close code."""
        if is_quiet(error) or self._is_own_end(error) or error is self._reported:
            return
        self._reported = error
        app, path = self.handshake.app, self.handshake.request.path
        if is_clients_fault(error):
            app.logger.warning("WebSocket %r is closed with 1008: %s", path, error)
            return
        try:
            # Before the log line, as Flask does: tools that get both take the first as the cause.
            got_request_exception.send(app, _async_wrapper=app.ensure_sync, exception=error)
        except Exception:
            app.logger.exception("a receiver of got_request_exception failed")
        exc_info = (type(error), error, error.__traceback__)
        app.logger.error("Exception on WebSocket %s", path, exc_info=exc_info)
        notify(self.observers, lambda observer: observer.failed(self.client, error))
