"""One server on the first core, a client in C on the second, and what both took."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from idle import cpu_seconds
from subjects import HERE, MADE, SUBJECTS, Subject, Unavailable, available, compile_c

APPS = HERE / "echo_apps"

Figures = dict[str, float]

K = TypeVar("K")
T = TypeVar("T")


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


def of_group(group: int, measure: Callable[[int], float]) -> float:
    """The sum of what *measure* says of each process of a group."""
    total = 0.0
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        # It may end meanwhile.
        with contextlib.suppress(OSError):
            if os.getpgid(pid) == group:
                total += measure(pid)
    return total


def cpu_of(group: int) -> float:
    """Seconds that the processes of a group have worked so far."""
    return of_group(group, cpu_seconds)


def compile_client(name: str) -> Path:
    """The client of ``name.c``."""
    made = MADE / name
    try:
        compile_c(HERE / f"{name}.c", made)
    except Unavailable as error:
        raise SystemExit(f"the client can't be compiled: {error}") from None
    return made


def drive(client: Path, subject: Subject, path: str, *arguments: object) -> tuple[float, ...]:
    """Let a client at a server.

    :returns: the seconds of CPU time that the server took between the client's "begin" and its
        "end", and then the numbers that the client printed.
    """
    with server(subject) as (group, port):
        running = subprocess.Popen(
            [str(client), str(port), path, *map(str, arguments)],
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {1}) if os.cpu_count() != 1 else None,
        )
        assert running.stdout is not None
        with running:
            if running.stdout.readline() != "begin\n":
                raise SystemExit(f"{' '.join(subject.command)} doesn't answer")
            before = cpu_of(group)
            running.stdout.readline()
            used = cpu_of(group) - before
            numbers = running.stdout.readline().split()
        if running.returncode:
            raise SystemExit(f"{' '.join(subject.command)} stopped answering")
    return (used, *map(float, numbers))


def add_options(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    """What all scripts take."""
    parser.add_argument("-s", "--seconds", type=float, default=2.0, help="of each run; default: 2")
    parser.add_argument("-r", "--rounds", type=int, default=3, help="their median counts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))


def choose(
    parser: argparse.ArgumentParser, names: list[str], fits: Callable[[Subject], bool]
) -> dict[str, Subject]:
    """The subjects of these names, or all, as far as they fit and can run."""
    if unknown := set(names) - set(SUBJECTS):
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(SUBJECTS)}")
    chosen = {name: SUBJECTS[name] for name in names or SUBJECTS}
    return available({name: subject for name, subject in chosen.items() if fits(subject)})


def take_turns(
    subjects: Mapping[K, T], rounds: int, measure: Callable[[T], Figures]
) -> dict[K, Figures]:
    """The medians over rounds, in each of which every subject has its turn."""
    # Otherwise who is told to end leaves a server behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    runs: dict[K, list[Figures]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, subject in subjects.items():
            runs[name].append(measure(subject))
    return {
        name: {key: statistics.median(run[key] for run in found) for key in found[0]}
        for name, found in runs.items()
    }


def write_json(file: Path | None, rows: list[dict[str, object]]) -> None:
    """A list of objects: the subject's name and its figures."""
    if file is not None:
        file.write_text(json.dumps(rows, indent=2) + "\n")
