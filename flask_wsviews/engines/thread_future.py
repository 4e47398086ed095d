"""The future that a task awaits while a plain hook runs in a thread.

It has a module that isn't compiled, because mypyc can't compile a subclass of a future.
"""

from __future__ import annotations

import asyncio
from typing import Any


class ThreadFuture(asyncio.Future[Any]):
    """The end of a hook in a thread. Its task can't be cancelled before: hooks never overlap."""

    #: Whether the task has stopped waiting, so that the hook need not start.
    is_given_up = False

    def cancel(self, msg: Any | None = None) -> bool:
        """Leave the cancellation to the task's next step."""
        return False
