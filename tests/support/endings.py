"""How a connection ends for its client."""

from __future__ import annotations

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection


def end(ws: ClientConnection) -> int | None:
    with pytest.raises(ConnectionClosed) as caught:
        ws.recv(timeout=15)
    return None if caught.value.rcvd is None else int(caught.value.rcvd.code)


def close_of(ws: ClientConnection) -> tuple[int, str]:
    """Return the close code and reason. The close frame must be the next frame."""
    with pytest.raises(ConnectionClosed) as caught:
        ws.recv(timeout=15)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason
