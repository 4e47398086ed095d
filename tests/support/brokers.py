"""A broker that records its deliveries."""

from __future__ import annotations

from flask_wsviews.config import Settings
from flask_wsviews.groups import Broker, Delivery, History, Publication, make_broker
from support.servers import poll

KEPT = History(1000)


# Brokers to close at the end of a test, also of a failed one.
MADE: list[Broker] = []


class Listening:
    """A broker and its deliveries so far."""

    def __init__(self, url: str) -> None:
        self.heard: list[Delivery] = []
        self.broker: Broker = make_broker(Settings(broker_url=url))
        self.broker.start(self.heard.append)
        MADE.append(self.broker)

    def bodies(self, count: int) -> list[str | bytes | None]:
        poll(lambda: len(self.heard) >= count)
        return [delivery.body for delivery in self.heard]


def publish(listening: Listening, group: str, body: str | bytes, history=None) -> str | None:
    return listening.broker.publish(Publication(group, body, history=history))
