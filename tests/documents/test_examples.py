"""The examples, each under a real uWSGI, by real clients."""

from __future__ import annotations

import contextlib
import http.cookiejar
import json
import os
import py_compile
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support import servers
from support.asyncapi_documents import Checked, of_application
from support.examples import TIMEOUT, Example, by_run, by_uwsgi, serving
from support.paths import EXAMPLES
from support.redis_server import redis_server
from support.servers import Server, poll
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

FOLDERS = sorted(path for path in EXAMPLES.iterdir() if path.is_dir() and path.name[0] not in "._")
PAGES = sorted(EXAMPLES.glob("*/templates/*.html"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_is_complete(folder: Path, tmp_path: Path) -> None:
    scripts = list(folder.glob("*.py"))
    assert scripts
    for script in scripts:
        py_compile.compile(str(script), cfile=str(tmp_path / "compiled"), doraise=True)
    readme = (folder / "README.md").read_text()
    assert readme.startswith("# ")
    assert all(f"python {script.name}" in readme for script in scripts)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.parent.parent.name)
def test_page_is_self_contained_and_safe(page: Path) -> None:
    text = page.read_text()
    assert '<html lang="en">' in text
    assert "<title>" in text
    assert 'name="viewport"' in text
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", text), "loads from elsewhere"
    assert not re.search(r"<[^>]+\son\w+=", text), "has an inline event handler"
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write", text)
    assert not re.search(r"""["'`]wss?://""", text), "works on one host only"
    controls = set(re.findall(r'<(?:input|select|textarea)[^>]* id="([^"]+)"', text))
    assert controls == set(re.findall(r'<label for="([^"]+)"', text))


@pytest.mark.parametrize(
    ("folder", "command"),
    [
        ("echo", by_run("echo.py")),
        ("echo", by_uwsgi("echo:app", "--threads", "4")),
        ("echo-gevent", by_run("echo.py")),
        ("echo-gevent", by_uwsgi("echo:app", "--gevent", "100")),
        ("echo-asyncio", by_run("echo.py")),
        ("echo-asyncio", by_uwsgi("echo:app", "--enable-threads")),
    ],
    ids=[
        "echo-run",
        "echo-uwsgi",
        "echo-gevent-run",
        "echo-gevent-uwsgi",
        "echo-asyncio-run",
        "echo-asyncio-uwsgi",
    ],
)
def test_echo(folder: str, command: Callable[[int], list[str]], tmp_path: Path) -> None:
    with serving(folder, command, tmp_path / "log") as example:
        assert "<h1>Echo</h1>" in example.page()
        with example.connect("/echo") as one, example.connect("/echo") as two:
            for message in ("Grüße 🙂", "", b"\x00\xff", "x" * 100_000):
                for ws in (one, two):
                    ws.send(message)
                assert one.recv(TIMEOUT) == two.recv(TIMEOUT) == message


CHATS = {"chat-gevent": ("--gevent", "100"), "chat-asyncio": ("--enable-threads",)}


@pytest.fixture(params=CHATS)
def chat_folder(request: pytest.FixtureRequest) -> str:
    folder: str = request.param
    return folder


@pytest.fixture
def chat_command() -> Callable[[int], list[str]]:
    return by_run("chat.py")


@pytest.fixture
def chat(
    chat_folder: str, chat_command: Callable[[int], list[str]], tmp_path: Path
) -> Iterator[Example]:
    """A chat of the test's own, so that nobody of another test is still about to leave."""
    with serving(chat_folder, chat_command, tmp_path / "log") as example:
        yield example


class Visitor:
    """A client of the chat."""

    def __init__(self, ws: Checked) -> None:
        self.ws = ws

    def send(self, **event: Any) -> None:
        self.ws.send(json.dumps(event))

    def hear(self) -> dict[str, Any]:
        message = self.ws.recv(TIMEOUT)
        assert isinstance(message, str)
        event: dict[str, Any] = json.loads(message)
        return event

    def join(self, name: str) -> dict[str, Any]:
        self.send(type="join", name=name)
        return self.hear()


@pytest.fixture
def enter(chat: Example) -> Iterator[Callable[..., Visitor]]:
    """Connects visitors for the time of a test."""
    with ExitStack() as stack:
        yield lambda room="lobby": Visitor(stack.enter_context(chat.connect(f"/chat/{room}")))


@pytest.mark.parametrize(
    ("chat_folder", "chat_command"),
    [
        (folder, command)
        for folder, options in CHATS.items()
        for command in (by_run("chat.py"), by_uwsgi("chat:app", *options))
    ],
    ids=[f"{folder}-{how}" for folder in CHATS for how in ("run", "uwsgi")],
)
def test_chat_stays_in_its_room(chat: Example, enter: Callable[..., Visitor]) -> None:
    page = chat.page()
    assert "<title>Chat</title>" in page
    assert "<option>lobby</option>" in page
    with pytest.raises(InvalidStatus) as refused:
        chat.connect("/chat/cellar")
    assert refused.value.response.status_code == 404

    ann, bob, eve = enter("lobby"), enter("lobby"), enter("music")
    welcome = ann.join("Ann")
    assert (welcome["type"], welcome["name"], welcome["people"]) == ("welcome", "Ann", ["Ann"])
    assert bob.join("Bob")["people"] == ["Ann", "Bob"]
    assert eve.join("Eve")["people"] == ["Eve"]
    assert ann.hear() == {"type": "join", "name": "Bob"}

    for speaker, text in ((ann, "Hello, Bob"), (bob, "Hello, Ann")):
        speaker.send(type="say", text=text)
        heard = ann.hear()
        assert heard == bob.hear()
        assert heard["text"] == text
        assert time.time() - 60 < heard["time"] <= time.time()

    bob.ws.close()
    assert ann.hear() == {"type": "leave", "name": "Bob"}
    # The first that she hears is herself, though all the rest came before.
    eve.send(type="say", text="Nobody here?")
    assert eve.hear()["text"] == "Nobody here?"


def test_chat_newcomers_get_the_last_messages(enter: Callable[..., Visitor]) -> None:
    ann = enter("python")
    ann.join("Ann")
    for number in range(60):
        ann.send(type="say", text=f"line {number}")
        ann.hear()
    history = enter("python").join("Bob")["history"]
    assert [event["text"] for event in history] == [f"line {number}" for number in range(10, 60)]


def test_chat_names_differ(enter: Callable[..., Visitor]) -> None:
    first, second, third = enter("music"), enter("music"), enter("music")
    assert first.join("Ann")["name"] == "Ann"
    assert second.join("  Ann\n")["name"] == "Ann 2"
    assert third.join("Ann")["people"] == ["Ann", "Ann 2", "Ann 3"]


def test_chat_without_a_name_hears_and_says_nothing(enter: Callable[..., Visitor]) -> None:
    ann, silent = enter("music"), enter("music")
    assert ann.join("Ann")["people"] == ["Ann"]
    ann.send(type="say", text="Anybody?")
    assert ann.hear()["type"] == "say"
    silent.send(type="say", text="Me!")
    assert silent.hear()["type"] == "error"
    silent.ws.close()
    assert enter("music").join("Bob")["people"] == ["Ann", "Bob"]
    assert ann.hear() == {"type": "join", "name": "Bob"}


def test_chat_bad_input(enter: Callable[..., Visitor]) -> None:
    no_object = "A message must be a JSON object."
    unexpected = "Join once with your name, then say something."
    empty = "The text is empty."
    too_long = "The text is too long: 500 characters at most."
    ann, bob = enter(), enter()
    bob.join("Bob")
    for name, error in (
        ("", "The name is empty."),
        ("x" * 21, "The name is too long: 20 characters at most."),
    ):
        assert ann.join(name) == {"type": "error", "text": error}
    ann.join("Ann")
    assert bob.hear() == {"type": "join", "name": "Ann"}
    for message, error in (
        ("no JSON", no_object),
        ("[" * 15_000, no_object),
        ("[]", no_object),
        (b"\xff", no_object),
        ("{}", unexpected),
        ('{"type": "join", "name": "Eve"}', unexpected),
        ('{"type": "say"}', empty),
        ('{"type": "say", "text": " \\n "}', empty),
        ('{"type": "say", "text": 1}', empty),
        (json.dumps({"type": "say", "text": "x" * 501}), too_long),
    ):
        ann.ws.send(message)
        assert ann.hear() == {"type": "error", "text": error}
    # The conversation goes on, and nobody else heard of it.
    ann.send(type="say", text="still here")
    assert ann.hear() == (heard := bob.hear())
    assert heard["text"] == "still here"


def test_chat_passes_html_on_as_text(enter: Callable[..., Visitor]) -> None:
    ann, bob = enter(), enter()
    assert ann.join("<i>Ann</i>")["name"] == "<i>Ann</i>"
    bob.join("Bob")
    ann.hear()
    ann.send(type="say", text="<script>alert('&')</script>")
    heard = bob.hear()
    assert (heard["name"], heard["text"]) == ("<i>Ann</i>", "<script>alert('&')</script>")


TYPED = pytest.mark.parametrize("chat_folder", ["chat-typed"])


@TYPED
@pytest.mark.parametrize(
    "chat_command",
    [by_run("chat.py"), by_uwsgi("chat:app", "--gevent", "100")],
    ids=["run", "uwsgi"],
)
def test_typed_chat(chat: Example, enter: Callable[..., Visitor]) -> None:
    assert "<title>Chat</title>" in chat.page()
    with pytest.raises(InvalidStatus) as refused:
        chat.connect("/chat/cellar")
    assert refused.value.response.status_code == 404
    ann, bob, eve = enter("lobby"), enter("lobby"), enter("music")
    ann.send(type="join", name="  Ann ", ref=1)
    welcome = {"type": "welcome", "name": "Ann", "people": ["Ann"], "history": [], "ref": 1}
    assert ann.hear() == welcome
    assert bob.join("Ann")["people"] == ["Ann", "Ann 2"]
    assert eve.join("Eve")["people"] == ["Eve"]
    assert ann.hear() == {"type": "joined", "name": "Ann 2"}
    for speaker, text in ((ann, "Hello"), (bob, "<b>Hello</b>")):
        speaker.send(type="say", text=text)
        heard = ann.hear()
        assert heard == bob.hear()
        assert (heard["type"], heard["text"]) == ("said", text)
    late = enter("lobby")
    assert [said["text"] for said in late.join("Late")["history"]] == ["Hello", "<b>Hello</b>"]
    assert ann.hear() == bob.hear() == {"type": "joined", "name": "Late"}
    bob.ws.close()
    assert ann.hear() == {"type": "left", "name": "Ann 2"}
    # The first that she hears is herself, though all the rest came before.
    eve.send(type="say", text="Nobody here?")
    assert eve.hear()["text"] == "Nobody here?"


@TYPED
def test_typed_chat_bad_input(enter: Callable[..., Visitor]) -> None:
    ann = enter()
    unknown = "Unknown; known are join, say."
    for sent, errors in (
        ("no JSON", {"_schema": ["Not valid JSON."]}),
        ("[]", {"_schema": ["A message is a JSON object."]}),
        ('{"type": "shout"}', {"type": [unknown]}),
        ('{"type": "say", "text": "too early"}', {"_schema": ["Join with a name first."]}),
        ('{"type": "join", "name": "  "}', {"name": ["Length must be between 1 and 20."]}),
        ('{"type": "join"}', {"name": ["Missing data for required field."]}),
    ):
        ann.ws.send(sent)
        heard = ann.hear()
        assert (heard["type"], heard["errors"]) == ("error", errors)
    assert ann.join("Ann")["type"] == "welcome"
    assert ann.join("Ann")["errors"] == {"name": ["You have joined already."]}
    ann.send(type="say", text="x" * 501)
    assert ann.hear()["errors"] == {"text": ["Length must be between 1 and 500."]}


@pytest.fixture(scope="module")
def auth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    log = tmp_path_factory.mktemp("auth") / "log"
    with serving("auth", by_run("auth.py"), log) as example:
        yield example


class Browser:
    """Keeps cookies, as a browser does."""

    def __init__(self, example: Example) -> None:
        self.example = example
        self.jar = http.cookiejar.CookieJar()
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.jar))

    def post(self, path: str, **form: str) -> tuple[int, str]:
        data = urllib.parse.urlencode(form).encode()
        try:
            response = self.opener.open(self.example.url + path, data, TIMEOUT)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            return response.status, response.read().decode()

    def connect(self, origin: str | None = None) -> Any:
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.jar)
        headers = {"Cookie": cookies} if cookies else {}
        return self.example.connect(
            "/private", additional_headers=headers, origin=origin or self.example.url
        )

    def refusal(self, origin: str | None = None) -> tuple[int, str]:
        with pytest.raises(InvalidStatus) as refused:
            self.connect(origin)
        response = refused.value.response
        return response.status_code, (response.body or b"").decode()


