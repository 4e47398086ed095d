"""A filter for uWSGI's output: it drops the lines that every start, reload and stop prints.

``run()`` starts this file as a program, so it doesn't import the package.
"""

from __future__ import annotations

import contextlib
import os
import re
import select

#: How long to wait for the rest of a line before showing its beginning, in seconds.
HOLD = 0.2

# The lines of a start, reload and stop without errors. All other lines are shown.
_START = (
    r"\*\*\* Starting uWSGI .*",
    r"compiled with version: .*",
    r"os: [A-Z]\w+-.*",
    r"nodename: \S+",
    r"machine: \S+",
    r"clock source: \w+",
    r"pcre jit (en|dis)abled",
    r"detected (number of CPU cores|binary path|max file descriptor number): .*",
    r"current working directory: .*",
    r"!!! no internal routing support, rebuild with pcre support !!!",
    r"uWSGI running as root, you can use .*",
    r"\*\*\* WARNING: you are running uWSGI as root !!! .*",
    r"your (processes number|process address space) limit is .*",
    r"your memory page size is \d+ bytes",
    r"your server socket listen backlog is limited to \d+ connections",
    r"your mercy for graceful operations on workers is \d+ seconds",
    r"- async cores set to \d+ - fd table size: \d+",
    r"lock engine: .*",
    r"thunder lock: .*",
    r"max open files limit raised to \d+",
    r"mapped \d+ bytes .*",
    r"cores allocated\.\.\.",
    r"threads stack size set to \d+k",
    r"uWSGI https? bound on .* fd \d+",
    r"uwsgi (shared )?socket \d+ (bound to|inherited|attached to|mapped to) .*",
    r"Python version: .*",
    r"PEP 405 virtualenv detected: .*",
    r"Set PythonHome to .*",
    r"Python main interpreter initialized at .*",
    r"python threads support enabled",
    r"\*\*\* Python threads support is disabled\. .*",
    r"Python auto-reloader enabled.*",
    r"enabled greenlet engine",
    r"added .* to pythonpath\.",
    r"WSGI app \d+ \(mountpoint=.*\) ready in .*",
    r"\*\*\* Operational MODE: .*",
    r"\*\*\* uWSGI is running in multiple interpreter mode \*\*\*",
    r"\*\*\* running \S+ loop engine .*",
    r"(gracefully \(RE\))?spawned uWSGI .* \(pid: \d+.*\)",
    r"spawned \d+ offload threads for uWSGI worker \d+",
    r"running \"print:.*\" \(.*\)\.\.\.",
)
_END = (
    r"SIGINT/SIGTERM received\.\.\.killing workers\.\.\.",
    r"graceful shutdown triggered\.\.\.",
    r"\.\.\.(gracefully|brutally) killing workers\.\.\.",
    r"(Gracefully|Brutally) killing worker \d+ \(pid: \d+\)\.\.\.",
    r"stopping gevent (signals|sockets) watchers for worker .*",
    r"main gevent watchers stopped for worker .*",
    r"goodbye to the gevent Hub on worker .*",
    r"gateway \"uWSGI .*\" has been buried .*",
    r"worker \d+ buried after \d+ seconds",
    r"worker \d+ killed successfully \(pid: \d+\)",
    r"VACUUM: .* removed\.",
    r"goodbye to uWSGI\.",
    r"binary reloading uWSGI\.\.\.",
    r"chdir\(\) to .*",
    r"closing all non-uwsgi socket fds .*",
    r"found fd \d+ mapped to (shared )?socket .*",
    r"running \S+",
)
_DATE = r"(\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4} - )?"
_ROUTINE = re.compile(f"{_DATE}({'|'.join(_START + _END)})\\s*".encode())


def is_routine(line: bytes) -> bool:
    """Return whether uWSGI prints *line* on every start, reload or stop."""
    return _ROUTINE.fullmatch(line) is not None


def copy(source: int, sink: int) -> None:
    """Copy lines from one descriptor to another until EOF, without the routine ones."""
    rest = b""
    while True:
        if rest and not select.select([source], [], [], HOLD)[0]:
            # It is a prompt, or the application hasn't finished the line.
            _write(sink, rest)
            rest = b""
        data = os.read(source, 65536)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        _write(sink, b"".join(line + b"\n" for line in lines if not is_routine(line)))
    if not is_routine(rest):
        _write(sink, rest)


def _write(sink: int, data: bytes) -> None:
    # Ignore a closed terminal: uWSGI must be able to keep writing.
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(sink, data) :]


def main() -> None:
    """Copy stdin to stdout in a detached process: the caller's process becomes uWSGI."""
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")
    copy(0, 1)


if __name__ == "__main__":
    main()
