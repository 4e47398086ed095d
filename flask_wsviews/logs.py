"""Logs one line for each connection that has ended, if the level INFO is enabled."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

from .observers import Observer, Summary

#: The lines have the level INFO, which Python's logging drops by default.
logger = logging.getLogger("flask_wsviews.connections")


class ConnectionLog(Observer):
    """Logs each connection when it ends; never the content of its messages."""

    def _watches_ends(self) -> bool:
        return logger.isEnabledFor(logging.INFO)

    def disconnected(self, ws: Any, summary: Summary) -> None:
        """Log a line; ``record.websocket`` has its fields as a dictionary."""
        traffic = asdict(summary.traffic)
        fields = {
            "endpoint": summary.endpoint,
            "path": summary.path,
            "remote_addr": summary.remote_addr,
            "id": ws.id,
            "duration": round(summary.duration, 3),
            **traffic,
            "close_code": summary.close_code,
            "close_reason": summary.close_reason,
        }
        # repr() escapes line breaks, so a client can't forge lines.
        line = " ".join(
            f"{name}={value!r}" if isinstance(value, str) else f"{name}={value}"
            for name, value in fields.items()
        )
        logger.info("%s", line, extra={"websocket": fields})