def test_auth(auth: Example) -> None:
    browser = Browser(auth)
    assert "Log in" in auth.page()
    status, body = browser.refusal()
    assert status == 401
    assert "Log in first." in body

    status, page = browser.post("/login", username="ada", password="engine")
    assert status == 200
    assert "logged in as <strong>ada</strong>" in page
    with browser.connect() as ws:
        assert ws.recv(TIMEOUT) == "Hello, ada!"
        ws.send("Good morning")
        assert ws.recv(TIMEOUT) == "ada said: Good morning"
    # The login is of no use to the pages of another site.
    assert browser.refusal("https://elsewhere.example")[0] == 403

    assert browser.post("/logout")[0] == 200
    assert browser.refusal()[0] == 401


@pytest.mark.parametrize(
    ("username", "password"), [("ada", "compiler"), ("eve", "engine"), ("", "")]
)
def test_auth_wrong_password(auth: Example, username: str, password: str) -> None:
    browser = Browser(auth)
    status, page = browser.post("/login", username=username, password=password)
    assert status == 401
    assert "Wrong name or password." in page
    assert browser.refusal()[0] == 401


@pytest.mark.parametrize(
    "command",
    [by_run("pubsub.py"), by_uwsgi("pubsub:app", "--processes", "2", "--enable-threads")],
    ids=["run", "uwsgi"],
)
def test_pubsub(tmp_path: Path, command: Callable[[int], list[str]]) -> None:
    with (
        redis_server(tmp_path) as redis,
        serving("pubsub-asyncio", command, tmp_path / "log", BROKER_URL=redis.url) as example,
        ExitStack() as stack,
    ):
        assert "<h1>Publish and subscribe</h1>" in example.page()

        def subscribe(channel: str) -> Any:
            ws = stack.enter_context(example.connect(f"/channels/{channel}"))
            assert ws.recv(TIMEOUT) == f"Welcome to channel <{channel}>"
            return ws

        # Enough that each of the two workers is likely to have some.
        news = [subscribe("news") for _ in range(6)]
        other = subscribe("other")
        for publisher, message in ((news[0], "Grüße"), (news[1], b"\xff"), (other, "elsewhere")):
            publisher.send(message)
        for ws in news:
            assert {ws.recv(TIMEOUT), ws.recv(TIMEOUT)} == {"Grüße", b"\xff"}
        assert other.recv(TIMEOUT) == "elsewhere"


