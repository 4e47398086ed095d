"""The opening handshake is an ordinary Flask request, on every server."""

from __future__ import annotations

import html
import json
import re
import urllib.error
import urllib.request

import pytest
from support.raw import ACCEPT, RawClient
from support.servers import Server, poll
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect


def refusal(server: Server, path: str, **headers: str) -> InvalidStatus:
    with (
        pytest.raises(InvalidStatus) as caught,
        connect(server.ws(path), additional_headers=headers),
    ):
        pass
    return caught.value


def test_the_101_has_what_rfc_6455_asks_for(server):
    with RawClient(server) as client:
        status, headers = client.request("/echo")
    assert status == 101
    assert ("upgrade", "websocket") in headers
    assert ("connection", "Upgrade") in headers
    assert ("sec-websocket-accept", ACCEPT) in headers
    names = [name for name, _ in headers]
    assert len(names) == len(set(names))
    assert not {"content-length", "content-type", "transfer-encoding"} & set(names)
    assert "sec-websocket-extensions" not in names
    assert "sec-websocket-protocol" not in names


def test_token_lists_of_any_case_are_understood(server):
    with RawClient(server) as client:
        status, _ = client.request(
            "/echo", {"Upgrade": "h2c, WebSocket", "Connection": "keep-alive, UPGRADE"}
        )
    assert status == 101


def test_headers_of_after_request_and_of_the_view_are_on_the_101(server):
    with connect(server.ws("/views/all/bob")) as ws:
        assert ws.response.headers["X-Marked"] == "yes"
        assert ws.response.headers["X-Name"] == "bob"


def test_a_session_that_expires(uwsgi_server):
    with urllib.request.urlopen(uwsgi_server.http("/login")) as response:
        headers = {"Cookie": response.headers["Set-Cookie"].partition(";")[0]}

    def user(ws: ClientConnection) -> str | bytes:
        ws.send("who am I?")
        return ws.recv(timeout=10)

    def expired() -> bool:
        with RawClient(uwsgi_server) as client:
            return client.request("/members-only", headers)[0] == 401

    with connect(uwsgi_server.ws("/members-only"), additional_headers=headers) as ws:
        assert user(ws) == "bob"
        poll(expired)
        # A connection keeps the session of its handshake.
        assert user(ws) == "bob"


def test_session_changes_of_the_handshake_set_the_cookie(server):
    with connect(server.ws("/views/all/bob")) as ws:
        cookie = ws.response.headers["Set-Cookie"]
    assert cookie.startswith("session=")
    with connect(
        server.ws("/views/all/bob"), additional_headers={"Cookie": cookie.split(";")[0]}
    ) as ws:
        ws.recv()
        ws.send("context")
        assert json.loads(ws.recv())["session"] == {"name": "bob"}


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/echo?stranger", 401, "no strangers"),
        ("/views/all/refused", 401, "who are you?"),
        ("/views/guarded", 403, "admins only"),
        ("/guarded", 403, "admins only"),
        ("/nowhere", 404, "not found"),
        ("/echo?veto", 409, "vetoed"),
        ("/", 400, "This resource isn't a WebSocket"),
    ],
)
def test_a_refusal_arrives_as_http_with_its_body(server, path, status, body):
    response = refusal(server, path).response
    assert response.status_code == status
    assert body in html.unescape(response.body.decode())
    assert "Sec-WebSocket-Accept" not in response.headers


def test_a_handshake_can_be_answered_with_any_response(server):
    with RawClient(server) as client:
        status, headers = client.request("/views/all/elsewhere")
    assert status == 302
    assert dict(headers)["location"] == "/"


def test_a_plain_request_to_a_websocket_is_told_to_upgrade(server):
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(server.http("/echo"))
    with caught.value as error:
        assert error.code == 426
        assert error.headers["Upgrade"] == "websocket"
        assert "WebSocket client" in error.read().decode()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Connection": "keep-alive"}, 400),
        ({"Sec-WebSocket-Key": "short"}, 400),
        ({"Sec-WebSocket-Key": None}, 400),
        ({"Sec-WebSocket-Version": "8"}, 426),
        ({"Sec-WebSocket-Version": None}, 426),
        ({"Sec-WebSocket-Protocol": "a b"}, 400),
    ],
)
def test_a_broken_handshake_is_refused(server, headers, status):
    with RawClient(server) as client:
        got, response = client.request("/echo", headers)
    assert got == status
    if status == 426:
        assert ("sec-websocket-version", "13") in response


def test_only_get_opens_a_websocket(server):
    with RawClient(server) as client:
        status, _ = client.request("/echo", line="POST /echo HTTP/1.1")
    assert status == 405


def test_http_1_0_opens_no_websocket(uwsgi_server):
    with RawClient(uwsgi_server) as client:
        status, _ = client.request("/echo", line="GET /echo HTTP/1.0")
    assert status == 400


def test_a_handshake_has_no_body(uwsgi_server):
    with RawClient(uwsgi_server) as client:
        status, _ = client.request("/echo", {"Content-Length": "5"})
    assert status == 400


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(["v1", "v2"], "v2"), (["v3", "v1"], "v1"), (["v3"], None), (None, None)],
)
@pytest.mark.parametrize("path", ["/guarded?role=admin", "/views/guarded?role=admin"])
def test_the_server_prefers_among_the_subprotocols_offered(server, path, offered, chosen):
    with connect(server.ws(path), subprotocols=offered) as ws:
        assert ws.subprotocol == chosen
        assert str(chosen) in ws.recv()


