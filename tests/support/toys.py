"""An engine, a broker and a server as somebody else would add them: a class, and a line."""

from __future__ import annotations

from collections.abc import Callable
from wsgiref.simple_server import WSGIRequestHandler

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
    """A broker that a URL of its own stands for."""


class ToyRequestHandler(WSGIRequestHandler):
    """Leaves its socket where the adapter finds it."""

    def get_environ(self) -> Environ:
        return {**super().get_environ(), "toy.socket": self.connection}

    def log_message(self, format: str, *arguments: object) -> None: ...


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


def register() -> None:
    ENGINES["toy"] = ("support.toys", "ToyEngine")
    BROKERS["toy"] = ("support.toys", "ToyBroker")
    SERVERS["toy"] = ("support.toys", "ToyAdapter")


def unregister() -> None:
    del ENGINES["toy"], BROKERS["toy"], SERVERS["toy"]