class Resumer:
    """A visitor of the cluster, who comes back whenever it is sent away."""

    def __init__(
        self, server: Server, document: dict[str, Any], name: str, stack: ExitStack
    ) -> None:
        self._stack = stack
        self._server = server
        self._document = document
        self._name = name
        self._last = ""
        self.served_by: list[str] = []
        self.heard: list[str] = []
        self._connect()
        # The 101 comes before the room is joined.
        while not self.served_by:
            self._take()

    def _connect(self) -> None:
        path = f"/chat/lobby?name={self._name}"
        if self._last:
            path += f"&since={self._last}"
        ws = poll(lambda: self._try(path), 20)
        self.ws = self._stack.enter_context(Checked(ws, self._document, path))

    def _try(self, path: str) -> Any:
        # nginx answers by itself while neither instance does.
        with contextlib.suppress(OSError, InvalidStatus, EOFError):
            return connect(self._server.ws(path), open_timeout=TIMEOUT)
        return None

    def say(self, text: str) -> None:
        self.ws.send(json.dumps({"type": "say", "text": text}))

    def hear(self, text: str) -> None:
        """Listen, and come back if need be, until something was said."""
        while text not in self.heard:
            self._take()

    def _take(self) -> None:
        try:
            event = json.loads(self.ws.recv(3 * TIMEOUT))
        except ConnectionClosed:
            self._connect()
            return
        self._last = event.get("message_id", self._last)
        assert event["type"] != "error"
        if event["type"] == "position":
            self.served_by.append(event["server"].partition(",")[0])
        elif event["type"] == "said":
            self.heard.append(event["text"])


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx isn't installed")
def test_cluster(tmp_path: Path) -> None:
    folder = EXAMPLES / "chat-cluster"
    document = of_application(folder / "chat.py")
    command = [sys.executable, "cluster.py"]
    with (
        servers.running(lambda port: command, tmp_path / "log", cwd=folder) as server,
        ExitStack() as stack,
    ):
        visitors = [Resumer(server, document, f"v{number}", stack) for number in range(8)]
        visitors[0].say("hello")
        for visitor in visitors:
            visitor.hear("hello")
        assert {visitor.served_by[0] for visitor in visitors} == {"left", "right"}
        left = re.search(r"^left: pid (\d+)$", server.log, re.MULTILINE)
        assert left is not None
        os.kill(int(left[1]), signal.SIGHUP)
        speaker = next(one for one in visitors if one.served_by[0] == "right")
        for number in range(50):
            speaker.say(f"meanwhile {number}")
        for visitor in visitors:
            visitor.hear("meanwhile 49")
            assert visitor.heard == ["hello", *(f"meanwhile {number}" for number in range(50))]
    assert "Traceback" not in server.log


