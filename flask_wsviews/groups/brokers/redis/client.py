"""The client of redis-py that all calls of a broker share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .url import close_client


class SharedClient:
    """A client that is made when it is first needed and closed after its last use.

    A thread can still be in a call, or about to begin one, when the broker is closed. The last
    such call closes the client, so that no connection stays open.

    :param make: makes the client; a client of a cluster connects when it is made.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._client: Any = None
        self._scripts: dict[str, Any] = {}
        self._uses = 0
        self._is_closed = False

    def get(self) -> Any:
        """Return the client; make it if there is none."""
        with self._lock:
            if self._client is None:
                self._client = self._make()
            return self._client

    def run_script(self, source: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run a Lua script, which is registered once, and return its result."""
        client = self.get()
        script = self._scripts.get(source)
        if script is None:
            script = self._scripts[source] = client.register_script(source)
        return script(keys=keys, args=arguments)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the client open, at least until the block ends."""
        with self._lock:
            self._uses += 1
        try:
            yield
        finally:
            with self._lock:
                self._uses -= 1
            self._close_if_unused()

    def close(self) -> None:
        """Close the client now, or at the end of its last use."""
        self._is_closed = True
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        with self._lock:
            if not self._is_closed or self._uses:
                return
            client, self._client = self._client, None
            self._scripts.clear()
        if client is not None:
            close_client(client)
