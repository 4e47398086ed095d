"""What docs/ says is so: its code runs, and the tutorial can be followed word for word."""

from __future__ import annotations

import contextlib
import http.cookiejar
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from support import browser, servers
from support.pages import DOCS, all_blocks, blocks, sections, write_files
from support.redis_server import redis_server
from support.servers import BIN, Server, poll
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

import flask_wsviews

PAGES = sorted(
    page
    for page in DOCS.rglob("*.md")
    if "_build" not in page.parts and "\n```python\n" in page.read_text()
)
TUTORIAL = DOCS / "tutorial.md"
TIMEOUT = 20

#: What a page takes for granted that shows only a part of an application.
PART = f"""
import secrets
from flask import Flask, abort, current_app, request, session
from flask_wsviews import {", ".join(flask_wsviews.__all__)}
app = Flask(__name__)
app.secret_key = "secret"
"""
EXTENSION = "websocket = GeventWebSocket(app)\n"


def ids(pages: list[Path]) -> list[str]:
    return [str(page.relative_to(DOCS)) for page in pages]


def module_of(page: Path) -> str:
    """One module of all of a page's blocks that aren't files."""
    found = all_blocks(page.read_text())
    code = "\n".join(block.text for block in found if block.language == "python" and not block.file)
    if re.search(r"^app = ", code, re.MULTILINE) or not code:
        return code
    has_extension = re.search(r"^websocket = ", code, re.MULTILINE)
    return PART + ("" if has_extension else EXTENSION) + code


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory):
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_the_code_of_a_page(page, tmp_path, redis_url):
    code = re.sub(r"redis://localhost(:\d+)?(/\d+)?", redis_url, module_of(page))
    (tmp_path / "page.py").write_text(code)
    # Names that come from nowhere, which running alone finds only where they are used at once.
    rules = "F821" if code.startswith(PART) else "F821,F401"
    ruff = [str(BIN / "ruff"), "check", "--isolated", "--select", rules, "page.py"]
    run(ruff, tmp_path)
    run([sys.executable, "-W", "error", "-c", "import page"], tmp_path)


TESTED = [page for page in PAGES if "`test_" in page.read_text()]


@pytest.mark.parametrize("page", TESTED, ids=ids(TESTED))
def test_the_tests_of_a_page(page, tmp_path):
    write_files(all_blocks(page.read_text()), tmp_path)
    said = run([sys.executable, "-m", "pytest", "-q", "-W", "error"], tmp_path)
    expected = sum(path.read_text().count("\ndef test_") for path in tmp_path.glob("test_*.py"))
    passed = re.search(r"^(\d+) passed in", said, re.MULTILINE)
    assert expected
    assert passed, said
    assert int(passed[1]) >= expected


def run(command: list[str], folder: Path) -> str:
    """What a command says, which must succeed."""
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


# -- Programs that are served -----------------------------------------------------------------


def start(command: str, folder: Path, **env: str) -> contextlib.AbstractContextManager[Server]:
    """A server by the command of a page, on a port of the test's own.

    :param command: lines for a shell, in which the virtual environment is active.
    """
    *before, last = command.strip().splitlines()
    script = "\n".join([*before, f"exec {last}"])
    variables = {"PATH": f"{BIN}:{os.environ['PATH']}", **env}

    def on_port(port: int) -> list[str]:
        for path in (folder / "app.py", folder / "uwsgi.ini"):
            if path.exists():
                text = path.read_text()
                text = text.replace("app.run(gevent=100)", f"app.run(port={port}, gevent=100)")
                path.write_text(text.replace("http = :5000", f"http = 127.0.0.1:{port}"))
        return ["bash", "-e", "-c", script]

    return servers.running(on_port, folder / "log", variables, cwd=folder)


def test_the_first_page(tmp_path):
    [example] = blocks(DOCS / "index.md")
    (tmp_path / "app.py").write_text(example)
    with (
        start("python app.py", tmp_path) as server,
        connect(server.ws("/chat/lobby")) as one,
        connect(server.ws("/chat/lobby")) as two,
    ):
        for ws in (one, two):
            assert ws.recv(timeout=TIMEOUT) == "You are in lobby, stranger."
        two.send("hello")
        assert one.recv(timeout=TIMEOUT) == two.recv(timeout=TIMEOUT) == "hello"


# -- Coming from another package ---------------------------------------------------------------

MIGRATION = DOCS / "migration"

#: The reader's own, which the pages take for granted.
LOGIN = """
def login_required(view):
    def checked(*args, **kwargs):
        return view(*args, **kwargs) if "user" in request.args else abort(401)
    return checked
"""


def sides(diff: str) -> tuple[str, str]:
    """What a diff takes away and what it leaves, each with what stays."""
    lines = diff.splitlines()
    before = [line[1:] for line in lines if not line.startswith("+")]
    after = [line[1:] for line in lines if not line.startswith("-")]
    return "\n".join(before), "\n".join(after)


