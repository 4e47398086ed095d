"""Within Flask's request: check a handshake, ask ``on_handshake``, and accept it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from flask import Flask, Request, g
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import Forbidden, ServiceUnavailable

from ..app_state import AppState, state_of
from ..clients.base import BaseClient
from ..common.admission import Place
from ..common.option_checks import origins
from ..common.rate_limits import windows
from ..common.steps import check_result, hook_of
from ..config import Settings
from ..conversation.context import Handshake
from ..conversation.conversation import Conversation, conversation_class
from ..conversation.identity import identity_on
from ..engines import Engine
from ..engines.places import check_handshake
from ..protocol.opening import Offer, check_request
from ..protocol.origin import check_origin
from ..protocol.response import choose_subprotocol, negotiate_extensions
from ..servers import Adapter, adapter_of
from ..views import TIME_LIMITS, WebSocketView
from .declared_fields import load_headers, load_query
from .upgrade import Upgrade

#: The body of a 503 Service Unavailable from a worker that ends.
ENDING = "This worker is about to end; please try again."

#: The body of a 503 Service Unavailable from a process that has too few descriptors or threads.
NO_ROOM = "The server has no room for another WebSocket."

#: The log line for it.
NOT_READY = "a handshake was answered with 503, as the process has no room: %s"

# The options of a view, on its class or its function.
Declared = WebSocketView | type[WebSocketView]


class Accepted(NamedTuple):
    """An accepted handshake: everything that was decided within Flask's request."""

    #: The state of the application.
    state: AppState
    #: Takes the socket from the server.
    adapter: Adapter
    #: The application's settings, with the view's own time limits.
    settings: Settings
    #: The client's offer.
    offer: Offer
    #: The extensions to use (RFC 6455 9), and the header that announces them.
    extensions: Sequence[Any]
    extensions_header: str | None
    #: The limits of a connection that counts its own messages.
    rates: list[tuple[int, float, str]]
    #: The request, as far as hooks see it.
    handshake: Handshake
    client: BaseClient[Any]
    conversation: Conversation
    place: Place


