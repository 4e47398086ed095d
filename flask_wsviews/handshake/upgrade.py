"""The 101 Switching Protocols as a Flask response: the only answer that opens a WebSocket."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from flask import Response, current_app

from ..protocol.response import check_field
from ..typing import Environ

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

#: The body of a 500 Internal Server Error for a handshake.
SERVER_FAULT = "The server can't answer this handshake."


class Upgrade(Response):
    """The 101 Switching Protocols, which ``after_request`` functions and the session see.

    The connection opens only if Flask's final response is still a 101.
    """

    default_status = 101
    #: Flask extensions read the content type of every response. It isn't sent with the 101.
    default_mimetype = "text/plain"

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request (PEP 3333). A 101 has no body."""
        if self.status_code != 101:
            return super().__call__(environ, start_response)
        headers = self.headers.to_wsgi_list()
        try:
            _check_headers(headers)
        except ValueError as error:
            return _server_error(error)(environ, start_response)
        start_response(self.status, headers)
        return _NoBody(self.close)


class _NoBody:
    """The empty body of a 101.

    :param close: closes the response.
    """

    __slots__ = ("close",)

    def __init__(self, close: Callable[[], object]) -> None:
        self.close = close

    def __iter__(self) -> Iterator[bytes]:
        return iter(())


def _check_headers(headers: Iterable[tuple[str, str]]) -> None:
    for name, value in headers:
        check_field(name, value)


def _server_error(error: ValueError) -> Response:
    """Return the answer to a handshake whose 101 has an invalid header field."""
    response = current_app.handle_exception(error)
    try:
        _check_headers(response.headers)
    except ValueError:
        # An after_request function has added the field to this response as well.
        return Response(f"{SERVER_FAULT}\n", 500, mimetype="text/plain")
    return response
