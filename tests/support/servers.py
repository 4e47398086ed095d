"""Start real servers for tests, and stop them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from support import children
from support.paths import APPS

T = TypeVar("T")

BIN = Path(sys.executable).parent

# Lines that fail a test if a server logs them.
CRASHES = ("Segmentation fault", "DAMN !", "BrokenPipe", "uwsgi_response_write_headers_do()")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def poll(check: Callable[[], T], timeout: float = 10.0) -> T:
    """Call *check* until its result is true, and return that. Fail after *timeout* seconds."""
    deadline = time.monotonic() + timeout
    while True:
        result = check()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {check}: {result!r}")
        time.sleep(0.01)


class Server:
    """A server process of a test."""

    def __init__(
        self, command: list[str], port: int, log: Path, env: dict[str, str], cwd: Path = APPS
    ) -> None:
        self.port = port
        self.log_path = log
        self._killed: set[int] = set()
        self._is_asked = False
        with log.open("wb") as output:
            self.process = children.start(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **env},
                cwd=cwd,
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def http(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def ws(self, path: str) -> str:
        return f"ws://127.0.0.1:{self.port}{path}"

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.http(path), timeout=10) as response:
            return response.read().decode()

    def wait_ready(self, path: str = "/") -> None:
        def answers() -> bool:
            assert self.process.poll() is None, f"the server ended:\n{self.log}"
            try:
                self.get(path)
            except urllib.error.HTTPError as error:
                error.close()
                return error.code < 500
            except OSError:
                return False
            return True

        try:
            poll(answers, 20)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log}") from None

    def wait_exit(self, timeout: float = 20.0) -> int:
        return self.process.wait(timeout)

    def kill_worker(self, pid: int) -> None:
        """Kill a worker with SIGKILL, and don't count that as a crash."""
        self._killed.add(pid)
        os.kill(pid, signal.SIGKILL)

    def begin_stop(self) -> None:
        """Send SIGINT without waiting, so that several servers can stop at the same time."""
        self._is_asked = True
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)

    def stop(self) -> None:
        if not self._is_asked:
            self.begin_stop()
        if self.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(15)
        children.kill_group(self.process)
        log = "\n".join(line for line in self.log.splitlines() if not self._is_own_kill(line))
        found = [crash for crash in CRASHES if crash in log]
        assert not found, self.log

    def _is_own_kill(self, line: str) -> bool:
        return any(f"(pid: {pid}) died, killed by signal 9" in line for pid in self._killed)


@contextlib.contextmanager
def running(
    command: Callable[[int], list[str]],
    log: Path,
    env: dict[str, str] | None = None,
    *,
    ready: str | None = "/",
    cwd: Path = APPS,
) -> Iterator[Server]:
    """Run a server for the duration of a ``with`` block.

    :param command: returns its command line for a port.
    """
    port = free_port()
    server = Server(command(port), port, log, {"PORT": str(port), **(env or {})}, cwd)
    try:
        if ready is not None:
            server.wait_ready(ready)
        yield server
    finally:
        server.stop()


def uwsgi(
    app: str,
    *options: str,
    router: bool = False,
    binary: Callable[[], Path] = lambda: BIN / "uwsgi",
) -> Callable[[int], list[str]]:
    """Return uWSGI's command line for ``module:callable``, with or without the HTTP router."""

    def command(port: int) -> list[str]:
        address = f"127.0.0.1:{port}"
        front = ["--http-socket", address]
        if router:
            front = ["--http", address, "--http-websockets", "--http-buffer-size", "65536"]
        return [str(binary()), *front, "--master", "--need-app", "--wsgi", app, *options]

    return command


def gunicorn(app: str, *options: str) -> Callable[[int], list[str]]:
    def command(port: int) -> list[str]:
        return [str(BIN / "gunicorn"), "--bind", f"127.0.0.1:{port}", *options, app]

    return command


def program(script: str) -> Callable[[int], list[str]]:
    """Return the command line of a script that takes a port."""
    return lambda port: [sys.executable, script, str(port)]


def flask_run(app: str, *options: str, debug: bool = False) -> Callable[[int], list[str]]:
    """Return the command line of Werkzeug's development server."""

    def command(port: int) -> list[str]:
        flags = ["--debug"] if debug else []
        start = [str(BIN / "flask"), "--app", app, *flags, "run"]
        return [*start, "--host", "127.0.0.1", "--port", str(port), *options]

    return command
