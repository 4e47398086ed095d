"""After Flask's request: take the client's socket from the server, and hand it to the engine."""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic
from typing import TYPE_CHECKING

from ..protocol.connection import Connection
from ..protocol.response import response_fields
from ..servers import detach_environ
from ..typing import Environ
from ..views import UPGRADER
from .accept import ENDING, NO_ROOM, NOT_READY, Accepted
from .upgrade import SERVER_FAULT

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

_UNAVAILABLE = "503 Service Unavailable"


def take_over(
    accepted: Accepted,
    environ: Environ,
    headers: list[tuple[str, str]],
    start_response: StartResponse,
) -> Iterable[bytes]:
    """Take the socket, and have the engine send the 101 and run the conversation.

    :param headers: those of Flask's answer.
    :returns: the body of the answer: empty, unless the socket can't be taken.
    """
    state, client, conversation = accepted.state, accepted.client, accepted.conversation
    engine, logger = state.engine, state.app.logger
    try:
        fields = response_fields(
            accepted.offer, client.subprotocol, accepted.extensions_header, headers
        )
    except ValueError as error:
        logger.error("a handshake was answered with 500: %s", error)
        return _refuse(start_response, "500 Internal Server Error", SERVER_FAULT)
    try:
        # Before the 101: a client that gets it also gets a close frame when the worker ends.
        accepted.adapter.before_exit(engine.ending_signal, state.close_connections)
        transport = accepted.adapter.take_socket(environ)
    except (OSError, RuntimeError) as error:
        logger.error(NOT_READY, error)
        return _refuse(start_response, _UNAVAILABLE, NO_ROOM)
    try:
        detach_environ(environ)
        connection = Connection(
            accepted.settings,
            monotonic(),
            preface=transport.preface(fields),
            extensions=accepted.extensions,
            rates=accepted.rates,
        )
        _forget_request(accepted, environ)
        is_announced = engine.announce(conversation)
    except BaseException:
        transport.release()
        raise
    if not is_announced:
        transport.release()
        return _refuse(start_response, _UNAVAILABLE, ENDING)
    accepted.place.has_connection = True
    try:
        engine.serve(transport, connection, conversation)
    except BaseException as error:
        is_given_up = engine.give_up(transport, conversation)
        if is_given_up and isinstance(error, (OSError, RuntimeError)):
            logger.error(NOT_READY, error)
            return _refuse(start_response, _UNAVAILABLE, NO_ROOM)
        raise
    try:
        return transport.finish(start_response, fields)
    except Exception:
        # The client already has its 101, but a middleware around this one can still fail with it.
        logger.exception("the response to a handshake could not be logged by the server")
        return []


def _forget_request(accepted: Accepted, environ: Environ) -> None:
    """Drop the parts of the request that only the handshake needs, to save memory."""
    environ.pop(UPGRADER, None)
    # Werkzeug caches these. The stream belongs to the server, and hooks seldom ask for the host.
    cache = accepted.handshake.request.__dict__
    cache.pop("stream", None)
    cache.pop("host", None)


def _refuse(start_response: StartResponse, status: str, reason: str) -> Iterable[bytes]:
    """Refuse a handshake that the view has accepted."""
    start_response(status, [("Content-Type", "text/plain")])
    return [f"{reason}\n".encode()]
