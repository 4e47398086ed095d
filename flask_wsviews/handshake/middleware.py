"""The takeover: Flask answers the handshake, then its socket is taken and an engine runs it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, Protocol
from urllib.parse import unquote, urlsplit

from flask import Flask, Response, current_app, g
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import Headers
from werkzeug.exceptions import Forbidden, ServiceUnavailable
from werkzeug.wsgi import ClosingIterator

from ..app_state import AppState, state_of
from ..clients.asyncio import AsyncioWebSocketClient
from ..clients.base import BaseClient
from ..clients.blocking import GeventWebSocketClient, WebSocketClient
from ..common.admission import Place
from ..common.notify import tell
from ..common.rate_limits import windows
from ..common.steps import check_result, hook_of
from ..config import Settings, origins
from ..conversation.context import Handshake
from ..conversation.conversation import Conversation, conversation_of
from ..conversation.identity import identity_on
from ..engines.places import check_handshake
from ..protocol import opening, response
from ..protocol.connection import Connection
from ..protocol.origin import check_origin
from ..servers import before_exit, check_server, detach_environ, take_socket
from ..typing import Environ
from ..views import TIME_LIMITS, UPGRADER, WebSocketView, is_async_view
from .declared_fields import load_headers, load_query

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication
    from flask import Request


logger = logging.getLogger("flask_wsviews")

#: For a client that comes too late.
ENDING = "This worker is about to end; please try again."

#: For a client that comes while the process has too few descriptors or threads.
NO_ROOM = "The server has no room for another WebSocket."

#: For a client whose handshake met a fault of the application.
SERVER_FAULT = "The server can't answer this handshake."

NOT_READY = "a handshake was answered with 503, as the process has no room: %s"

UNAVAILABLE = "503 Service Unavailable"

# Statuses of redirects to another URL of the same resource, and of those to any other.
MOVED = (301, 307, 308)
FOUND = (302, 303)

# Whoever has more middlewares than that wraps an application in itself.
_MOST_LAYERS = 100


class Upgrade(Response):
    """The 101 as a Flask response: ``after_request`` functions and the session see it.

    It goes out only if the response is still a 101 when Flask is through with it.
    """

    default_status = 101
    #: Extensions look at the content type of every response. It isn't sent with the 101.
    default_mimetype = "text/plain"

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request (PEP 3333): the 101 has no body, nor anything to work out for one."""
        if self.status_code != 101:
            return super().__call__(environ, start_response)
        headers = self.headers.to_wsgi_list()
        try:
            _check_headers(headers)
        except ValueError as error:
            return _faulty(error)(environ, start_response)
        start_response(self.status, headers)
        return _NoBody(self.close)


class Extension(Protocol):
    """The extension, as a middleware knows it."""

    def adopt(self, middleware: WebSocketMiddleware) -> AppState:
        """Return the state of the application that a middleware wraps."""
        ...