class Upgrader:
    """Answers one handshake. The view calls it, within Flask's request.

    :param state: the state of the application that the middleware wraps.
    :param client_for: returns the class of the client for a view.
    """

    def __init__(
        self, state: AppState, client_for: Callable[[WebSocketView], type[BaseClient[Any]]]
    ) -> None:
        #: The extension that the middleware belongs to.
        self.extension = state.extension
        #: Observe this handshake and its connection.
        self.observers = state.observers()
        #: Set once the view has accepted. Flask can still answer with another response.
        self.accepted: Accepted | None = None
        self._client_for = client_for
        self._place: Place | None = None
        self._g: object = None
        self._keep_g: tuple[str, ...] = ()

    def __call__(self, view: WebSocketView, view_args: dict[str, Any]) -> ResponseReturnValue:
        """Check the handshake for *view*, ask its ``on_handshake``, and return the answer.

        :raises werkzeug.exceptions.HTTPException: if the handshake is refused.
        :raises ServerError: if this server can't serve WebSockets.
        """
        handshake = Handshake.current()
        app, request = handshake.app, handshake.request
        # Of the application that Flask dispatches to: the middleware may wrap several.
        state = state_of(app)
        settings = state.settle()
        engine = state.engine
        place = self._reserve(state, settings, request)
        # Attributes of the instance are the application's, whatever their names.
        declared = type(view)._wsviews_declared(view)
        offer = check_request(request.environ)
        if "HTTP_ORIGIN" in request.environ:
            _check_origin(app, request, declared, settings)
        adapter = adapter_of(request.environ)
        adapter.check(request.environ)
        check_handshake(engine.name, engine.refused)
        _make_ready(app, engine)
        extensions, extensions_header = negotiate_extensions(offer, settings, declared.compression)
        client = self._client(view, declared, handshake, state, settings, offer)
        answer = hook_of(view, "on_handshake")(client, **view_args)
        if inspect.iscoroutine(answer):
            answer = engine.wait_for(answer)
        refusal: ResponseReturnValue | None = answer
        if refusal is not None:
            return refusal
        rate = settings.rate_limit if declared.rate_limit is None else declared.rate_limit
        rates = _limit_rate(rate, state, view, view_args, client) if rate else []
        state.groups.listen(client)
        self._g = g._get_current_object()
        self._keep_g = (*settings.keep_g, *declared.keep_g)
        make_conversation = conversation_class(view)
        conversation = make_conversation(
            handshake, view, view_args, client, self.observers, place.release
        )
        self.accepted = Accepted(
            state,
            adapter,
            _with_time_limits(settings, declared),
            offer,
            extensions,
            extensions_header,
            rates,
            handshake,
            client,
            conversation,
            place,
        )
        return Upgrade(headers=client._take_response_headers())

    def _reserve(self, state: AppState, settings: Settings, request: Request) -> Place:
        """Reserve a place for the connection.

        :raises werkzeug.exceptions.HTTPException: 503 Service Unavailable or 429 Too Many Requests
            if there is none.
        """
        engine = state.engine
        if engine.is_shutting_down:
            raise ServiceUnavailable(ENDING)
        # A decorator may call the view again.
        self.release()
        limit = settings.max_connections or engine.max_connections
        address_limit = settings.max_connections_per_address
        address = None if address_limit is None else request.remote_addr
        self._place = place = state.extension.admission.admit(address, limit, address_limit)
        return place

    def _client(
        self,
        view: WebSocketView,
        declared: Declared,
        handshake: Handshake,
        state: AppState,
        settings: Settings,
        offer: Offer,
    ) -> BaseClient[Any]:
        """Return the client that ``on_handshake`` and later hooks get.

        :raises werkzeug.exceptions.BadRequest: if a schema refuses the query or the headers.
        """
        request = handshake.request
        protocol = declared.protocol
        takes_any_text = protocol.binary or declared._wsviews_owns_conversation
        client = self._client_for(view)(request.environ, -1, settings.close_timeout)
        client._attach(
            app=handshake.app,
            endpoint=request.endpoint or "",
            view=view,
            groups=state.groups,
            protocol=protocol,
            error_schema=state.extension.error_schema,
            text_as_bytes=settings.text_as_bytes and not protocol.is_typed and takes_any_text,
            watchers=[one for one in self.observers if one._watches_messages()],
        )
        if offer.subprotocols:
            client._choose_subprotocol(
                offer.subprotocols, choose_subprotocol(declared.subprotocols, offer)
            )
        if declared.query_schema is not None:
            client.query = load_query(declared.query_schema)
        if declared.headers_schema is not None:
            client.headers = load_headers(declared.headers_schema)
        return client

    def keep_identity(self) -> None:
        """Keep the attributes of ``g`` that hooks need. Called when Flask answers with the 101."""
        if self._g is not None and self.accepted is not None:
            handshake = self.accepted.handshake
            handshake.identity = identity_on(self._g, handshake.session, self._keep_g)
            # The connection must not keep the rest of g alive.
            self._g = None

    def release(self) -> None:
        """Release the place, unless a connection has it: then the connection's end releases it."""
        place, self._place = self._place, None
        if place is not None and not place.has_connection:
            place.release()


def _check_origin(app: Flask, request: Request, declared: Declared, settings: Settings) -> None:
    """Check the origin of a browser's page (RFC 6455 10.2).

    :raises werkzeug.exceptions.Forbidden: if it isn't allowed.
    """
    try:
        check_origin(
            request.environ,
            f"{request.scheme}://{request.host}",
            settings.allowed_origins,
            origins("allowed_origins", declared.allowed_origins),
        )
    except Forbidden as refusal:
        # Browsers hide the answer from the page and its developer.
        text = refusal.description
        app.logger.warning("refused a handshake for %r with 403: %s", request.path, text)
        raise


def _make_ready(app: Flask, engine: Engine) -> None:
    """Have the engine prepare for one more connection.

    :raises werkzeug.exceptions.ServiceUnavailable: if descriptors or threads have run out.
    """
    try:
        engine.make_ready()
    except (OSError, RuntimeError) as error:
        app.logger.error(NOT_READY, error)
        raise ServiceUnavailable(NO_ROOM) from error


def _limit_rate(
    rate: str,
    state: AppState,
    view: WebSocketView,
    view_args: dict[str, Any],
    client: BaseClient[Any],
) -> list[tuple[int, float, str]]:
    """Limit a connection's messages: alone, or together with others that share its key.

    :returns: the limits of a connection that counts its own messages.
    """
    rate_limit_key = hook_of(view, "rate_limit_key")
    key = rate_limit_key(client, **view_args)
    check_result(rate_limit_key, key)
    if key is None:
        return windows(rate)
    client._count_with(state.rate_limits.meter(rate, key))
    return []


def _with_time_limits(settings: Settings, declared: Declared) -> Settings:
    """Return the settings, with a view's own time limits; a limit of 0 means none."""
    changes: dict[str, Any] = {}
    for name in TIME_LIMITS:
        value = getattr(declared, name)
        if value is not None:
            changes[name] = value or None
    return replace(settings, **changes) if changes else settings
