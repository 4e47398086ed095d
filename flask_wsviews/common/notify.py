"""Calls observers, whose errors must not reach the connection that they observe."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")

logger = logging.getLogger("flask_wsviews")

FAILED = "an observer of WebSockets failed: %s"


def tell(observers: Iterable[T], call: Callable[[T], object]) -> None:
    """Call *call* with each observer, and log what it raises."""
    for observer in observers:
        try:
            call(observer)
        except Exception:
            logger.exception(FAILED, type(observer).__name__)
