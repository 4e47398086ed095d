"""The functions that close all connections when the server ends this process."""

from __future__ import annotations

import logging
from collections.abc import Callable

logger = logging.getLogger("flask_wsviews")


class Farewells:
    """Functions that close all connections of an application: one per application."""

    def __init__(self) -> None:
        self._functions: list[Callable[[int], None]] = []

    def add(self, function: Callable[[int], None]) -> None:
        """Add a function, unless it was added before."""
        if function not in self._functions:
            self._functions.append(function)

    def say(self, code: int) -> None:
        """Call each function with a close code. An error in one doesn't stop the others."""
        for function in list(self._functions):
            try:
                function(code)
            except Exception:
                logger.exception("closing the connections at the end of this process failed")
