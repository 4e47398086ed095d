"""Close connections before a signal ends a process whose main thread runs asyncio."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import threading
from collections.abc import Callable

# At least the size of a struct sigaction on any platform, in bytes.
ACTION_SIZE = 1024


class LoopSignals:
    """Calls a function when one of some signals arrives, then lets the signal take effect.

    uWSGI has installed its handlers in C, where Python can't restore them, so this saves and
    restores them with ``sigaction()``.

    :param signals: the signals that end the process.
    :param farewell: called with the signal, in a thread, while the loop keeps running.
    """

    def __init__(self, signals: tuple[signal.Signals, ...], farewell: Callable[[int], None]):
        self._signals = signals
        self._farewell = farewell
        self._loop = asyncio.get_running_loop()
        self._actions = {signum: _action_of(signum) for signum in signals}
        self._has_begun = False
        for signum in signals:
            self._loop.add_signal_handler(signum, self._on_signal, signum)

    def _on_signal(self, signum: signal.Signals) -> None:
        if not self._has_begun:
            self._has_begun = True
            threading.Thread(target=self._run, args=(signum,), daemon=True).start()

    def _run(self, signum: signal.Signals) -> None:
        try:
            self._farewell(signum)
        finally:
            self._loop.call_soon_threadsafe(self._end_process, signum)

    def _end_process(self, signum: signal.Signals) -> None:
        for watched in self._signals:
            self._loop.remove_signal_handler(watched)
            _set_action(watched, self._actions[watched])
        os.kill(os.getpid(), signum)


def _action_of(signum: int) -> ctypes.Array[ctypes.c_char]:
    action = ctypes.create_string_buffer(ACTION_SIZE)
    _sigaction(signum, None, action)
    return action


def _set_action(signum: int, action: ctypes.Array[ctypes.c_char]) -> None:
    _sigaction(signum, action, None)


def _sigaction(signum: int, new: object, old: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.sigaction(signum, new, old) != 0:
        raise OSError(ctypes.get_errno(), f"sigaction() of signal {signum}")
