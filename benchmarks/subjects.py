"""The servers that are measured: ours, and those of others."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent

OLD_VERSION = "0.6.1"
WS_VERSION = "8.23.0"

# What isn't in the environment is put here by the scripts themselves; git doesn't see it.
MADE = HERE.parent / ".venv-bench"
BARE = MADE / "bare"
OLD_PACKAGE = MADE / f"old-package-{OLD_VERSION}"
NODE_PACKAGES = MADE / f"ws-{WS_VERSION}"

SOCKET_IO = "/socket.io/?EIO=4&transport=websocket"


class Unavailable(Exception):
    """A subject can't be measured here; it says what to install."""


@dataclass(frozen=True)
class Subject:
    """A server: its command, with ``{port}`` in it, and what it serves.

    :param command: run in echo_apps/.
    :param echo: the path that echoes.
    :param fanout: the path where each message goes to all that are connected there.
    :param handshake: the path of handshakes.py; it may ask for a session.
    :param env: variables on top of the environment.
    :param binary: whether it echoes binary messages as such.
    :param most: how many connections it can have at once.
    :param needs: the modules without which it doesn't run.
    :param prepare: makes or fetches what the environment can't have; raises :exc:`Unavailable`.
    """

    command: list[str]
    echo: str = "/"
    fanout: str | None = None
    handshake: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    binary: bool = True
    most: int = 60_000
    needs: tuple[str, ...] = ()
    prepare: Callable[[], None] | None = None

    def make_ready(self) -> None:
        """Raise :exc:`Unavailable` if it can't run."""
        if self.prepare is not None:
            self.prepare()
        lacking = [name for name in self.needs if importlib.util.find_spec(name) is None]
        if shutil.which(self.command[0]) is None:
            lacking.append(self.command[0])
        if lacking:
            raise Unavailable(f"no {', '.join(lacking)}: pip install -e '.[uwsgi,gevent,bench]'")


def available(subjects: dict[str, Subject]) -> dict[str, Subject]:
    """Those that can run here; of each other one a line on stderr says what it lacks."""
    found = {}
    for name, subject in subjects.items():
        try:
            subject.make_ready()
        except Unavailable as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
        else:
            found[name] = subject
    return found


