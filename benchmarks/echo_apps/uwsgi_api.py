"""uWSGI's own WebSocket API, as its documentation shows it."""

from __future__ import annotations

import uwsgi


def app(environ, start_response):
    uwsgi.websocket_handshake()
    while True:
        uwsgi.websocket_send(uwsgi.websocket_recv())
