"""An event loop for uWSGI's own asyncio loop engine, on Pythons that make none by themselves."""

from __future__ import annotations

import asyncio
import warnings


def make_loop_on_demand() -> None:
    """Have ``asyncio.get_event_loop()`` make a loop for uWSGI, which calls it in each worker.

    From Python 3.12 on it warns before it makes one, and fails if there is no frame to point at,
    as when uWSGI calls. It can't be made here already: workers that are forked would share it.
    """

    class Policy(asyncio.DefaultEventLoopPolicy):
        def get_event_loop(self) -> asyncio.AbstractEventLoop:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                return super().get_event_loop()

    # Another policy, as uvloop has one, is the application's choice.
    if type(asyncio.get_event_loop_policy()) is asyncio.DefaultEventLoopPolicy:
        asyncio.set_event_loop_policy(Policy())
