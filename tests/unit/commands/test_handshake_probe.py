"""What doctor finds out about a server: here one that gives the answer it is told to give."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from flask import Flask

from flask_wsviews import WebSocket
from flask_wsviews.commands.doctor.finding import Finding
from flask_wsviews.commands.doctor.handshake import check_url
from flask_wsviews.commands.doctor.probe import Answer, probe

SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
PONG = b"\x8a\x04ping"
CLOSE = b"\x88\x05\x03\xf0bye"


@contextlib.contextmanager
def answering(answer: Callable[[bytes], bytes]) -> Iterator[str]:
    """A server that answers each request once, then hears a Ping and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client, contextlib.suppress(OSError):
                        client.settimeout(10)
                        head = b""
                        while b"\r\n\r\n" not in head:
                            head += client.recv(65536)
                        client.sendall(answer(head))
                        if answer(head).startswith(SWITCHING):
                            client.recv(100)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/chat"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def asked(answer: bytes | Callable[[bytes], bytes], **options: object) -> Answer:
    call = answer if callable(answer) else lambda _: answer
    headers = [("Cookie", "a=1"), ("cookie", "b=2"), ("X-Token", "t"), ("origin", "http://o")]
    with answering(call) as url:
        return probe(urlsplit(url), "http://o", headers, 5)


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (SWITCHING + PONG, Answer(101, is_open=True)),
        (SWITCHING + b"\x81\x02hi" + PONG, Answer(101, is_open=True)),
        (SWITCHING + b"\x82\x7e\x01\x00" + bytes(256) + PONG, Answer(101, is_open=True)),
        (SWITCHING + CLOSE, Answer(101, close_code=1008, close_reason="bye")),
        (SWITCHING + b"\x88\x00", Answer(101, close_code=1005)),
        (b"HTTP/1.1 404 NOT FOUND\r\n\r\n", Answer(404)),
        (b"HTTP/1.1 308 X\r\nLocation: /chat/\r\n\r\n", Answer(308, location="/chat/")),
        (b"", Answer(error="the connection is closed without an answer")),
        (b"SSH-2.0\r\n\r\n", Answer(error="the answer isn't HTTP: 'SSH-2.0'")),
    ],
    ids=[
        *("pong", "message first", "long message first", "close", "close without a code"),
        *("refusal", "redirect", "nothing", "not HTTP"),
    ],
)
def test_an_answer(sent: bytes, answer: Answer) -> None:
    assert asked(sent) == answer


def test_what_is_sent() -> None:
    heads = []

    def answer(head: bytes) -> bytes:
        heads.append(head.decode())
        return SWITCHING + PONG

    asked(answer)
    lines = heads[0].split("\r\n")
    assert lines[0] == "GET /chat HTTP/1.1"
    assert {"Cookie: a=1; b=2", "X-Token: t", "Origin: http://o"} <= set(lines)
    assert heads[0].lower().count("origin:") == 1


def test_a_connection_that_ends_after_the_101() -> None:
    answer = asked(SWITCHING)
    assert answer.status == 101
    assert not answer.is_open
    assert "without a close frame (1006)" in answer.error


def test_a_ping_that_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = urlsplit(f"ws://127.0.0.1:{listener.getsockname()[1]}")
        assert probe(url, "http://o", (), 0.05).error
        client, _ = listener.accept()
        client.close()

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                client.sendall(SWITCHING)
                while client.recv(100):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        assert probe(url, "http://o", (), 0.5).error == "a Ping isn't answered"
        thread.join(10)


def findings(answer: bytes | Callable[[bytes], bytes], path: str = "/chat") -> list[Finding]:
    app = Flask(__name__)
    websocket = WebSocket(app)
    websocket.add_url_rule("/chat", "chat", lambda ws: None)
    websocket.add_url_rule("/slash/", "slash", lambda ws: None)
    app.add_url_rule("/page", "page", lambda: "")
    with answering(answer if callable(answer) else lambda _: answer) as url:
        return list(check_url(url.replace("/chat", path), app))


def status(code: int) -> bytes:
    return f"HTTP/1.1 {code} X\r\n\r\n".encode()


@pytest.mark.parametrize("code", [200, 400, 404, 405, 426])
@pytest.mark.parametrize(
    ("path", "text", "remedy"),
    [
        ("/page", "/page is a page (page), not a WebSocket", "flask ws routes"),
        ("/nowhere", "has no rule for /nowhere", "flask ws routes"),
    ],
    ids=["page", "nowhere"],
)
def test_a_path_that_is_not_a_websocket(code: int, path: str, text: str, remedy: str) -> None:
    [found] = findings(status(code), path)
    assert f"is answered with {code}" in found.text
    assert text in found.text
    assert remedy in str(found.remedy)
    assert "proxy" not in str(found.remedy)


@pytest.mark.parametrize("code", [200, 400, 426])
def test_a_proxy_that_drops_the_upgrade(code: int) -> None:
    [found] = findings(status(code))
    assert "proxy_set_header Upgrade" in str(found.remedy)


def test_a_redirect() -> None:
    [found] = findings(b"HTTP/1.1 308 X\r\nLocation: http://h/slash/\r\n\r\n", "/slash")
    assert "redirected to http://h/slash/ (308)" in found.text
    assert "--cookie" in str(found.remedy)


def test_the_view_closes() -> None:
    [found] = findings(SWITCHING + CLOSE)
    assert "closed with 1008: bye" in found.text
    assert found.remedy is None


def test_frames_that_do_not_get_through() -> None:
    [found] = findings(SWITCHING)
    assert "http-websockets = true" in str(found.remedy)


@pytest.mark.parametrize("refusal", [b"", status(400), status(431)], ids=["nothing", "400", "431"])
def test_headers_that_do_not_get_through(refusal: bytes) -> None:
    opened, headers = findings(lambda head: refusal if len(head) > 4096 else SWITCHING + PONG)
    assert opened.remedy is None
    assert "a Ping is answered" in opened.text
    assert "a cookie of 5 KB" in headers.text
    assert "buffer-size = 32768" in str(headers.remedy)


@pytest.mark.parametrize("code", [429, 503])
def test_a_limit_says_nothing_about_headers(code: int) -> None:
    [found] = findings(lambda head: status(code) if len(head) > 4096 else SWITCHING + PONG)
    assert found.remedy is None


@pytest.mark.parametrize("url", ["localhost/chat", "ws:///chat", "ws://host:port/", "ftp://host/"])
def test_what_is_not_a_url(url: str) -> None:
    [found] = check_url(url, Flask(__name__))
    assert "isn't the URL of a WebSocket" in found.text
