"""An engine, a broker and a server from outside the package: a class and a registry line each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref import handlers
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer, make_server

from flask import Flask

from flask_wsviews.engines import REGISTRY as ENGINES
from flask_wsviews.engines.blocking import BlockingEngine
from flask_wsviews.groups.brokers import REGISTRY as BROKERS
from flask_wsviews.groups.brokers.memory import MemoryBroker
from flask_wsviews.servers import REGISTRY as SERVERS
from flask_wsviews.servers import Adapter
from flask_wsviews.servers.sockets import HeldTransport
from flask_wsviews.typing import Environ


class ToyEngine(BlockingEngine):
    name = "toy"


class ToyBroker(MemoryBroker):
    """A broker for URLs that begin with ``toy://``."""


class ToyRequestHandler(WSGIRequestHandler):
    """Passes its socket to the adapter in the environment."""

    def get_environ(self) -> Environ:
        return {**super().get_environ(), "toy.socket": self.connection}

    def log_message(self, format: str, *arguments: object) -> None: ...


class ToyServer(ThreadingMixIn, WSGIServer):
    """Python's WSGI server, with a thread for each request."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore the failed response: the package has used the connection."""


class ToyAdapter(Adapter):
    environ_keys = ("toy.socket",)
    farewells: list[Callable[[int], None]] = []

    def serves(self, environ: Environ) -> bool:
        return "toy.socket" in environ

    def take_socket(self, environ: Environ) -> HeldTransport:
        return HeldTransport(environ["toy.socket"])

    def before_exit(
        self, ending_signal: Callable[[], int | None], farewell: Callable[[int], None]
    ) -> None:
        self.farewells.append(farewell)


def make(app: Flask, port: int = 0) -> WSGIServer:
    return make_server("127.0.0.1", port, app, ToyServer, ToyRequestHandler)


def serve(app: Flask, port: int) -> None:
    """Serve until SIGINT. A handshake needs HTTP/1.1, and a refusal may have the field Upgrade."""
    ServerHandler.http_version = "1.1"
    handlers.is_hop_by_hop = lambda name: False
    with contextlib.suppress(KeyboardInterrupt):
        make(app, port).serve_forever(poll_interval=0.1)


def register() -> None:
    ENGINES["toy"] = ("support.toys", "ToyEngine")
    BROKERS["toy"] = ("support.toys", "ToyBroker")
    SERVERS["toy"] = ("support.toys", "ToyAdapter")


def unregister() -> None:
    del ENGINES["toy"], BROKERS["toy"], SERVERS["toy"]
