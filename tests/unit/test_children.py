"""However a test run ends, or was started, nothing that it has started is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import TESTS
from support.servers import poll

# Starts processes in every way that tests do; each of them starts one more in a session of its own.
RUN = """
import os, subprocess, sys, time
from support import children

NESTED = '''
import signal, subprocess, sys
command = [sys.executable, "-c", "import time; time.sleep(600)"]
nested = subprocess.Popen(command, start_new_session=True)
print(nested.pid, signal.getsignal(signal.SIGINT) is signal.default_int_handler, flush=True)
nested.wait()
'''
children.begin()
command = [sys.executable, "-c", NESTED]
first = children.start(command, stdout=subprocess.PIPE)
second = subprocess.Popen(command, stdout=subprocess.PIPE)
for process in (first, second):
    print(process.pid, process.stdout.readline().decode().strip(), flush=True)
if sys.argv[1] == "end":
    children.kill_group(first)
    sys.exit()
while True:
    time.sleep(600)
"""


def run(*arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", RUN, *arguments],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def started_by(process: subprocess.Popen[bytes]) -> tuple[list[int], set[bytes]]:
    """The processes that it has started, and what they say of SIGINT."""
    assert process.stdout is not None
    lines = [process.stdout.readline().split() for _ in range(2)]
    return [int(pid) for line in lines for pid in line[:2]], {line[2] for line in lines}


def is_alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("end", ["SIGKILL", "SIGTERM", "SIGINT", "end"])
def test_nothing_is_left(end: str) -> None:
    with run(end) as process:
        pids, _ = started_by(process)
        if end != "end":
            process.send_signal(getattr(signal, end))
        process.wait(10)
    poll(lambda: not any(map(is_alive, pids)))


def test_in_the_background_of_a_shell_children_take_sigint() -> None:
    with run("wait", prefix=("sh", "-c", 'trap "" INT; exec "$@"', "sh")) as process:
        pids, handlers = started_by(process)
        assert handlers == {b"True"}
        # The run itself goes on, as it would without us.
        process.send_signal(signal.SIGINT)
        for pid in pids[::2]:
            os.kill(pid, signal.SIGINT)
        poll(lambda: not any(map(is_alive, pids[::2])) or process.poll())
        assert process.poll() is None
        process.kill()
    poll(lambda: not any(map(is_alive, pids)))