def code_of(page: str) -> list[tuple[str, str]]:
    """Both sides of each diff of Python on a page."""
    found = [sides(diff) for diff in blocks(MIGRATION / page, "diff")]
    return [(before, after) for before, after in found if not after.startswith("uwsgi")]


@pytest.fixture(scope="module")
def migrated(tmp_path_factory):
    """Starts what a page's diffs leave."""
    with contextlib.ExitStack() as stack:
        started: dict[str, Server] = {}

        def get(page: str) -> Server:
            if page not in started:
                folder = tmp_path_factory.mktemp("migrated")
                code = "\n".join([PART, LOGIN, *(after for _, after in code_of(page))])
                (folder / "migrated.py").write_text(code)
                loop = ("--gevent", "100") if "GeventWebSocket(app)" in code else ("--threads", "4")
                command = servers.uwsgi("migrated:app", *loop, router=True)
                started[page] = stack.enter_context(
                    servers.running(command, folder / "log", cwd=folder)
                )
            return started[page]

        yield get


@pytest.mark.parametrize(
    ("page", "path", "message", "answer"),
    [
        ("flask-uwsgi-websocket.md", "/echo", "hello", "hello"),
        ("flask-uwsgi-websocket.md", "/commands", "ping", "pong"),
        ("flask-sock.md", "/echo", "hello", "hello"),
        ("flask-sock.md", "/echo", b"hello", b"hello"),
        ("flask-sock.md", "/lines", "four", "4 characters"),
        ("flask-sock.md", "/private?user=ann", "", "Welcome."),
        ("flask-sockets.md", "/echo", b"hello", b"hello"),
        ("flask-sockets.md", "/rooms/attic", "", "You are in attic."),
    ],
)
def test_what_a_diff_leaves(migrated, page, path, message, answer):
    with connect(migrated(page).ws(path)) as ws:
        if message:
            ws.send(message)
        assert ws.recv(timeout=TIMEOUT) == answer


def test_the_chat_that_is_a_group_now(migrated):
    server = migrated("flask-uwsgi-websocket.md")
    with connect(server.ws("/chat")) as one, connect(server.ws("/chat")) as two:
        # Each has joined once what it says comes to the other one.
        for speaker, listener in ((one, two), (two, one)):

            def comes(speaker=speaker, listener=listener) -> bool:
                speaker.send("hello")
                with contextlib.suppress(TimeoutError):
                    return bool(listener.recv(timeout=0.1))
                return False

            poll(comes, TIMEOUT)
        two.send("the last")
        poll(lambda: one.recv(timeout=TIMEOUT) == "the last", TIMEOUT)


def test_a_decorator_that_wraps_the_handshake_now(migrated):
    with pytest.raises(InvalidStatus) as refused, connect(migrated("flask-sock.md").ws("/private")):
        pass
    assert refused.value.response.status_code == 401


@pytest.mark.parametrize("page", sorted(path.name for path in MIGRATION.glob("*.md")))
def test_what_a_diff_takes_away_was_a_program(page):
    for before, _ in code_of(page):
        compile(before, page, "exec")


# -- The tutorial -----------------------------------------------------------------------------


class Step:
    """A section of the tutorial that has been followed, and those before it.

    :param number: of the section.
    :param folder: what the reader makes.
    """

    def __init__(self, number: int, folder: Path) -> None:
        self.folder = folder
        for title, found in sections(TUTORIAL).items():
            write_files(found, folder)
            if title.startswith(f"{number}."):
                #: What is typed into a shell, block by block.
                self.commands = [block.text for block in found if not block.language]
                return
        raise AssertionError(f"the tutorial has no section {number}")


