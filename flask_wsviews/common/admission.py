"""The limit of connections in a worker: a place is reserved when a handshake is checked."""

from __future__ import annotations

import threading
from collections import Counter

from werkzeug.exceptions import ServiceUnavailable, TooManyRequests


class Admission:
    """Counts the connections of this worker, in total and by client address."""

    def __init__(self) -> None:
        self._count = 0
        self._by_address: Counter[str] = Counter()
        self._lock = threading.Lock()

    def admit(self, address: str | None, limit: int | None, address_limit: int | None) -> Place:
        """Reserve a place, or refuse the handshake.

        Checking and reserving are one step, so handshakes count while their hooks run.

        :param address: the client's address; ``None`` if it isn't known.
        :param limit: the number of places; ``None`` for no limit.
        :param address_limit: the number of places for one address; ``None`` for no limit.
        :raises werkzeug.exceptions.HTTPException: 503 Service Unavailable or 429 Too Many Requests
            if no place is free.
        """
        counted = address if address_limit is not None else None
        with self._lock:
            if limit is not None and self._count >= limit:
                raise ServiceUnavailable("This worker has no room for another WebSocket.")
            if counted and address_limit is not None:
                if self._by_address[counted] >= address_limit:
                    raise TooManyRequests("There are too many WebSockets from this address.")
                self._by_address[counted] += 1
            self._count += 1
        return Place(self, counted)

    def _leave(self, place: Place) -> None:
        with self._lock:
            if place.is_free:
                return
            place.is_free = True
            self._count -= 1
            if place.address:
                self._by_address[place.address] -= 1
                if not self._by_address[place.address]:
                    del self._by_address[place.address]


class Place:
    """A connection's place, from the check of its handshake until its socket is closed.

    :param admission: counts the places.
    :param address: the address that the place counts for.
    """

    __slots__ = ("_admission", "address", "has_connection", "is_free")

    def __init__(self, admission: Admission, address: str | None) -> None:
        self._admission = admission
        self.address = address
        #: Whether a connection has the place. The end of the connection releases it.
        self.has_connection = False
        #: Whether the place was released.
        self.is_free = False

    def release(self) -> None:
        """Release the place. Does nothing if it was released before."""
        self._admission._leave(self)