def test_notifications(tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis:
        command = by_run("notifications.py")
        with serving("notifications", command, tmp_path / "log", BROKER_URL=redis.url) as example:
            notifications(example, redis.url)


def notifications(example: Example, url: str) -> None:
    def tab(since: str = "") -> Any:
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in ada.jar)
        return example.connect(
            f"/notices?since={since}",
            additional_headers={"Cookie": cookies},
            origin=example.url,
        )

    def received(ws: Any) -> dict[str, str]:
        message: dict[str, str] = json.loads(ws.recv(TIMEOUT))
        return message

    assert "Who are you?" in example.page()
    with pytest.raises(InvalidStatus):
        example.connect("/notices")
    ada, grace = Browser(example), Browser(example)
    for visitor, name in ((ada, "ada"), (grace, "grace")):
        assert f"You are {name}." in visitor.post("/login", user=name)[1]
    with tab() as one, tab() as two:
        start = received(one)["message_id"]
        received(two)
        assert grace.post("/notify", to="ada", text="hello")[0] == 204
        for ws in (one, two):
            assert received(ws)["text"] == "grace says: hello"
    command = [str(servers.BIN / "flask"), "--app", "notifications", "notify", "ada", "ready"]
    subprocess.run(
        command,
        cwd=EXAMPLES / "notifications",
        env={**os.environ, "BROKER_URL": url},
        check=True,
        timeout=30,
    )
    with tab(start) as ws:
        assert [received(ws)["text"] for _ in range(2)] == ["grace says: hello", "ready"]
        assert received(ws)["type"] == "position"
    assert grace.post("/notify", to="eve", text="hello")[0] == 400
