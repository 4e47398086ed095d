"""From the request with ``Upgrade: websocket`` to an open connection.

Read middleware.py first, then accept.py and take_over.py.
"""

from ..protocol.opening import UpgradeRequired

__all__ = ["UpgradeRequired"]