def test_a_view_may_choose_the_subprotocol(server):
    with connect(server.ws("/views/guarded?role=admin&choose=v1"), subprotocols=["v2", "v1"]) as ws:
        assert ws.subprotocol == "v1"
        assert ws.recv() == "v1 of v2,v1"


def test_a_view_can_not_choose_what_the_client_does_not_speak(server):
    status = refusal(server, "/views/guarded?role=admin&choose=v9").response.status_code
    assert status == 500
    assert "the client doesn't offer the subprotocol 'v9'" in server.log


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://127.0.0.1:{port}", True),
        ("https://partner.example", True),
        ("https://127.0.0.1:{port}", False),
        ("http://127.0.0.1", False),
        ("https://elsewhere.example", False),
        ("null", False),
    ],
)
def test_pages_of_other_sites_are_refused(server, origin, allowed):
    with RawClient(server) as client:
        status, _ = client.request("/echo", {"Origin": origin.format(port=server.port)})
    assert status == (101 if allowed else 403)


def test_a_refused_origin_is_explained(server):
    own, other = f"http://127.0.0.1:{server.port}", f"https://127.0.0.1:{server.port}"
    body = refusal(server, "/echo", Origin=other).response.body.decode()
    for text in (body, poll(lambda: server.log.partition("refused a handshake for '/echo'")[2])):
        assert own in text
        assert other in text
        assert "Only the scheme differs" in text
        assert "ProxyFix" in text
        assert "WSVIEWS_ALLOWED_ORIGINS" in text
    assert "WARNING in" in server.log


def test_a_view_can_let_more_origins_in(server):
    with RawClient(server) as client:
        status, _ = client.request(
            "/views/guarded?role=admin", {"Origin": "https://friend.example"}
        )
    assert status == 101


def test_request_and_response_of_pages_pass_through_untouched(server):
    assert server.get("/") == "ready"


AROUND = ["profiler", "late", "no_write", "raises", "generator", "lazy", "adds", "silent"]


@pytest.mark.parametrize("kind", AROUND)
def test_a_middleware_around_the_extension(server, kind):
    with connect(server.ws(f"/views/all/bob?around={kind}")) as ws:
        assert ws.response.headers["X-Name"] == "bob"
        assert ws.recv(timeout=10) == "hello bob"
        ws.send("hi")
        assert ws.recv(timeout=10) == "hi"
    assert_nothing_is_left(server)


@pytest.mark.parametrize("kind", ["profiler", "late", "no_write", "generator", "adds"])
def test_a_middleware_within_the_extension(server, kind):
    with connect(server.ws(f"/views/all/bob?within={kind}")) as ws:
        assert ws.recv(timeout=10) == "hello bob"
    assert_nothing_is_left(server)


def assert_nothing_is_left(server: Server) -> None:
    poll(lambda: json.loads(server.get("/connections")) == [0, 0], 20)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("header=%E2%98%83", "the header X-Name contains characters"),
        ("header=a%01b", "the header X-Name contains a control character"),
        ("header=a%0D%0AX-Evil:1", "newline"),
        ("after=%E2%98%83", "the header X-Name contains characters"),
        ("within=number", "the header 'X-Number' must be text, not 5"),
        ("error=1", "in after_request"),
    ],
    ids=["view", "control", "line-break", "after_request", "middleware", "error"],
)
def test_headers_that_can_not_be_sent_are_answered_with_500(server, query, named):
    with RawClient(server) as client:
        status, headers = client.request(f"/views/all/bob?{query}")
    assert status == 500
    assert not {"x-evil", "sec-websocket-accept"} & {name for name, _ in headers}
    assert named in server.log
    assert_nothing_is_left(server)


def test_the_101_has_a_content_type_within_flask(server):
    with connect(server.ws("/views/all/bob?cookie=/%E2%98%83")) as ws:
        assert ws.response.headers["X-Content-Type"] == "text/plain"
        assert "Content-Type" not in ws.response.headers
        # Werkzeug quotes what can't be sent.
        assert "Path=/%E2%98%83" in ws.response.headers.get_all("Set-Cookie")[0]


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/slash/a", "a"),
        ("/slash/a/", "a"),
        ("/returns/", "last words"),
        ("/views/inner", "nested"),
        ("/views/inner/", "nested"),
        ("/plain/old", "old"),
        ("/plain/old/", "old"),
        ("/strict/", "strict"),
    ],
)
def test_a_slash_at_the_end_makes_no_difference(server, path, answer):
    with connect(server.ws(path)) as ws:
        assert ws.recv(timeout=10) == answer


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/strict", "/strict/"),
        ("/views/inner/strict", "/views/inner/strict/"),
        ("/slash//b/", "/slash/b/"),
        ("/moved", "/slash/moved"),
    ],
)
def test_a_redirect_is_explained_in_the_log(server, path, location):
    with RawClient(server) as client:
        status, headers = client.request(path)
    assert status == 308
    assert dict(headers)["location"].endswith(location)
    found = poll(lambda: re.search(rf"handshake for '{path}'.* \(308\) to '(.*)': br", server.log))
    assert found[1].endswith(location)
