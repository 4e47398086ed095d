"""An engine, a broker and a server as somebody else would add them: a class, and a line."""

from __future__ import annotations

import socket
from collections.abc import Callable
from wsgiref.simple_server import WSGIRequestHandler

from flask_wsviews import servers
from flask_wsviews.engines import REGISTRY as ENGINES
from flask_wsviews.engines.blocking import BlockingEngine
from flask_wsviews.groups.brokers import REGISTRY as BROKERS
from flask_wsviews.groups.brokers.memory import MemoryBroker
from flask_wsviews.servers.base import HeldTransport
from flask_wsviews.typing import Environ


class ToyEngine(BlockingEngine):
    name = "toy"


class ToyBroker(MemoryBroker):
    """A broker that a URL of its own stands for."""


class ToyRequestHandler(WSGIRequestHandler):
    """Leaves its socket where the adapter finds it."""

    def get_environ(self) -> Environ:
        return {**super().get_environ(), "toy.socket": self.connection}

    def log_message(self, format: str, *arguments: object) -> None: ...


class ToyAdapter:
    farewells: list[Callable[[int], None]] = []

    def check_start(self) -> None: ...

    def when_worker_starts(self, function: Callable[[], object]) -> None: ...

    def serves(self, environ: Environ) -> bool:
        return "toy.socket" in environ

    def check(self, environ: Environ) -> None: ...

    def take_socket(self, environ: Environ) -> HeldTransport:
        sock: socket.socket = environ.pop("toy.socket")
        return HeldTransport(sock)

    def before_exit(
        self, ending_signal: Callable[[], int | None], farewell: Callable[[int], None]
    ) -> None:
        self.farewells.append(farewell)


def register() -> None:
    ENGINES["toy"] = ("support.toys", "ToyEngine")
    BROKERS["toy"] = ("support.toys", "ToyBroker")
    servers.ADAPTERS.append(ToyAdapter())


def unregister() -> None:
    del ENGINES["toy"], BROKERS["toy"]
    servers.ADAPTERS.pop()
