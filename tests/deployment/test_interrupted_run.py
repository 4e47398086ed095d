"""A run of tests that is interrupted, or killed, leaves no server and no other process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
from support.paths import ROOT
from support.servers import poll

#: In the environment of the run, and of all that it starts.
MARK = "INTERRUPTED_RUN"

#: Tests on two shared servers, in two processes side by side.
RUN = (
    *(sys.executable, "-m", "pytest", "-n", "2", "-q", "-p", "no:cacheprovider"),
    *("tests/contract/test_views.py", "-k", "uwsgi-threads-router or gunicorn-gevent-blocking"),
)


def programs(mark: str) -> list[str]:
    """The names of the processes that have *mark* in their environment."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "comm").read_text().strip())
    return found


@pytest.fixture
def mark() -> Iterator[str]:
    mark = uuid4().hex
    yield mark
    assert programs(mark) == []


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_nothing_is_left(signum: signal.Signals, mark: str, tmp_path: Path) -> None:
    command = [*RUN, "--basetemp", str(tmp_path / "run")]
    env = {**os.environ, MARK: mark}
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, start_new_session=True
    ) as run:
        poll(lambda: {"uwsgi", "gunicorn"} <= set(programs(mark)), 60)
        if signum == signal.SIGINT:
            # A terminal sends it to the whole group in its foreground.
            os.killpg(run.pid, signum)
        else:
            run.send_signal(signum)
        run.wait(30)
    poll(lambda: not programs(mark), 30)
