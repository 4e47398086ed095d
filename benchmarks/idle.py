"""What idle WebSockets cost: memory for each, and the time and CPU that opening them takes.

Starts a real uWSGI with one worker for each engine and connects to its --http-socket.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import os
import resource
import shlex
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
UWSGI = Path(sys.executable).parent / "uwsgi"
HOST = "127.0.0.1"

AT_ONCE = 32  # handshakes under way, less than --listen
SAMPLE = 100  # connections that have to answer afterwards
WARM_UP = 50  # connections before the first look at the memory
TIMEOUT = 30.0

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
LINGER_NOT = struct.pack("ii", 1, 0)  # closing sends RST: no port is kept in TIME_WAIT


@dataclass(frozen=True)
class Subject:
    """What is measured."""

    extension: str
    hooks: str
    options: tuple[str, ...]
    loop: str = ""

    def command(self, port: int, connections: int) -> list[str]:
        return [
            *(str(UWSGI), "--http-socket", f"{HOST}:{port}", "--master", "--processes", "1"),
            *("--listen", "100", "--max-fd", str(connections + 1000), "--need-app"),
            *("--disable-logging", "--wsgi", "idle_app:app", *self.options),
        ]

    @property
    def environ(self) -> dict[str, str]:
        own = {
            "BENCH_EXTENSION": self.extension,
            "BENCH_HOOKS": self.hooks,
            "BENCH_LOOP": self.loop,
        }
        return {**os.environ, **own}


SUBJECTS = {
    "gevent": Subject("GeventWebSocket", "def", ("--gevent", "100")),
    "asyncio": Subject("AsyncioWebSocket", "async def", ("--enable-threads",)),
    "asyncio-def": Subject("AsyncioWebSocket", "def", ("--enable-threads",)),
    "uvloop": Subject("AsyncioWebSocket", "async def", ("--enable-threads",), "uvloop"),
    # A thread each, of which a worker starts 1,000.
    "blocking": Subject("WebSocket", "def", ("--enable-threads",)),
}


@dataclass(frozen=True)
class Result:
    """What one run took."""

    memory: float  # KiB per connection
    seconds: float  # for all connections
    cpu: float  # ms per 1,000 connections


def measure(subject: Subject, connections: int) -> Result:
    with serving(subject, connections) as port:
        with urllib.request.urlopen(f"http://{HOST}:{port}/", timeout=TIMEOUT) as response:
            pid = int(response.read())
        return asyncio.run(measure_worker(port, pid, connections))


async def measure_worker(port: int, pid: int, connections: int) -> Result:
    close_all(await connect_many(port, WARM_UP))
    await settled(lambda: cpu_seconds(pid))
    memory, cpu, began = resident_kib(pid), cpu_seconds(pid), time.monotonic()
    socks = await connect_many(port, connections)
    seconds = time.monotonic() - began
    cpu = cpu_seconds(pid) - cpu
    await settled(lambda: cpu_seconds(pid))
    memory = resident_kib(pid) - memory
    for sock in socks[:: max(1, connections // SAMPLE)]:
        await check_echo(sock)
    close_all(socks)
    return Result(memory / connections, seconds, cpu / connections * 1_000_000)


async def connect_many(
    port: int, count: int, *, path: str = "/idle", greeting: bytes = b"\x81\x05ready"
) -> list[socket.socket]:
    """Open WebSockets, each up to what it is greeted with."""
    socks: list[socket.socket] = []

    async def connect_some() -> None:
        while len(socks) < count:
            sock = socket.socket()
            socks.append(sock)
            await asyncio.wait_for(connect(sock, port, path, greeting), TIMEOUT)

    await asyncio.gather(*(connect_some() for _ in range(AT_ONCE)))
    return socks


async def connect(sock: socket.socket, port: int, path: str, greeting: bytes) -> None:
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
    await loop.sock_connect(sock, (HOST, port))
    request = (
        f"GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    await loop.sock_sendall(sock, request.encode())
    received = b""
    while b"\r\n\r\n" + greeting not in received:
        data = await loop.sock_recv(sock, 4096)
        if not data:
            raise SystemExit(f"A connection was refused: {received!r}")
        received += data
    if not received.startswith(b"HTTP/1.1 101 "):
        raise SystemExit(f"A connection was refused: {received!r}")


async def check_echo(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    # A text frame whose mask is all zeros, and what has to come back.
    await loop.sock_sendall(sock, b"\x81\x85\0\0\0\0hello")
    answer = await asyncio.wait_for(loop.sock_recv(sock, 64), TIMEOUT)
    if answer != b"\x81\x05hello":
        raise SystemExit(f"A connection doesn't answer any more: {answer!r}")


def close_all(socks: list[socket.socket]) -> None:
    for sock in socks:
        sock.close()


async def settled(cpu: Callable[[], float]) -> None:
    """Wait until a server, whose CPU time *cpu* tells, has nothing more to do."""
    last = -1.0
    while (now := cpu()) != last:
        last = now
        await asyncio.sleep(0.3)


def resident_kib(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE // 1024


def cpu_seconds(pid: int) -> float:
    # The name, in brackets, may contain anything; utime and stime are the 14th and 15th field.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@contextlib.contextmanager
def serving(subject: Subject, connections: int) -> Iterator[int]:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port = int(sock.getsockname()[1])
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            subject.command(port, connections),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=HERE,
            env=subject.environ,
            start_new_session=True,
        )
        try:
            wait_ready(process, port)
            yield port
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace"))
            raise
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def wait_ready(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            urllib.request.urlopen(f"http://{HOST}:{port}/", timeout=TIMEOUT).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("uWSGI didn't start.") from None
        time.sleep(0.05)


def allow_descriptors(count: int) -> None:
    """Raise the limit of open files, here and so in uWSGI."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and count > hard:
        raise SystemExit(f"{count} open files are needed, but `ulimit -Hn` is {hard}.")
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def main() -> None:
    has_uvloop = importlib.util.find_spec("uvloop") is not None
    default = ["gevent", "asyncio", "asyncio-def", *(["uvloop"] if has_uvloop else [])]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "engines",
        nargs="*",
        default=default,
        metavar="engine",
        help=f"of these: {', '.join(SUBJECTS)} (default: {', '.join(default)})",
    )
    parser.add_argument("-n", "--connections", type=int, default=2000, help="default: 2000")
    parser.add_argument("-r", "--runs", type=int, default=3, help="their median counts; default: 3")
    arguments = parser.parse_args()
    unknown = set(arguments.engines) - SUBJECTS.keys()
    if unknown:
        parser.error(f"no such engine: {', '.join(sorted(unknown))}")
    if "uvloop" in arguments.engines and not has_uvloop:
        parser.error("uvloop isn't installed")
    count = arguments.connections
    allow_descriptors(count + 1100)
    print(f"{count} connections, median of {arguments.runs} runs")
    print("\n| engine | hooks | KiB per connection | connecting, s | CPU, ms per 1,000 |")
    print("|---|---|---|---|---|", flush=True)
    for name in arguments.engines:
        subject = SUBJECTS[name]
        results = [measure(subject, count) for _ in range(arguments.runs)]
        memory, seconds, cpu = (
            statistics.median(getattr(result, field) for result in results)
            for field in ("memory", "seconds", "cpu")
        )
        engine = name.removesuffix("-def")
        print(
            f"| {engine} | `{subject.hooks}` | {memory:.1f} | {seconds:.2f} | {cpu:.0f} |",
            flush=True,
        )
    print("\nuWSGI as started for each:\n")
    for name in arguments.engines:
        print("   ", shlex.join(["uwsgi", *SUBJECTS[name].command(8080, count)[1:]]))


if __name__ == "__main__":
    main()