def compile_c(source: Path, made: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise Unavailable("no C compiler: install cc, gcc or clang")
    made.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([compiler, "-O2", "-o", str(made), str(source)], check=True)


def compile_bare() -> None:
    compile_c(HERE / "bare.c", BARE)


def fetch_old_package() -> None:
    """Without what it depends on: that is here already, and it would build another uWSGI."""
    name = f"Flask-uWSGI-WebSocket=={OLD_VERSION}"
    if not OLD_PACKAGE.exists():
        fetch(sys.executable, "-m", "pip", "install", "--no-deps", "-t", str(OLD_PACKAGE), name)


def fetch_ws() -> None:
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise Unavailable("no node or npm: install Node.js")
    if not (NODE_PACKAGES / "node_modules").exists():
        NODE_PACKAGES.mkdir(parents=True, exist_ok=True)
        quiet = ("--no-audit", "--no-fund", "--no-save")
        fetch(npm, "install", *quiet, "--prefix", str(NODE_PACKAGES), f"ws@{WS_VERSION}")


def fetch(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Unavailable(f"this failed: {' '.join(command)}\n{done.stderr}")


def uwsgi(app: str, *options: str) -> list[str]:
    return [
        str(BIN / "uwsgi"),
        *("--http-socket", "127.0.0.1:{port}", "--master", "--processes", "1", "--need-app"),
        *("--disable-logging", "--listen", "100", "--wsgi", app, *options),
    ]


def ours(engine: str, kind: str, *options: str) -> Subject:
    """Its function route only echoes: groups and handshakes are the view's."""
    return Subject(
        uwsgi("ours:app", *options),
        f"/{kind}",
        fanout="/fanout" if kind == "class" else None,
        handshake="/handshake" if kind == "class" else None,
        env={"ENGINE": engine},
        # uWSGI starts 1,000 threads at most; some of them are its own.
        most=1000 if engine == "blocking" else 60_000,
        needs=("flask_wsviews", "gevent", "uvloop"),
    )


def uncompiled(engine: str, *options: str) -> Subject:
    """The class-based view once more, with the modules as they are in the sources."""
    subject = ours(engine, "class", *options)
    env = {**subject.env, "PYTHONPATH": str(HERE.parent)}
    return replace(subject, fanout=None, handshake=None, env=env)


def flask_only(*options: str) -> Subject:
    """It has no WebSockets: what of a handshake isn't ours."""
    return Subject(uwsgi("flask_only:app", *options), handshake="/handshake", most=0)


def old_package(client: str, *options: str) -> Subject:
    return Subject(
        uwsgi("old_package:app", *options),
        env={"CLIENT": client, "PYTHONPATH": str(OLD_PACKAGE)},
        binary=False,
        most=200,
        prepare=fetch_old_package,
    )


def flask_sock(*options: str, most: int) -> Subject:
    command = [str(BIN / "gunicorn"), "--bind", "127.0.0.1:{port}", *options, "flask_sock_app:app"]
    needs = ("gunicorn", "flask_sock", "gevent")
    return Subject(command, fanout="/fanout", handshake="/handshake", most=most, needs=needs)


def uvicorn(implementation: str, module: str) -> Subject:
    command = [str(BIN / "uvicorn"), "--port", "{port}", "--log-level", "error", "--loop", "uvloop"]
    options = ["--ws", implementation, "--ws-per-message-deflate", "false", "starlette_app:app"]
    return Subject(
        command + options,
        fanout="/fanout",
        handshake="/",
        binary=False,
        needs=("uvicorn", "starlette", "uvloop", module),
    )


def python(name: str) -> Subject:
    command = [sys.executable, "asyncio_servers.py", name, "{port}"]
    return Subject(command, fanout="/fanout", handshake="/", needs=(name, "uvloop"))


GEVENT = ("--gevent", "200")
THREADS = ("--threads", "8")
WORKER_CONNECTIONS = ("--worker-connections", "20000")

SUBJECTS = {
    "asyncio-function": ours("asyncio", "function", *THREADS),
    "asyncio-class": ours("asyncio", "class", *THREADS),
    "gevent-function": ours("gevent", "function", *GEVENT),
    "gevent-class": ours("gevent", "class", *GEVENT),
    "blocking-function": ours("blocking", "function", *THREADS),
    "blocking-class": ours("blocking", "class", *THREADS),
    "asyncio-uncompiled": uncompiled("asyncio", *THREADS),
    "gevent-uncompiled": uncompiled("gevent", *GEVENT),
    "blocking-uncompiled": uncompiled("blocking", *THREADS),
    # A core holds one connection for as long as it lasts. Of 5,000 members of a fan-out some get
    # nothing.
    "uwsgi-api-gevent": Subject(
        uwsgi("uwsgi_api:app", "--gevent", "6000"),
        fanout="/fanout",
        binary=False,
        most=2200,
        needs=("gevent",),
    ),
    "flask-only-gevent": flask_only(*GEVENT),
    "flask-only-threads": flask_only(*THREADS),
    "old-package-gevent": old_package("gevent", *GEVENT),
    "old-package-blocking": old_package("blocking", "--threads", "200"),
    "flask-sock-gevent": flask_sock("-k", "gevent", *WORKER_CONNECTIONS, most=20_000),
    "flask-sock-threads": flask_sock("-k", "gthread", "--threads", "200", most=200),
    "flask-socketio-gevent": Subject(
        [
            *(str(BIN / "gunicorn"), "--bind", "127.0.0.1:{port}", "-k", "gevent"),
            *(*WORKER_CONNECTIONS, "socketio_app:app"),
        ],
        SOCKET_IO,
        fanout=SOCKET_IO,
        binary=False,
        needs=("gunicorn", "flask_socketio", "gevent", "simple_websocket"),
    ),
    "uvicorn-websockets": uvicorn("websockets-sansio", "websockets"),
    "uvicorn-wsproto": uvicorn("wsproto", "wsproto"),
    "channels-daphne": Subject(
        [
            *(str(BIN / "daphne"), "-b", "127.0.0.1", "-p", "{port}", "-v", "0"),
            *("--ping-interval", "600"),
            "channels_app:application",
        ],
        fanout="/fanout",
        # Its layer in memory looks through all members for each delivery: minutes for 5,000.
        most=2000,
        needs=("channels", "daphne"),
    ),
    "websockets": python("websockets"),
    "aiohttp": python("aiohttp"),
    "tornado": python("tornado"),
    "picows": python("picows"),
    "ws-node": Subject(
        ["node", "ws_server.js", "{port}", str(NODE_PACKAGES)],
        fanout="/fanout",
        handshake="/",
        prepare=fetch_ws,
    ),
    # What is left of the figures is the client's, and the kernel's.
    "bare-c": Subject([str(BARE), "{port}"], fanout="/fanout", handshake="/", prepare=compile_bare),
}
