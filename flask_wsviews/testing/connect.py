"""Opens a test client's WebSocket: a Flask test client makes the handshake."""

from __future__ import annotations

import base64
import os
import socket
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from flask.testing import EnvironBuilder

from ..app_state import EXTENSION
from ..servers.testing import TRANSPORT, PairTransport
from .client import WebSocketTestClient

if TYPE_CHECKING:
    from flask import Flask
    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

    from ..extension import WebSocket


class HandshakeRejected(Exception):
    """The response to the handshake wasn't 101 Switching Protocols.

    :param response: the response, as a Flask test client returns it.
    """

    def __init__(self, response: TestResponse) -> None:
        super().__init__(response)
        self.response = response

    def __str__(self) -> str:
        text = self.response.get_data(as_text=True)[:200]
        return f"the handshake was answered with {self.response.status}: {text}"

    @property
    def status_code(self) -> int:
        """The response's status code."""
        return self.response.status_code


def websocket_connect(
    client: FlaskClient,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    subprotocols: Iterable[str] = (),
    origin: str | None = None,
    **options: Any,
) -> WebSocketTestClient:
    """Open a WebSocket to an application, in this process and without a server::

        with app.test_client() as client, websocket_connect(client, "/chat/lobby") as ws:
            ws.send_json({"type": "say", "text": "hello"})
            assert ws.receive_json()["type"] == "said"

    The handshake goes through the whole application. Frames go through the engine, with its
    threads, greenlets or event loop. Cookies are shared with the Flask test client.

    :param client: the result of ``app.test_client()``.
    :param path: the URL's path, with its query.
    :param headers: the handshake's headers.
    :param subprotocols: the subprotocols that the client offers.
    :param origin: the ``Origin`` header, which browsers send; by default there is none.
    :param options: options of :class:`werkzeug.test.EnvironBuilder`, such as ``base_url``.
    :raises HandshakeRejected: if the response isn't 101 Switching Protocols.
    """
    app: Flask = client.application
    extension: WebSocket | None = app.extensions.get(EXTENSION)
    if extension is None:
        raise RuntimeError(
            f"no WebSocket(app) has been made for {app.name!r}: call init_app() first"
        )
    fields = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        **(headers or {}),
    }
    offered = ", ".join(subprotocols)
    if offered:
        fields["Sec-WebSocket-Protocol"] = offered
    if origin is not None:
        fields["Origin"] = origin
    own, servers = socket.socketpair()
    transport = PairTransport(servers)
    ws = WebSocketTestClient(app, own, transport)
    try:
        builder = EnvironBuilder(app, path, headers=fields, **options)
        builder.environ_base = {
            **client._copy_environ({}),
            **(builder.environ_base or {}),
            TRANSPORT: transport,
            "SERVER_PROTOCOL": "HTTP/1.1",
        }
        ws.response = client.open(builder)
        if ws.response.status_code != 101:
            raise HandshakeRejected(ws.response)
    except BaseException:
        ws._give_up()
        if not transport.released.is_set():
            servers.close()
        raise
    return ws
