"""Close codes by name (RFC 6455 7.4.1, and IANA's WebSocket Close Code Number Registry).

``ws.close()`` and :class:`~flask_wsviews.CloseConnection` accept them, and the numbers from 4000 to
4999, which applications may define.
"""

from __future__ import annotations

from typing import Final

#: 1000 Normal Closure
NORMAL_CLOSURE: Final = 1000
#: 1001 Going Away: the server stops, or the user leaves the page.
GOING_AWAY: Final = 1001
#: 1002 Protocol Error
PROTOCOL_ERROR: Final = 1002
#: 1003 Unsupported Data: for example a binary message where only text is expected.
UNSUPPORTED_DATA: Final = 1003
#: 1005 No Status Received: the close frame had no code. Never sent.
NO_STATUS: Final = 1005
#: 1006 Abnormal Closure: the connection ended without a close frame. Never sent.
ABNORMAL_CLOSURE: Final = 1006
#: 1007 Invalid Frame Payload Data: for example text that isn't UTF-8.
INVALID_DATA: Final = 1007
#: 1008 Policy Violation
POLICY_VIOLATION: Final = 1008
#: 1009 Message Too Big
MESSAGE_TOO_BIG: Final = 1009
#: 1011 Internal Error
INTERNAL_ERROR: Final = 1011
#: 1012 Service Restart: reconnect soon.
SERVICE_RESTART: Final = 1012
#: 1013 Try Again Later: reconnect with exponential backoff.
TRY_AGAIN_LATER: Final = 1013
