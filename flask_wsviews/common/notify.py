"""Notify observers, and log their exceptions, which must not affect the connection."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")

logger = logging.getLogger("flask_wsviews")

FAILED = "an observer of WebSockets failed: %s"


def notify(observers: Iterable[T], call: Callable[[T], object]) -> None:
    """Call *call* with each observer, and log exceptions."""
    for observer in observers:
        try:
            call(observer)
        except Exception:
            logger.exception(FAILED, type(observer).__name__)
