"""Runs the hooks of a view: each in its context, and each exception turned into a close code."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from flask.signals import got_request_exception
from werkzeug.exceptions import HTTPException, InternalServerError
from werkzeug.http import HTTP_STATUS_CODES

from ..close_codes import ABNORMAL_CLOSURE, INTERNAL_ERROR, POLICY_VIOLATION, TRY_AGAIN_LATER
from ..common.steps import (
    Step,
    Steps,
    check_result,
    hook_of,
    is_coroutine_function,
    is_for_loop,
    is_needless,
    run_steps,
    run_steps_async,
    throwable,
)
from ..exceptions import (
    BrokerUnavailable,
    CloseConnection,
    ConnectionClosed,
    GroupError,
    fit_reason,
)
from ..observers import Observer, around_hook, tell
from .context import Handshake, enter, leave

if TYPE_CHECKING:
    from ..clients.base import WebSocketClient
    from ..typing import AsyncDriver, Message, RunHook, WaitingDriver
    from ..views import WebSocketView
    from .context import HookContext


class Dispatcher:
    """Runs one connection's conversation with its view.

    :param handshake: what stays of the handshake's request.
    :param view: the instance that serves this connection.
    :param view_args: the URL variables.
    :param client: what the hooks get as ``ws``.
    :param observers: are told of hooks and of what they raise.
    """

    def __init__(
        self,
        handshake: Handshake,
        view: WebSocketView,
        view_args: dict[str, Any],
        client: WebSocketClient,
        observers: Sequence[Observer] = (),
    ) -> None:
        self._handshake = handshake
        self._observers = observers
        self._hook_watchers: Sequence[Observer] = ()
        # All of the view is read off its class: what is on the instance is the application's.
        view_class = type(view)
        declared = view_class._wsviews_declared(view)
        self._owns_conversation = view_class._wsviews_owns_conversation
        self._has_groups = bool(declared.groups)
        if not self._owns_conversation:
            self._hook_watchers = tuple(one for one in observers if one.watches_hooks)
        self._view = view
        # Asked for here, not at each message: it looks at every hook.
        self._is_async = view_class._wsviews_is_async(view)
        self._view_args = view_args
        self._client = client
        self._reported: Exception | None = None
        protocol = declared.protocol
        self._looks_inside = protocol.is_typed or not protocol.binary
        if self._owns_conversation and self._looks_inside:
            client._loads_messages = True
        self._receives_as_is = client._receives_as_is
        self._has_begun = False
        self._listens = False
        self._owes_on_close = False

    def converse(self, driver: WaitingDriver) -> bool:
        """Run the conversation in this thread or greenlet, to its end if it need not stop before.

        :param driver: the connection's.
        :returns: whether it is over. Otherwise it is gone on with once the driver has news.
        """
        view, client = self._view, self._client
        try:
            if not self._has_begun and not self.needs_turn:
                self.skip_turn()
            elif not self._has_begun and run_steps(self._begin(self.run)):
                self.run(self._opening_hook, client, **self._view_args)
            while self._listens:
                if not driver.wait_for_news():
                    return False
                message = client.receive()
                if message is None:
                    self._listens = False
                elif self._looks_inside:
                    self.run(self._taking(message))
                else:
                    self.run(hook_of(view, "on_message"), client, message)
        except BaseException:
            run_steps(self._finish(self.run))
            raise
        if self.needs_turn:
            run_steps(self._finish(self.run))
            return True
        return self.skip_turn()

    async def converse_async(self, driver: AsyncDriver) -> bool:
        """As :meth:`converse`, in this task. Plain hooks run in threads."""
        view, client = self._view, self._client
        run = partial(self._run_async, driver)
        parks = driver.parks
        is_direct = self._is_async and not self._hook_watchers
        # What is raised is awaited for after its handler: within one, once that is compiled, an
        # await mixes it up with what is handled elsewhere, and the process may crash.
        raised: BaseException | None = None
        end: BaseException | None = None
        try:
            if not self._has_begun and await run_steps_async(self._begin(run)):
                await run(self._opening_hook, client, **self._view_args)
            while self._listens:
                if parks and not driver.has_news and not await driver.wait_for_news():
                    return False
                if parks and self._receives_as_is:
                    message = driver.take()
                else:
                    # A plain client would wait in a thread for the next message.
                    message = await client._receive_async(driver)
                if message is None:
                    self._listens = False
                elif self._looks_inside:
                    await run(self._taking(message))
                elif is_direct and is_coroutine_function(hook := hook_of(view, "on_message")):
                    # As _run_coroutine(), for the hook that is run most: one coroutine less.
                    context = None
                    raised = None
                    try:
                        context = self._enter()
                        await hook(client, message)
                    except BaseException as error:
                        raised = error
                    else:
                        self._leave(context)
                    if raised is not None:
                        steps = self._failed(context, raised)
                        await run_steps_async(steps, partial(self._call, driver))
                else:
                    await run(hook_of(view, "on_message"), client, message)
        except BaseException as error:
            end = error
        await run_steps_async(self._finish(run))
        if end is not None:
            raise end
        return True

    @property
    def needs_turn(self) -> bool:
        """Whether a hook is to run for the beginning or, once it has begun, for the end."""
        view = self._view
        if self._owns_conversation:
            return True
        if not self._has_begun:
            return self._has_groups or self._matters(self._opening_hook)
        return self._client._membership is not None or self._matters(hook_of(view, "on_close"))

    def skip_turn(self) -> bool:
        """Begin or end without a hook, where none is to run; says whether it is over."""
        if not self._has_begun:
            self._has_begun = self._listens = self._owes_on_close = True
            return False
        self._client._leave_groups()
        return True

    def _begin(self, run: RunHook) -> Generator[Step, Any, bool]:
        """Join the groups; says whether a first call follows: to a function, that is all."""
        view, client = self._view, self._client
        self._has_begun = True
        # Also for the end that is under way if the groups can't be joined.
        self._listens = True
        if self._has_groups:
            join = partial(type(view)._wsviews_join_groups, view, client, self._view_args)
            if not (yield partial(run, Steps("join", join))):
                return False
        self._listens = self._owes_on_close = not self._owns_conversation
        return self._matters(self._opening_hook)

    @property
    def _opening_hook(self) -> Callable[..., Any]:
        view = self._view
        return type(view)._wsviews_opening_hook(view)

    def _matters(self, hook: Callable[..., Any]) -> bool:
        """Whether a hook does something, or somebody wants to know of it."""
        return bool(self._hook_watchers) or not is_needless(hook)

    def _taking(self, message: Message) -> Steps:
        view = self._view
        take = partial(type(view)._wsviews_take, view, self._client, message)
        return Steps("on_message", take)

    def _finish(self, run: RunHook) -> Generator[Step, Any, None]:
        """Leave the groups, and call ``on_close``."""
        view, client = self._view, self._client
        client._leave_groups()
        if self._owes_on_close and self._matters(hook_of(view, "on_close")):
            code, reason = client.close_code or ABNORMAL_CLOSURE, client.close_reason or ""
            yield partial(run, hook_of(view, "on_close"), client, code, reason)

    def run(self, hook: Any, *args: Any, **kwargs: Any) -> bool:
        """Run one hook, a function or ``Steps``, in a request context of its own.

        No :class:`Exception` leaves it: what a hook raises ends this connection and no other.

        :returns: whether the conversation may go on.
        """
        if self._hook_watchers or isinstance(hook, Steps):
            return run_steps(self._steps(hook, args, kwargs))
        context = None
        try:
            context = self._enter()
            result = hook(*args, **kwargs)
            if result is not None:
                check_result(hook, result)
        except BaseException as error:
            return run_steps(self._failed(context, throwable(error)))
        return self._leave(context)

    def _run_async(
        self, driver: AsyncDriver, hook: Any, *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, bool]:
        if not self._is_async:
            return self._run_in_thread(driver, partial(self.run, hook, *args, **kwargs))
        if self._hook_watchers or isinstance(hook, Steps) or not is_coroutine_function(hook):
            return run_steps_async(self._steps(hook, args, kwargs), partial(self._call, driver))
        return self._run_coroutine(driver, hook, args, kwargs)

    async def _run_in_thread(self, driver: AsyncDriver, run: Callable[[], bool]) -> bool:
        # Its context, teardown functions and error handlers may block as it may.
        try:
            return bool(await driver.call_in_thread(run, keep=self._owns_conversation))
        except CloseConnection as error:
            self._close_for(error)
            return False

    async def _run_coroutine(
        self, driver: AsyncDriver, hook: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> bool:
        context = None
        try:
            context = self._enter()
            await hook(*args, **kwargs)
        except BaseException as error:
            raised = error
        else:
            return self._leave(context)
        # See converse_async().
        return await run_steps_async(self._failed(context, raised), partial(self._call, driver))

    def _call(self, driver: AsyncDriver, step: Step) -> Any:
        """Make a step of an asynchronous view: on the loop, or in a thread."""
        function = step.func if isinstance(step, partial) else step
        # The methods of its client are made for the loop, whether they are coroutines or not.
        is_of_client = getattr(function, "__self__", None) is self._client
        if is_of_client or is_for_loop(function):
            return step()
        return driver.call_in_thread(step)

    def _steps(
        self, hook: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Generator[Step, Any, bool]:
        if isinstance(hook, Steps):
            steps = self._run(hook)
        else:
            steps = self._run(partial(hook, *args, **kwargs))
        if not self._hook_watchers:
            return steps
        return self._watched(hook.name if isinstance(hook, Steps) else hook.__name__, steps)

    def _watched(self, name: str, steps: Generator[Step, Any, bool]) -> Generator[Step, Any, bool]:
        with around_hook(self._hook_watchers, self._client, name):
            return (yield from steps)

    def _run(self, hook: Step | Steps) -> Generator[Step, Any, bool]:
        context = None
        try:
            context = self._enter()
            if isinstance(hook, Steps):
                yield from hook.make()
            else:
                yield hook
        except BaseException as error:
            return (yield from self._failed(context, error))
        return self._leave(context)

    # -- before and after a hook ------------------------------------------------------------------

    def _enter(self) -> HookContext:
        context = self._handshake.hook_context()
        enter(context)
        return context

    def _leave(self, context: HookContext) -> bool:
        try:
            leave(context)
        except BaseException as error:
            # That of a teardown function.
            return self._end(throwable(error))
        return True

    def _failed(
        self, context: HookContext | None, error: BaseException
    ) -> Generator[Step, Any, bool]:
        """Go on after what a hook has raised; says whether the conversation may."""
        try:
            with ExitStack() as stack:
                if context is not None:
                    stack.push(context.__exit__)
                    # Not in a generator of its own: what leaves one differs once it is compiled.
                    if isinstance(error, Exception) and not self._tells_how_to_end(error):
                        if (yield partial(hook_of(self._view, "on_error"), self._client, error)):
                            return True
                        self._report(error)
                        self._call_error_handler(error)
                # Leaves through the context, so that teardown functions are told.
                raise error
        except BaseException as last:
            # Perhaps not the hook's own, but that of an error handler or a teardown function.
            return self._end(throwable(last))

    def _end(self, error: BaseException) -> bool:
        if not isinstance(error, Exception):
            # The greenlet is being killed or the process is about to exit.
            self._client.close(INTERNAL_ERROR)
            raise error
        self._report(error)
        self._reported = None
        try:
            self._close_for(error)
        except Exception as unusable:
            # Such as the reason of a subclass of CloseConnection that is too long.
            self._report(unusable)
            self._client.close(INTERNAL_ERROR)
        return False

    def _tells_how_to_end(self, error: Exception) -> bool:
        """Whether *error* is for us, and not for whoever handles errors."""
        return self._is_the_end(error) or isinstance(error, CloseConnection)

    def _call_error_handler(self, error: Exception) -> None:
        """Call the handler that the blueprint or the application has for an exception.

        Its response has nowhere to go; it may raise :class:`CloseConnection`, though.
        """
        app = self._handshake.app
        candidates = [error]
        if not isinstance(error, HTTPException):
            candidates.append(InternalServerError(original_exception=error))
        for candidate in candidates:
            handler = app._find_error_handler(candidate, self._handshake.request.blueprints)
            if handler is not None:
                app.ensure_sync(handler)(candidate)
                return

    def _report(self, error: Exception) -> None:
        """Log an exception, once, unless it says no more than how to end."""
        quiet = (CloseConnection, HTTPException, BrokerUnavailable)
        is_an_end = isinstance(error, quiet) or self._is_the_end(error)
        if is_an_end or error is self._reported:
            return
        if _is_clients_fault(error):
            self._reported = error
            path = self._handshake.request.path
            self._handshake.app.logger.warning("WebSocket %r is closed with 1008: %s", path, error)
            return
        self._reported = error
        app = self._handshake.app
        try:
            # Before it is logged, as Flask does: who reports both takes the first for the cause.
            got_request_exception.send(app, _async_wrapper=app.ensure_sync, exception=error)
        except Exception:
            app.logger.exception("a receiver of got_request_exception failed")
        app.logger.error(
            "Exception on WebSocket %s",
            self._handshake.request.path,
            exc_info=(type(error), error, error.__traceback__),
        )
        tell(self._observers, lambda observer: observer.failed(self._client, error))

    def _is_the_end(self, error: Exception) -> bool:
        """Whether *error* says no more than that this connection is over."""
        return isinstance(error, ConnectionClosed) and self._client._closed_by_itself(error)

    def _close_for(self, error: Exception) -> None:
        if isinstance(error, CloseConnection):
            self._client.close(error.code, error.reason)
        elif isinstance(error, HTTPException) and _status_of(error) < 500:
            name = (
                HTTP_STATUS_CODES.get(_status_of(error), "") if error.code is None else error.name
            )
            self._client.close(POLICY_VIOLATION, fit_reason(name))
        elif isinstance(error, BrokerUnavailable):
            # The broker has told the log, once for all connections.
            self._client.close(TRY_AGAIN_LATER, "please try again")
        elif _is_clients_fault(error):
            self._client.close(POLICY_VIOLATION, "there is no such group")
        else:
            self._client.close(INTERNAL_ERROR)


def _status_of(error: HTTPException) -> int:
    """The HTTP status of *error*; that of its response after ``abort(response)``."""
    if error.code is not None:
        return error.code
    return 500 if error.response is None else int(getattr(error.response, "status_code", 500))


def _is_clients_fault(error: Exception) -> bool:
    """Whether *error* is a group's name that can't be used: clients send such names."""
    return isinstance(error, GroupError) and error.code == POLICY_VIOLATION
