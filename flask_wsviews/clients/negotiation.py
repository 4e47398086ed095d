"""The part of a client that belongs to the handshake: query, headers and subprotocol."""

from __future__ import annotations

from typing import Any

from werkzeug.datastructures import Headers

from .receiving import ReceivingClient


class NegotiatingClient(ReceivingClient):
    """Holds the results of the handshake, and headers for its response."""

    # Class attributes: a connection that doesn't change them spends no memory on them.

    #: The URL's query as the view's ``query_schema`` has loaded it.
    query: Any = None
    #: The handshake's header fields as the view's ``headers_schema`` has loaded them.
    headers: Any = None
    _offered: tuple[str, ...] = ()
    _subprotocol: str | None = None
    _response_headers: Headers | None = None

    @property
    def response_headers(self) -> Headers:
        """Headers to add to the 101; set them in ``on_handshake``."""
        if self._response_headers is None:
            self._response_headers = Headers()
        return self._response_headers

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol in use; ``on_handshake`` may set one that the client offers.

        :raises ValueError: if you set one that the client doesn't offer (RFC 6455 4.2.2).
        :raises RuntimeError: if you set it after the handshake.
        """
        return self._subprotocol

    @subprotocol.setter
    def subprotocol(self, name: str | None) -> None:
        if self._driver is not None:
            raise RuntimeError(
                "set ws.subprotocol in on_handshake(): the 101 has already been sent"
            )
        if name is not None and name not in self._offered:
            offers = ", ".join(self._offered) or "none"
            raise ValueError(
                f"the client doesn't offer the subprotocol {name!r}; it offers {offers}"
            )
        self._subprotocol = name

    @property
    def offered_subprotocols(self) -> tuple[str, ...]:
        """The subprotocols that the client offers, in its order of preference."""
        return self._offered

    def _choose_subprotocol(self, offered: tuple[str, ...], chosen: str | None) -> None:
        """Set the subprotocols that the client offers, and the default choice."""
        self._offered = offered
        self._subprotocol = chosen

    def _take_response_headers(self) -> Headers | None:
        """Return the headers to add to the 101, and forget them."""
        headers = self._response_headers
        if headers is not None:
            self._response_headers = None
        return headers