class WebSocketMiddleware:
    """Wraps ``app.wsgi_app``: lets pages through untouched, takes accepted handshakes over.

    ``WebSocket(app)`` and ``init_app(app)`` make it. An application may also make it itself, with
    an extension that has no application yet: ``app.wsgi_app = WebSocketMiddleware(app.wsgi_app,
    websocket)`` sets the application up. Around another middleware of the same extension it takes
    that one's place.

    :param wsgi_app: the WSGI callable to wrap.
    :param websocket: the extension that it belongs to.
    :raises RegistrationError: if *websocket* has no application, and *wsgi_app* leads to none.
    """

    #: The class of the object that handlers get.
    client: ClassVar[type[BaseClient[Any]]] = WebSocketClient

    def __init__(self, wsgi_app: WSGIApplication, websocket: Extension) -> None:
        self.wsgi_app = wsgi_app
        self.websocket = websocket
        #: The state of its application.
        self.state = websocket.adopt(self)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request (PEP 3333)."""
        if not opening.is_handshake(environ) or self._is_within_another(environ):
            return self.wsgi_app(environ, start_response)
        # A copy, because the connection keeps it and servers use theirs again.
        environ = dict(environ)
        # Werkzeug's routing knows this spelling only.
        environ["HTTP_UPGRADE"] = "websocket"
        upgrader = Upgrader(self)
        environ[UPGRADER] = upgrader
        answer = _Answer(upgrader, start_response)
        try:
            body = answer.collect(self.wsgi_app(environ, answer.start_response))
            if body is None:
                body = upgrader.take_over(environ, answer.headers, answer.send)
            if answer.status not in (None, 101):
                status = answer.status
                _explain_redirect(environ, status, answer.headers)
                tell(upgrader.observers, lambda observer: observer.rejected(environ, status))
            return body
        finally:
            upgrader.release()

    def _is_within_another(self, environ: Environ) -> bool:
        """Whether a middleware of the same extension wraps this one: that takes the socket."""
        upgrader = environ.get(UPGRADER)
        return upgrader is not None and upgrader.websocket is self.websocket

    def client_for(self, view: WebSocketView) -> type[BaseClient[Any]]:
        """The class of the client object that *view* gets."""
        return AsyncioWebSocketClient if is_async_view(view) else self.client


class GeventWebSocketMiddleware(WebSocketMiddleware):
    """The middleware of :class:`~flask_wsviews.GeventWebSocket`."""

    client = GeventWebSocketClient


class AsyncioWebSocketMiddleware(WebSocketMiddleware):
    """The middleware of :class:`~flask_wsviews.AsyncioWebSocket`."""

    client = AsyncioWebSocketClient

    #: The class of what plain handlers get: its methods wait in their thread.
    plain_client: ClassVar[type[BaseClient[Any]]] = WebSocketClient

    def client_for(self, view: WebSocketView) -> type[BaseClient[Any]]:
        """The class of the client object that *view* gets."""
        return self.client if is_async_view(view) else self.plain_client


class Upgrader:
    """One handshake on its way through Flask. The view calls it to accept."""

    def __init__(self, middleware: WebSocketMiddleware) -> None:
        self._middleware = middleware
        #: The extension.
        self.websocket = middleware.websocket
        self.accepted = False
        self._g: object = None
        # From the check of the handshake until its connection has it.
        self._place: Place | None = None
        self._rates: list[tuple[int, float, str]] = []
        # Flask knows the application, if the middleware wraps several.
        self._state = middleware.state
        #: Observe this handshake and its connection.
        self.observers = middleware.state.observers()

    def __call__(self, view: WebSocketView, view_args: dict[str, Any]) -> ResponseReturnValue:
        """Check the handshake for *view* and answer it, within Flask's request.

        :raises werkzeug.exceptions.HTTPException: if it is refused.
        :raises ServerError: if this server can't serve WebSockets.
        """
        kept = Handshake.current()
        self._state = state = state_of(kept.app)
        settings = state.settle()
        request = kept.request
        self._reserve(request, settings)
        # What is on the instance is the application's, whatever its name.
        declared = type(view)._wsviews_declared(view)
        offer = opening.check_request(request.environ)
        if "HTTP_ORIGIN" in request.environ:
            self._check_origin(kept, declared, settings)
        check_server(request.environ)
        engine = state.engine
        check_handshake(engine.name, engine.refused)
        self._make_ready(kept.app)
        self._extensions, self._extensions_header = response.negotiate_extensions(
            offer, settings, declared.compression
        )
        client_class = self._middleware.client_for(view)
        client = client_class(request.environ, -1, settings.close_timeout)
        client.app = kept.app
        client.endpoint = request.endpoint or ""
        groups = state.groups
        client._groups, client._view = groups, view
        if offer.subprotocols:
            client._offered = offer.subprotocols
            client.subprotocol = response.choose_subprotocol(declared.subprotocols, offer)
        protocol = declared.protocol
        client._protocol = protocol
        if settings.text_as_bytes and not protocol.is_typed:
            client._text_as_bytes = protocol.binary or declared._wsviews_owns_conversation
        client._error_schema = state.extension.error_schema
        if declared.query_schema is not None:
            client.query = load_query(declared.query_schema)
        if declared.headers_schema is not None:
            client.headers = load_headers(declared.headers_schema)
        answer = hook_of(view, "on_handshake")(client, **view_args)
        if inspect.iscoroutine(answer):
            answer = engine.wait_for(answer)
        refusal: ResponseReturnValue | None = answer
        if refusal is not None:
            return refusal
        self._settings, self._offer, self._client = _settings_of(declared, settings), offer, client
        self._limit_rate(view, declared.rate_limit, view_args, settings)
        watchers = tuple(one for one in self.observers if one._watches_messages())
        if watchers:
            client._watchers = watchers
        groups.listen(client)
        self._kept, self._g = kept, g._get_current_object()
        self._keep_g = (*settings.keep_g, *declared.keep_g)
        give_back = None if self._place is None else self._place.release
        self._conversation = conversation_of(
            kept, view, view_args, client, self.observers, give_back
        )
        self._request = request
        self.accepted = True
        return Upgrade(headers=client._response_headers)

    @staticmethod
    def _check_origin(
        kept: Handshake, declared: WebSocketView | type[WebSocketView], settings: Settings
    ) -> None:
        request = kept.request
        try:
            check_origin(
                request.environ,
                f"{request.scheme}://{request.host}",
                settings.allowed_origins,
                origins("allowed_origins", declared.allowed_origins),
            )
        except Forbidden as refusal:
            # A browser shows its page nothing of the answer.
            text = refusal.description
            kept.app.logger.warning("refused a handshake for %r with 403: %s", request.path, text)
            raise

    def _reserve(self, request: Request, settings: Settings) -> None:
        engine = self._state.engine
        if engine.is_shutting_down:
            raise ServiceUnavailable(ENDING)
        # A decorator may call the view again.
        self.release()
        limit = settings.max_connections or engine.max_connections
        address_limit = settings.max_connections_per_address
        address = None if address_limit is None else request.remote_addr
        self._place = self._state.extension.admission.admit(address, limit, address_limit)

    def _make_ready(self, app: Flask) -> None:
        try:
            self._state.engine.make_ready()
        except (OSError, RuntimeError) as error:
            app.logger.error(NOT_READY, error)
            raise ServiceUnavailable(NO_ROOM) from error

    def keep_identity(self) -> None:
        """Keep the attributes of ``g`` that hooks need, as they are when the 101 is decided."""
        if self._g is not None:
            self._kept.identity = identity_on(self._g, self._kept.session, self._keep_g)
            # What else is on it isn't ours to keep alive.
            self._g = None

    def release(self) -> None:
        """Give the place back, unless the connection was opened: its end gives it back then."""
        place, self._place = self._place, None
        if place is not None:
            place.release()

    def _limit_rate(
        self,
        view: WebSocketView,
        of_view: str | None,
        view_args: dict[str, Any],
        settings: Settings,
    ) -> None:
        rate = settings.rate_limit if of_view is None else of_view
        if not rate:
            return
        rate_limit_key = hook_of(view, "rate_limit_key")
        key = rate_limit_key(self._client, **view_args)
        check_result(rate_limit_key, key)
        if key is None:
            self._rates = windows(rate)
        else:
            self._client._meter = self._state.rate_limits.meter(rate, key)

    def take_over(
        self,
        environ: Environ,
        headers: list[tuple[str, str]],
        start_response: StartResponse,
    ) -> Iterable[bytes]:
        """Take the socket from the server and let the engine run the conversation.

        :param headers: those of Flask's answer.
        """
        engine = self._state.engine
        logger = self._client.app.logger
        try:
            fields = response.response_fields(
                self._offer, self._client.subprotocol, self._extensions_header, headers
            )
        except ValueError as error:
            logger.error("a handshake was answered with 500: %s", error)
            return _refuse(start_response, "500 Internal Server Error", SERVER_FAULT)
        try:
            # Before the 101: whoever gets that hears the goodbye, too.
            before_exit(environ, engine.ending_signal, self._state.close_connections)
            transport = take_socket(environ)
        except (OSError, RuntimeError) as error:
            logger.error(NOT_READY, error)
            return _refuse(start_response, UNAVAILABLE, NO_ROOM)
        try:
            detach_environ(environ)
            connection = self._connection(transport.preface(fields))
            conversation = self._accepted(environ)
            is_announced = engine.announce(conversation)
        except BaseException:
            transport.release()
            raise
        if not is_announced:
            transport.release()
            return _refuse(start_response, UNAVAILABLE, ENDING)
        # The end of the connection gives it back.
        self._place = None
        try:
            engine.serve(transport, connection, conversation)
        except BaseException as error:
            is_given_up = engine.give_up(transport, conversation)
            if is_given_up and isinstance(error, (OSError, RuntimeError)):
                logger.error(NOT_READY, error)
                return _refuse(start_response, UNAVAILABLE, NO_ROOM)
            raise
        try:
            return transport.finish(start_response, fields)
        except Exception:
            # The client has its 101 already. A middleware around us may still fail with it.
            logger.exception("the response to a handshake could not be logged by the server")
            return []

    def _connection(self, preface: bytes) -> Connection:
        return Connection(
            self._settings,
            monotonic(),
            preface=preface,
            extensions=self._extensions,
            rates=self._rates,
        )

    def _accepted(self, environ: Environ) -> Conversation:
        """Return the conversation, and drop what only the handshake needed of the request."""
        environ.pop(UPGRADER, None)
        # Werkzeug caches these. The stream is the server's, the host seldom asked for.
        self._request.__dict__.pop("stream", None)
        self._request.__dict__.pop("host", None)
        if self._client._response_headers is not None:
            self._client._response_headers = None
        return self._conversation


class _NoBody:
    """The body of a 101; whoever is through with it tells the response.

    :param close: tells it.
    """

    __slots__ = ("close",)

    def __init__(self, close: Callable[[], object]) -> None:
        self.close = close

    def __iter__(self) -> Iterator[bytes]:
        return iter(())


class _Answer:
    """Tells Flask's 101 from a response that the server shall send."""

    def __init__(self, upgrader: Upgrader, start_response: StartResponse) -> None:
        self._upgrader = upgrader
        self._start_response = start_response
        self._is_upgrade = False
        self.headers: list[tuple[str, str]] = []
        #: What was answered, unless it is still to be.
        self.status: int | None = None

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
    ) -> Callable[[bytes], object]:
        """What the wrapped application calls."""
        if self._upgrader.accepted and status.startswith("101"):
            self._is_upgrade = True
            self._upgrader.keep_identity()
            self.headers = headers
            return _write_nothing
        # A debugger answers again, with an error, where the 101's body fails.
        self._is_upgrade = False
        return self.send(status, headers, exc_info)

    def send(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
    ) -> Callable[[bytes], object]:
        """The server's own ``start_response``."""
        self.status = int(status[:3])
        self.headers = headers
        return self._start_response(status, headers, exc_info)

    def collect(self, body: Iterable[bytes]) -> Iterable[bytes] | None:
        """The response's body, or ``None`` if it is the 101: then Flask is through with it."""
        close: Callable[[], None] = getattr(body, "close", lambda: None)
        try:
            # A debugger's application is a generator: it answers when its first part is asked for.
            parts: Iterator[bytes] = iter(body)
            first = next(parts, None)
        except BaseException:
            close()
            raise
        if not self._is_upgrade:
            return ClosingIterator(chain([] if first is None else [first], parts), close)
        close()
        return None


