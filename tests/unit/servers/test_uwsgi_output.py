"""What is left of uWSGI's output."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from flask_wsviews.servers.uwsgi import output as uwsgi_output
from flask_wsviews.servers.uwsgi.output import copy, is_routine

ROUTINE = """\
*** Starting uWSGI 2.0.31 (64bit) on [Mon Nov 30 20:46:58 2026] ***
!!! no internal routing support, rebuild with pcre support !!!
*** WARNING: you are running uWSGI as root !!! (use the --uid flag) *** \

uWSGI http bound on localhost:5000 fd 4
uwsgi socket 0 bound to TCP address 127.0.0.1:39787 (port auto-assigned) fd 3
Python version: 3.11.7 (main, May  9 2026, 07:35:25) [GCC 12.2.0]
WSGI app 0 (mountpoint='') ready in 1 seconds on interpreter 0x7f pid: 17106 (default app)
spawned uWSGI worker 1 (pid: 17219, cores: 100)
spawned uWSGI worker 1 (and the only) (pid: 17219, cores: 1)
Mon Nov 30 20:47:01 2026 - main gevent watchers stopped for worker 1 (pid: 17219)...
running "print:Running on http://localhost:5000" (accepting1-once)...
goodbye to uWSGI.
"""

SHOWN = """\
Running on http://localhost:5000 (Ctrl-C stops it)
probably another instance of uWSGI is running on the same address (localhost:5000).
bind(): Address already in use [core/socket.c line 769]
unable to load app 0 (mountpoint='') (callable not found or import error)
*** no app loaded. GAME OVER ***
DAMN ! worker 1 (pid: 17219) died, killed by signal 9 :( trying respawn ...
Respawned uWSGI worker 1 (new pid: 17220)
!!! uWSGI process 17219 got Segmentation Fault !!!
*** HARAKIRI ON WORKER 1 (pid: 17219, try: 1, graceful: yes) ***
[uwsgi-python-reloader] module/file app.py has been modified
Traceback (most recent call last):
ModuleNotFoundError: No module named 'nope'
WARNING in app: running late
machine: the coffee machine is empty
"""


@pytest.mark.parametrize("line", ROUTINE.splitlines())
def test_a_start_and_a_stop_are_routine(line: str) -> None:
    assert is_routine(line.encode())


@pytest.mark.parametrize("line", SHOWN.splitlines())
def test_errors_and_the_application_are_not(line: str) -> None:
    assert not is_routine(line.encode())


def test_what_is_copied() -> None:
    source, sink = os.pipe(), os.pipe()
    thread = threading.Thread(target=copy, args=(source[0], sink[1]))
    thread.start()
    for line in ROUTINE.splitlines(keepends=True):
        # In two pieces, as a pipe may hand it out.
        os.write(source[1], line[:5].encode())
        os.write(source[1], line[5:].encode())
    os.write(source[1], b"a prompt> ")
    assert os.read(sink[0], 100) == b"a prompt> "
    os.write(source[1], b"answered\n\xff\nthe end")
    os.close(source[1])
    thread.join(10)
    os.close(sink[1])
    with open(sink[0], "rb") as rest:
        assert rest.read() == b"answered\n\xff\nthe end"
    os.close(source[0])


def test_a_reader_that_is_gone_stops_nobody() -> None:
    source, sink = os.pipe(), os.pipe()
    os.close(sink[0])
    os.write(source[1], b"nobody reads this\n")
    os.close(source[1])
    copy(source[0], sink[1])
    os.close(source[0])
    os.close(sink[1])


def test_it_runs_beside_the_process_that_starts_it() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", uwsgi_output.__file__],
        input=ROUTINE + "an error\n",
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert (done.stdout, done.stderr) == ("an error\n", "")