class Visitor:
    """Somebody with a browser's cookies."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._cookies = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(self._cookies)
        )

    def log_in(self, name: str, password: str) -> str:
        form = urllib.parse.urlencode({"name": name, "password": password}).encode()
        with self._opener.open(self._server.http("/login"), form, timeout=TIMEOUT) as page:
            text: str = page.read().decode()
        return text

    def connect(self, path: str):
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self._cookies)
        return connect(self._server.ws(path), additional_headers={"Cookie": cookies})


def visitor(server: Server, name: str, password: str) -> Visitor:
    made = Visitor(server)
    assert "Wrong" not in made.log_in(name, password)
    return made


def test_what_the_tutorial_installs(tmp_path):
    [shell] = Step(1, tmp_path).commands
    [extras] = re.findall(r"pip install 'flask-wsviews\[([\w,]+)\]' pytest$", shell, re.MULTILINE)
    known = importlib.metadata.metadata("flask-wsviews").get_all("Provides-Extra")
    assert {*extras.split(","), "pyuwsgi"} <= set(known)


def test_the_first_websocket_of_the_tutorial(tmp_path):
    """By the very client that the page names."""
    server_command, client_command = Step(2, tmp_path).commands
    [(options, path)] = re.findall("^python (.*) ws://localhost:5000(.*)$", client_command, re.M)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(start(server_command, tmp_path))
        command = [sys.executable, *options.split(), server.ws(path)]
        talks = [stack.enter_context(Terminal(command, tmp_path / f"{n}")) for n in range(2)]
        for talk in talks:
            talk.wait_for("You are in lobby.")
        talks[0].type("Is anybody there?")
        for talk in talks:
            talk.wait_for("Is anybody there?")


class Terminal:
    """A program that somebody types to."""

    def __init__(self, command: list[str], output: Path) -> None:
        self._output = output
        with output.open("wb") as file:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=file, stderr=subprocess.STDOUT
            )

    def type(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()

    def wait_for(self, text: str) -> None:
        poll(lambda: text in self._output.read_text(), TIMEOUT)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.kill()
        self._process.wait(TIMEOUT)
        self._process.stdin.close()


def test_the_login_of_the_tutorial(tmp_path):
    [command] = Step(3, tmp_path).commands
    with start(command, tmp_path) as server:
        with pytest.raises(urllib.error.HTTPError) as wrong:
            Visitor(server).log_in("ann", "pear")
        with wrong.value as answer:
            assert answer.code == 401
            assert "Wrong name or password." in answer.read().decode()
        with pytest.raises(InvalidStatus) as refused, Visitor(server).connect("/chat/lobby"):
            pass
        assert refused.value.response.status_code == 401
        ann = Visitor(server)
        assert ann.log_in("ann", "apple") == "Hello, ann!"
        with ann.connect("/chat/lobby") as ws:
            ws.send("hello")
            assert ws.recv(timeout=TIMEOUT) == "ann: hello"


def talk(server: Server) -> None:
    """Two people in the finished chat."""
    ann, bob = visitor(server, "ann", "apple"), visitor(server, "bob", "banana")
    with ann.connect("/chat/lobby") as one:
        assert heard(one) == {"type": "joined", "name": "ann"}
        with bob.connect("/chat/lobby") as two:
            assert heard(one) == heard(two) == {"type": "joined", "name": "bob"}
            two.send('{"type": "say", "text": "Hi!"}')
            assert heard(one) == heard(two) == {"type": "said", "name": "bob", "text": "Hi!"}
            two.send('{"type": "say", "text": ""}')
            assert "text" in heard(two)["errors"]
        assert heard(one) == {"type": "left", "name": "bob"}


def heard(ws) -> dict[str, object]:
    message: dict[str, object] = json.loads(ws.recv(timeout=TIMEOUT))
    return message


def test_the_typed_chat_of_the_tutorial(tmp_path):
    [command] = Step(4, tmp_path).commands
    with start(command, tmp_path) as server:
        talk(server)


@pytest.mark.skipif(browser.find() is None, reason="Chromium isn't installed")
def test_the_page_of_the_tutorial_in_a_browser(tmp_path):
    [command] = Step(4, tmp_path).commands
    with start(command, tmp_path) as server, browser.chromium() as page:
        page.go(server.http("/"))
        page.js("document.querySelector('[name=name]').value = 'ann'")
        page.js("document.querySelector('[name=password]').value = 'apple'")
        # By hand, as nothing can be asked of a page while another one takes its place.
        form = "{method: 'POST', body: new FormData(document.querySelector('form'))}"
        assert page.js(f"fetch('/login', {form}).then((answer) => answer.ok)")
        page.go(server.http("/"))
        page.wait("document.querySelector('#log').innerText == 'ann has come.'")
        bob = visitor(server, "bob", "banana")
        with bob.connect("/chat/lobby") as ws:
            assert heard(ws)["type"] == "joined"
            ws.send('{"type": "say", "text": "<b>Hi!</b>"}')
            page.wait("document.querySelector('#log').innerText.endsWith('bob: <b>Hi!</b>')")
            assert heard(ws)["type"] == "said"
            page.js("document.querySelector('[name=text]').value = 'Hello, Bob.'")
            page.js("document.querySelector('#say button').click()")
            assert heard(ws) == {"type": "said", "name": "ann", "text": "Hello, Bob."}
        page.wait("document.querySelector('#log').innerText.endsWith('bob has gone.')")
        assert page.complaints == []


def test_the_tests_of_the_tutorial(tmp_path):
    [command] = Step(5, tmp_path).commands
    program, *arguments = command.split()
    assert program == "python"
    assert "4 passed" in run([sys.executable, *arguments], tmp_path)


def test_the_server_of_the_tutorial(tmp_path):
    [command] = Step(6, tmp_path).commands
    with start(command, tmp_path) as server:
        talk(server)
