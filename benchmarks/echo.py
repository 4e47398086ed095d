"""What an echo costs the server, beside that of other libraries.

``python benchmarks/echo.py [-c CONNECTIONS] [-b BYTES] [--binary] [-s SECONDS] [-r ROUNDS] [NAME
…]`` prints microseconds of the server's CPU per message, messages per second and the median and
99th percentile of the round trips. The subjects take turns in each round; medians count. The
client is load.c, compiled on the spot; it and the server have a core each.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
APPS = HERE / "echo_apps"
BIN = Path(sys.executable).parent

TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Subject:
    """A server: its command, with ``{port}`` in it, and where the echo is."""

    command: list[str]
    path: str = "/"
    env: dict[str, str] = field(default_factory=dict)
    binary: bool = True


def uwsgi(app: str, *options: str) -> list[str]:
    return [
        str(BIN / "uwsgi"),
        *("--http-socket", "127.0.0.1:{port}", "--master", "--processes", "1", "--need-app"),
        *("--disable-logging", "--listen", "100", "--wsgi", app, *options),
    ]


def ours(engine: str, path: str, *options: str) -> Subject:
    return Subject(uwsgi("ours:app", *options), path, {"ENGINE": engine})


def gunicorn(*options: str) -> list[str]:
    return [str(BIN / "gunicorn"), "--bind", "127.0.0.1:{port}", *options, "flask_sock_app:app"]


def uvicorn(implementation: str) -> Subject:
    command = [str(BIN / "uvicorn"), "--port", "{port}", "--log-level", "error", "--loop", "uvloop"]
    options = ["--ws", implementation, "--ws-per-message-deflate", "false", "starlette_app:app"]
    return Subject(command + options, binary=False)


def python(name: str) -> Subject:
    return Subject([sys.executable, "asyncio_servers.py", name, "{port}"])


GEVENT = ("--gevent", "200")
THREADS = ("--threads", "8")
SUBJECTS = {
    "asyncio-function": ours("asyncio", "/function", *THREADS),
    "asyncio-class": ours("asyncio", "/class", *THREADS),
    "gevent-function": ours("gevent", "/function", *GEVENT),
    "gevent-class": ours("gevent", "/class", *GEVENT),
    "blocking-function": ours("blocking", "/function", *THREADS),
    "blocking-class": ours("blocking", "/class", *THREADS),
    "uwsgi-api-gevent": Subject(uwsgi("uwsgi_api:app", *GEVENT), binary=False),
    "flask-sock-gevent": Subject(gunicorn("-k", "gevent")),
    "flask-sock-threads": Subject(gunicorn("-k", "gthread", "--threads", "200")),
    "uvicorn-websockets": uvicorn("websockets-sansio"),
    "uvicorn-wsproto": uvicorn("wsproto"),
    "websockets": python("websockets"),
    "aiohttp": python("aiohttp"),
    "tornado": python("tornado"),
    "picows": python("picows"),
}


@dataclass
class Figures:
    """Of one run."""

    cpu: float
    rate: float
    median: float
    worst: float


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def server(subject: Subject) -> Iterator[tuple[int, int]]:
    """The process and the port of a server that runs on the first core."""
    port = free_port()
    command = [word.format(port=port) for word in subject.command]
    process = subprocess.Popen(
        command,
        cwd=APPS,
        env={**os.environ, **subject.env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {0}),
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"it doesn't run: {' '.join(command)}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield process.pid, port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def cpu_of(group: int) -> float:
    """Seconds that the processes of a group have worked so far."""
    total = 0.0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getpgid(int(folder.name)) != group:
                continue
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / TICK
    return total


def compile_client(folder: Path) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise SystemExit("the client needs a C compiler")
    made = folder / "load"
    subprocess.run([compiler, "-O2", "-o", str(made), str(HERE / "load.c")], check=True)
    return made


def measure(client: Path, subject: Subject, options: argparse.Namespace) -> Figures:
    kind = "binary" if options.binary else "text"
    with server(subject) as (group, port):
        numbers = [options.connections, options.bytes, kind, options.seconds]
        running = subprocess.Popen(
            [str(client), str(port), subject.path, *map(str, numbers)],
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {1}) if os.cpu_count() != 1 else None,
        )
        assert running.stdout is not None
        if running.stdout.readline() != "begin\n":
            raise SystemExit(f"{' '.join(subject.command)} doesn't echo")
        before = cpu_of(group)
        running.stdout.readline()
        used = cpu_of(group) - before
        count, took, median, worst = map(float, running.stdout.readline().split())
        running.wait()
    return Figures(used / count * 1e6, count / took, median, worst)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-c", "--connections", type=int, default=50)
    parser.add_argument("-b", "--bytes", type=int, default=32)
    parser.add_argument("-s", "--seconds", type=float, default=2.0)
    parser.add_argument("-r", "--rounds", type=int, default=3)
    parser.add_argument("--binary", action="store_true")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SUBJECTS))
    options = parser.parse_args()
    if unknown := set(options.names) - set(SUBJECTS):
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(SUBJECTS)}")
    chosen = {
        name: subject
        for name, subject in SUBJECTS.items()
        if name in (options.names or SUBJECTS) and (subject.binary or not options.binary)
    }
    found: dict[str, list[Figures]] = {name: [] for name in chosen}
    with tempfile.TemporaryDirectory() as folder:
        client = compile_client(Path(folder))
        for _ in range(options.rounds):
            for name, subject in chosen.items():
                found[name].append(measure(client, subject, options))
    print("| subject | CPU, µs per message | messages/s | median, µs | 99 %, µs |")
    print("|---|---|---|---|---|")
    for name, runs in found.items():
        cpu, rate, median, worst = (
            statistics.median(getattr(run, key) for run in runs)
            for key in ("cpu", "rate", "median", "worst")
        )
        print(f"| {name} | {cpu:.1f} | {rate:,.0f} | {median:,.0f} | {worst:,.0f} |")


if __name__ == "__main__":
    main()
