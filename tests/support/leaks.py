"""What a test leaves behind in its process: the threads and descriptors, by name."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from contextlib import suppress

from support.servers import poll

#: How long a test may take to end its threads and close its descriptors.
SECONDS = 10.0


class Leaks:
    """Compares this process with what it had at the beginning of a test."""

    def __init__(self) -> None:
        self._threads = set(threading.enumerate())
        self._descriptors = _descriptors()

    def check(self) -> None:
        """Fail with the names of what is still there after a while."""
        try:
            poll(lambda: set(threading.enumerate()) <= self._threads, SECONDS)
            poll(lambda: len(_descriptors()) <= len(self._descriptors), SECONDS)
        except AssertionError:
            raise AssertionError("\n".join(["the test leaves", *self._found()])) from None

    def _found(self) -> list[str]:
        found = [
            f"descriptor {number}: {target}"
            for number, target in _descriptors().items()
            if self._descriptors.get(number) != target
        ]
        frames = sys._current_frames()
        for thread in set(threading.enumerate()) - self._threads:
            found.append(f"thread {thread.name}, at:")
            frame = frames.get(thread.ident or 0)
            found += [line.rstrip() for line in traceback.format_stack(frame)[-4:]]
        return found


def _descriptors() -> dict[int, str]:
    """What each descriptor of this process is."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        # One was the listing's own.
        with suppress(FileNotFoundError):
            found[int(number)] = os.readlink(f"/proc/self/fd/{number}")
    return found