def _check_headers(headers: Iterable[tuple[str, str]]) -> None:
    for name, value in headers:
        response.check_field(name, value)


def _faulty(error: ValueError) -> Response:
    """The answer to a handshake whose 101 has a header that can't be sent."""
    response = current_app.handle_exception(error)
    try:
        _check_headers(response.headers)
    except ValueError:
        # An after_request function has added it here as well.
        return Response(f"{SERVER_FAULT}\n", 500, mimetype="text/plain")
    return response


def wrapped(wsgi_app: object) -> Iterator[object]:
    """Yield a WSGI application and what it wraps, down to the Flask application if possible."""
    for _ in range(_MOST_LAYERS):
        yield wsgi_app
        if isinstance(wsgi_app, Flask):
            return
        names = ("__self__", "wsgi_app", "app", "_app", "application", "__wrapped__")
        found = (getattr(wsgi_app, name, None) for name in names)
        wsgi_app = next((one for one in found if callable(one)), None)
        if wsgi_app is None:
            return


def _settings_of(declared: WebSocketView | type[WebSocketView], settings: Settings) -> Settings:
    """The settings, with the times that a view has in place of theirs."""
    changes: dict[str, Any] = {}
    for name in TIME_LIMITS:
        value = getattr(declared, name)
        if value is not None:
            changes[name] = value or None
    return replace(settings, **changes) if changes else settings


def _explain_redirect(environ: Environ, status: int | None, headers: list[tuple[str, str]]) -> None:
    """Log a redirect that stands for another spelling of the URL, as browsers don't show it."""
    if status not in (*MOVED, *FOUND):
        return
    location = Headers(headers).get("Location", "")
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    # The others, to a login page for instance, are the application's way to refuse.
    if status in MOVED or unquote(urlsplit(location).path).strip("/") == path.strip("/"):
        logger.warning(
            "a handshake for %r was answered with a redirect (%d) to %r: browsers don't follow "
            "it. Have the client connect to that URL",
            path,
            status,
            location,
        )


def _refuse(start_response: StartResponse, status: str, reason: str) -> Iterable[bytes]:
    """A refusal when Flask has accepted already."""
    start_response(status, [("Content-Type", "text/plain")])
    return [f"{reason}\n".encode()]


def _write_nothing(data: bytes) -> None:
    """A 101 has no body."""
