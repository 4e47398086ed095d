"""The answer to a page's request for a WebSocket, and to a handshake for a page."""

from __future__ import annotations

from flask import Flask, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest, HTTPException
from werkzeug.routing.exceptions import WebsocketMismatch

from ..protocol.opening import UpgradeRequired, asks_for_websocket, is_handshake


def answer_mismatch(app: Flask, error: WebsocketMismatch) -> ResponseReturnValue:
    """Explain why no rule serves the current request, although some match its path."""
    answer: HTTPException
    if is_handshake(request.environ):
        answer = BadRequest("This resource isn't a WebSocket.")
    elif asks_for_websocket(request.environ):
        answer = BadRequest("The Connection header of a WebSocket handshake must contain Upgrade.")
    else:
        answer = UpgradeRequired()
    # The application may have its own page for this error.
    return app.handle_http_exception(answer)
