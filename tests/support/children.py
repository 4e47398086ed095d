"""Start processes that end with the tests, even if those are killed, and that handle Ctrl-C."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
from typing import Any
from uuid import uuid4

# In the environment of every process that the tests start, and of their children.
MARK = "TESTS_OF_FLASK_WSVIEWS"

# Reads numbers of process groups until the tests have ended, and kills the groups that still run. A
# negative number means that the group has ended.
REAPER = """
import glob, os, signal, sys, time
for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(signum, signal.SIG_IGN)
groups = set()
for line in sys.stdin:
    number = int(line)
    groups.add(number) if number > 0 else groups.discard(-number)
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        pass
mark = sys.argv[1].encode()

def is_left(pid):
    with open(f"/proc/{pid}/environ", "rb") as file:
        environ = file.read()
    # A process in the middle of exec() has none for a moment; kernel threads never have one.
    if not environ and os.readlink(f"/proc/{pid}/exe"):
        return None
    return mark in environ.split(b"\\0")

deadline = time.monotonic() + 5
todo = [int(path.split("/")[2]) for path in glob.glob("/proc/[0-9]*")]
while todo and time.monotonic() < deadline:
    later = []
    for pid in todo:
        try:
            found = is_left(pid)
            if found is None:
                later.append(pid)
            elif found and pid != os.getpid():
                os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
    if later:
        time.sleep(0.01)
    todo = later
"""


class _Reaper:
    """A process that outlives this one and kills the processes it leaves behind."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        mark = f"{MARK}={uuid4().hex}"
        # /proc shows the environment that the reaper was started with.
        environ = {name: value for name, value in os.environ.items() if name != MARK}
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", REAPER, mark],
            stdin=subprocess.PIPE,
            env=environ,
            start_new_session=True,
        )
        os.environ[MARK] = mark.partition("=")[2]
        atexit.register(self.stop)

    def note(self, group: int) -> None:
        """Kill this group at the end, or if negative, forget it."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{group}\n".encode())
        self._process.stdin.flush()

    def stop(self) -> None:
        if self.pid == os.getpid():
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(10)


_reaper: _Reaper | None = None


def begin() -> None:
    """Prepare this process for :func:`start`. Processes started in other ways end with it, too."""
    global _reaper
    if _reaper is None or _reaper.pid != os.getpid():
        # A shell's background job ignores SIGINT, and children inherit that. They don't inherit a
        # handler, so install one that does nothing.
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, lambda signum, frame: None)
        _reaper = _Reaper()


def start(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a process as the first one of a new session; end it by :func:`kill_group`."""
    begin()
    assert _reaper is not None
    process = subprocess.Popen(command, start_new_session=True, **options)
    _reaper.note(process.pid)
    return process


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the processes that are left of a group started here."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
    assert _reaper is not None
    _reaper.note(-process.pid)
