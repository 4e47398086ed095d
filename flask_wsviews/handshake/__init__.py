"""From the request with ``Upgrade: websocket`` to an open connection."""

from ..protocol.opening import UpgradeRequired

__all__ = ["UpgradeRequired"]
