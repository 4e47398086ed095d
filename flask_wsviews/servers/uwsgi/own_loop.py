"""uWSGI's own asyncio loop (``--asyncio``): make it, find it, and wait in its thread.

uWSGI handles each request in a greenlet of the loop's thread.
"""

from __future__ import annotations

import asyncio
import warnings
from concurrent.futures import Future
from typing import Any

from ...common.process import find_uwsgi, in_uwsgi_loop


def make_loop_on_demand() -> None:
    """Have ``asyncio.get_event_loop()`` make a loop for uWSGI, which calls it in each worker.

    From Python 3.12 on, that call warns before it makes a loop, and the warning fails because uWSGI
    calls without a Python frame. A loop made here would be shared by all forked workers.
    """

    class Policy(asyncio.DefaultEventLoopPolicy):
        def get_event_loop(self) -> asyncio.AbstractEventLoop:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                return super().get_event_loop()

    # Another policy, such as uvloop's, is the application's choice.
    if type(asyncio.get_event_loop_policy()) is asyncio.DefaultEventLoopPolicy:
        asyncio.set_event_loop_policy(Policy())


def servers_loop() -> asyncio.AbstractEventLoop | None:
    """Return uWSGI's own event loop, whose thread this is, or None if uWSGI runs without one."""
    return asyncio.get_running_loop() if in_uwsgi_loop(b"asyncio") else None


def suspend_request(future: Future[Any]) -> None:
    """Let the loop run in this thread until *future* is done.

    uWSGI handles the request in a greenlet of that thread and resumes it where it was suspended.
    """
    from greenlet import getcurrent

    resume = getcurrent().switch
    loop = asyncio.get_running_loop()
    # The task can't have ended yet: it begins when the loop has its thread back.
    future.add_done_callback(lambda _: loop.call_soon(resume))
    find_uwsgi().suspend()


def keep_thread_state() -> None:
    """Keep uWSGI's functions from freeing this thread's state, which crashes the process.

    With ``--greenlet`` many of them call ``PyGILState_Release()`` once too often. One more
    ``PyGILState_Ensure()`` keeps the count above zero.
    """
    import ctypes

    ctypes.pythonapi.PyGILState_Ensure()
