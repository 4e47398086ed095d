"""The groups that one connection is in: implements ``ws.join()`` and ``ws.leave()``."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from ..close_codes import INTERNAL_ERROR, TRY_AGAIN_LATER
from ..common.steps import Step, hook_of, is_coroutine_function, run_steps, run_steps_async
from ..exceptions import (
    BrokerUnavailable,
    CloseConnection,
    GroupError,
    GroupRefused,
    InvalidMessage,
)
from ..groups.groups import Groups
from ..groups.join import Joined
from ..groups.member import Member
from ..groups.names import check_group
from ..groups.outcome import Outcome, in_event_loop

if TYPE_CHECKING:
    from ..engines import Driver
    from ..views import WebSocketView


class Connected(Protocol):
    """The methods of a client that its membership calls."""

    @property
    def id(self) -> str:
        """The connection's unique id."""
        ...

    def send(self, message: str | bytes) -> Any:
        """Send a message."""

    def close(self, code: int, reason: str = "") -> Any:
        """Close the connection."""


class Membership:
    """The groups that a connection is in.

    :param groups: the application's groups.
    :param client: the connection's client.
    :param driver: sends the groups' messages to the client.
    :param view: its ``authorize_group`` allows or refuses to join.
    :param lost_frame: makes the error frame for lost messages of a group, which clients of views
        that declare messages get.
    """

    def __init__(
        self,
        groups: Groups,
        client: Connected,
        driver: Driver,
        view: WebSocketView,
        lost_frame: Callable[[str], str],
    ) -> None:
        self._groups = groups
        self._client = client
        self._view = view
        declared = type(view)._wsviews_declared(view)
        policy = declared.slow_clients or groups.settings.slow_clients
        tell_lost = lost_frame if declared.protocol.is_declared else None
        self._member = Member(client.id, driver, policy, tell_lost)
        self._names: set[str] = set()
        self._is_over = False

    @property
    def names(self) -> frozenset[str]:
        """The names of the groups that the connection is in."""
        return frozenset(self._names)

    def join(self, group: str, since: str | None, meta: Any) -> Joined:
        """Join. Waits for the broker and, if missed messages are sent, for the client."""
        return run_steps(self._join(group, since, meta))

    def join_async(self, group: str, since: str | None, meta: Any) -> Outcome[Joined]:
        """Join, from a coroutine."""
        steps = self._join(group, since, meta)
        never_waits = not self._groups.broker.waits and since is None and in_event_loop()
        if never_waits and not is_coroutine_function(hook_of(self._view, "authorize_group")):
            # Joined before this returns, even if the coroutine doesn't await the result.
            return Outcome(result=run_steps(steps))
        return Outcome(run_steps_async(steps), on_error=self._joining_failed)

    def leave(self, group: str) -> None:
        """Leave a group. Does nothing if the connection isn't in it; never waits."""
        if group in self._names:
            self._names.discard(group)
            self._groups.leave(self._member, group)

    def end(self) -> None:
        """Leave all groups; joins that finish later are undone."""
        self._is_over = True
        for group in list(self._names):
            self.leave(group)

    def _join(self, group: str, since: str | None, meta: Any) -> Generator[Step, Any, Joined]:
        check_group(group)
        authorize = hook_of(self._view, "authorize_group")
        if not (yield partial(authorize, self._client, group)):
            raise GroupRefused(group)
        if group in self._names:
            # Leave first, or the connection would get each message twice.
            self.leave(group)
        joined = yield from self._groups.join(self._member, group, since, self._client.send, meta)
        self._names.add(group)
        if self._is_over:
            self.leave(group)
        return joined

    def _joining_failed(self, error: BaseException) -> None:
        if isinstance(error, CloseConnection):
            self._client.close(error.code, error.reason)
        elif isinstance(error, GroupError):
            self._client.close(error.code)
        else:
            is_unavailable = isinstance(error, BrokerUnavailable)
            self._client.close(TRY_AGAIN_LATER if is_unavailable else INTERNAL_ERROR)


def messages_lost(group: str) -> InvalidMessage:
    """Return the error that a client of typed messages gets when messages to a group are lost."""
    return InvalidMessage({"_schema": [f"Messages to {group} are lost."]}, code="messages_lost")
