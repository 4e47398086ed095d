"""The examples, started as their READMEs describe."""

from __future__ import annotations

import contextlib
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

from support import servers
from support.asyncapi_documents import Checked, of_application
from support.paths import EXAMPLES
from support.servers import Server

TIMEOUT = 10.0


@dataclass(frozen=True)
class Example:
    """A running example."""

    server: Server
    document: dict[str, Any]

    @property
    def url(self) -> str:
        return self.server.http("")

    def page(self) -> str:
        with urllib.request.urlopen(self.url + "/", timeout=TIMEOUT) as response:
            assert response.headers["Content-Type"] == "text/html; charset=utf-8"
            text: str = response.read().decode()
        return text

    def connect(self, path: str, **options: Any) -> Any:
        """Return a client that fails if the document doesn't allow a message, sent or received."""
        ws = connect(self.server.ws(path), open_timeout=TIMEOUT, **options)
        return Checked(ws, self.document, path)


def by_run(script: str) -> Callable[[int], list[str]]:
    """Start the example with its app.run(), which reads host and port from the environment."""
    return lambda port: [sys.executable, script]


def by_uwsgi(app: str, *options: str) -> Callable[[int], list[str]]:
    """Start the example with the command line in its README."""
    return servers.uwsgi(app, *options, router=True)


@contextlib.contextmanager
def serving(
    folder: str, command: Callable[[int], list[str]], log: Path, **variables: str
) -> Iterator[Example]:
    env = {"HOST": "127.0.0.1", **variables}
    [script] = (EXAMPLES / folder).glob("*.py")
    with servers.running(command, log, env, cwd=EXAMPLES / folder) as server:
        yield Example(server, of_application(script))
    assert "Traceback" not in server.log
