"""The deadlines of a connection to Redis."""

from __future__ import annotations

from time import monotonic
from typing import Any

import pytest

from flask_wsviews.groups.brokers.redis.link import PING_INTERVAL, Link


class FakeConnection:
    """A connection whose server may have answered."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, ...]] = []
        self.has_answer = False

    def send_command(self, *command: str, check_health: bool) -> None:
        self.commands.append(command)

    def can_read(self, timeout: float) -> bool:
        return self.has_answer

    def read_response(self) -> list[Any]:
        self.has_answer = False
        return [b"pong", b""]


def test_an_answer_that_nobody_has_read_yet_counts() -> None:
    connection = FakeConnection()
    link = Link(connection, timeout=1.0)
    link.tick(monotonic() + PING_INTERVAL + 1)
    assert connection.commands == [("PING",)]
    late = monotonic() + 60
    connection.has_answer = True
    link.tick(late)
    assert list(link.read()) == [[b"pong", b""]]
    link.tick(monotonic())
    link.send("PING")
    with pytest.raises(TimeoutError, match="no answer within 1 s"):
        link.tick(late)
