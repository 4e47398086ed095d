"""How many connections each address has in this worker."""

from __future__ import annotations

import threading
from collections import Counter


class Addresses:
    """Counts connections by address."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def enter(self, address: str, limit: int) -> bool:
        """Count one more, unless there are *limit* already; says which."""
        with self._lock:
            if self._counts[address] >= limit:
                return False
            self._counts[address] += 1
            return True

    def leave(self, address: str) -> None:
        """Count one less."""
        with self._lock:
            self._counts[address] -= 1
            if not self._counts[address]:
                del self._counts[address]
