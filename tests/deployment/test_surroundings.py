"""What an application may run in: uWSGI's emperor, another user, Python's own options."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from support import readable, servers
from support.engines import ASYNCIO, BLOCKING, GEVENT
from support.raw import RawClient
from support.servers import APPS, BIN, Server, free_port
from websockets.frames import Opcode

from flask_wsviews.servers.uwsgi.binary import wheel_interpreter

ENGINES = {"blocking": BLOCKING, "gevent": GEVENT, "asyncio": ASYNCIO}
CORES = {"blocking": ("threads", "4"), "gevent": ("gevent", "10"), "asyncio": ("threads", "1")}


def echo(client: RawClient, text: str) -> None:
    client.send(Opcode.TEXT, text)
    assert client.recv_message() == text.encode()


# -- uWSGI --------------------------------------------------------------------------------------

VASSAL = """
[uwsgi]
http-socket = 127.0.0.1:{port}
master = true
need-app = true
chdir = {apps}
wsgi = contract:app
env = ENGINE={engine}
{cores} = {number}
{more}
"""


@pytest.fixture
def as_nobody(tmp_path: Path) -> list[str]:
    """What to put before a command that becomes the user nobody."""
    if reason := readable.why_not():
        pytest.skip(reason)
    folder = tmp_path / "kept"
    folder.mkdir()
    return readable.readable(folder)


def user_of(server: Server) -> int:
    """The user whose worker serves."""
    pid = json.loads(server.get("/process"))["pid"]
    return os.stat(f"/proc/{pid}").st_uid


class Vassal(Server):
    """A server that the emperor starts."""

    def __init__(self, emperor: Server, folder: Path, engine: str, more: str) -> None:
        self.process, self.log_path = emperor.process, emperor.log_path
        self.port = free_port()
        self.ini = folder / f"{engine}.ini"
        cores, number = CORES[engine]
        chosen = ENGINES[engine]["ENGINE"]
        self.ini.write_text(
            VASSAL.format(
                port=self.port, apps=APPS, engine=chosen, cores=cores, number=number, more=more
            )
        )


@contextmanager
def vassals(tmp_path: Path, before: Sequence[str] = (), more: str = "") -> Iterator[list[Vassal]]:
    """An emperor with a vassal for each engine.

    :param before: what to put before its command.
    :param more: lines for the files of its vassals.
    """
    folder = tmp_path / "vassals"
    folder.mkdir()
    command = [*before, str(BIN / "uwsgi"), "--emperor", str(folder), "--emperor-freq", "1"]
    if interpreter := wheel_interpreter(str(BIN / "uwsgi")):
        command += ["--binary-path", interpreter]
    with servers.running(lambda port: command, tmp_path / "log", ready=None) as emperor:
        found = [Vassal(emperor, folder, engine, more) for engine in ENGINES]
        for vassal in found:
            vassal.wait_ready()
        yield found


def test_an_emperor(tmp_path: Path) -> None:
    with vassals(tmp_path) as started, ExitStack() as stack:
        clients = [stack.enter_context(RawClient(vassal, 20).open("/echo")) for vassal in started]
        for client in clients:
            echo(client, "to a vassal")
        for vassal in started:
            # uWSGI counts in whole seconds.
            written = vassal.ini.stat().st_mtime
            os.utime(vassal.ini, (written + 2, written + 2))
        assert [client.recv_close().code for client in clients] == [1012] * 3
        for vassal in started:
            vassal.wait_ready()
        clients = [stack.enter_context(RawClient(vassal, 20).open("/echo")) for vassal in started]
        for vassal in started:
            vassal.ini.unlink()
        assert [client.recv_close().code for client in clients] == [1001] * 3


def test_an_emperor_whose_vassals_are_another_user(tmp_path: Path, as_nobody: list[str]) -> None:
    with vassals(tmp_path, as_nobody, "uid = nobody\ngid = nogroup") as started:
        for vassal in started:
            assert user_of(vassal) != os.geteuid()
            with RawClient(vassal).open("/echo") as client:
                echo(client, "to nobody")


@pytest.mark.parametrize("engine", ENGINES)
def test_another_user(tmp_path: Path, as_nobody: list[str], engine: str) -> None:
    cores, number = CORES[engine]
    options = ["--uid", "nobody", "--gid", "nogroup", f"--{cores}", number]
    start = servers.uwsgi("contract:app", *options)
    with (
        servers.running(
            lambda port: [*as_nobody, *start(port)], tmp_path / "log", ENGINES[engine]
        ) as server,
        RawClient(server).open("/echo") as client,
    ):
        assert user_of(server) != os.geteuid()
        echo(client, "to nobody")


# -- Python -------------------------------------------------------------------------------------

#: Each as an environment variable for uWSGI, and for servers that are started by Python.
OPTIONS = {"PYTHONOPTIMIZE": "1", "PYTHONWARNINGS": "error", "PYTHONDEVMODE": "1"}

HOSTS = {
    "uwsgi-blocking": (servers.uwsgi("contract:app", "--threads", "4"), BLOCKING),
    "uwsgi-gevent": (servers.uwsgi("contract:app", "--gevent", "10"), GEVENT),
    "uwsgi-asyncio": (servers.uwsgi("contract:app"), ASYNCIO),
    "gunicorn-gevent": (servers.gunicorn("contract:app", "-k", "gevent"), GEVENT),
    "werkzeug-blocking": (servers.flask_run("contract"), BLOCKING),
    "werkzeug-asyncio": (servers.flask_run("contract"), ASYNCIO),
}

#: What an assertion, a warning or an error looks like in a log.
COMPLAINTS = ("Warning", "Traceback", "Exception ignored", "Error")


@pytest.mark.parametrize("host", HOSTS)
def test_options_of_python(tmp_path: Path, host: str) -> None:
    """``-O``, ``-W error`` and ``-X dev``."""
    command, env = HOSTS[host]
    with servers.running(command, tmp_path / "log", {**env, **OPTIONS}) as server:
        assert json.loads(server.get("/options")) == [1, "error", True]
        for path in ("/echo", "/views/all/bob"):
            with RawClient(server) as client:
                client.open(path)
                if path != "/echo":
                    assert client.recv_message() == b"hello bob"
                echo(client, "strictly")
                client.send(Opcode.CLOSE, b"\x03\xe8")
                assert client.recv_close().code == 1000
        with RawClient(server) as client:
            client.open("/echo").reset()
    assert [line for line in server.log.splitlines() if any(c in line for c in COMPLAINTS)] == []
