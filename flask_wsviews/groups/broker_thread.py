"""The thread that waits for the broker, so that event loops don't."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from ..common.threads import Threads
from ..exceptions import BrokerUnavailable

T = TypeVar("T")

# The most calls that wait for the thread. A broker that is slow for a while delays them; more calls
# are refused.
MAX_PENDING = 10_000


class BrokerThread:
    """Makes calls that may wait for the broker, one after the other, for event loops."""

    def __init__(self) -> None:
        # One thread, so that a loop's calls keep their order.
        self._threads = Threads(1, "wsviews-groups")
        self._pending = 0

    def call(self, function: Callable[..., T], *arguments: Any) -> Any:
        """Call *function* in the thread.

        :returns: an awaitable for the result.
        :raises BrokerUnavailable: if too many calls are waiting already.
        """
        if self._pending >= MAX_PENDING:
            raise BrokerUnavailable(f"{MAX_PENDING} operations are already waiting for the broker")
        self._pending += 1

        def call() -> T:
            try:
                return function(*arguments)
            finally:
                self._pending -= 1

        try:
            submitted = self._threads.submit(call)
        except RuntimeError:
            self._pending -= 1
            raise
        # If the awaiting task is cancelled, the call is made all the same.
        return asyncio.shield(asyncio.wrap_future(submitted))

    def close(self) -> None:
        """End the thread."""
        self._threads.close()
