"""The broker that workers and machines share: Redis or Valkey, from 6.2 on.

Messages go out by pub/sub. A group with a history also has a stream, and one script both appends
to it and publishes, so that subscribers receive messages in the order of their ids.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from ....config import Settings
from ..base import Broker, Delivery, History, Publication, Replay, new_epoch
from ..wire import encode
from .calls import Calls
from .client import SharedClient
from .history import Histories, limits_of
from .keys import Keys
from .listener import Listener
from .presence import RedisPresence
from .scripts import PUBLISH
from .servers import Servers
from .url import client_maker, close_client

# The server drops a message that reaches it after this share of the timeout, because its publisher
# is about to get an error.
DEADLINE_SHARE = 0.5


class RedisBroker(Broker):
    """Carries messages through a Redis server, its sentinels or a cluster.

    :param settings: URL, key prefix and timeout.
    :raises ConfigError: if the URL isn't valid.
    """

    def __init__(self, settings: Settings) -> None:
        self._timeout = settings.broker_timeout
        url = settings.broker_url
        is_cluster = url.partition("://")[0].lower().endswith("+cluster")
        make_client = client_maker(url, self._timeout)
        # Made late: the client of a cluster connects, and gevent may not have patched yet.
        self._client = SharedClient(make_client)
        self._keys = Keys(settings.key_prefix, is_cluster)
        self._servers = Servers(self._client, is_cluster)
        self._calls = Calls(self._client, url, self._timeout)
        self._histories = Histories(self._calls, self._servers, self._keys)
        self._listener: Listener | None = None
        self._clock_offset: float | None = None
        self.presence = RedisPresence(self._calls, self._keys)
        if not is_cluster:
            # This finds mistakes in the URL, without connecting.
            close_client(make_client())

    def start(self, deliver: Callable[[Delivery], None]) -> None:
        """Prepare to subscribe; the listening thread starts with the first subscription."""
        listener = Listener(
            self._servers, self._keys, self._histories, deliver, self._calls.health, self._timeout
        )
        self._histories.subscribed = listener.histories
        self._listener = listener

    def publish(self, publication: Publication) -> str | None:
        """Publish a message, and append it to the stream if the group has a history."""
        group = publication.group
        message = encode(publication)
        history = publication.history if publication.keep else None
        limits = limits_of(history) if publication.keep else ("none", "")

        def send() -> tuple[bytes, bytes]:
            arguments = [
                self._keys.channel(group),
                message,
                self._deadline(),
                *limits,
                self._servers.publish_command,
                new_epoch(),
            ]
            keys = self._keys.of_history(group)
            answer: tuple[bytes, bytes] = self._client.run_script(PUBLISH, keys, arguments)
            self._clock_offset = float(answer[1]) - monotonic() * 1000
            return answer

        answer = self._calls.call(send, keeps=history is not None)
        if answer[0] == b"late":
            # The server's clock has changed, as after a failover.
            answer = self._calls.call(send, keeps=history is not None)
        if answer[0] == b"late":
            raise self._calls.health.error()
        return answer[0].decode() or None

    def subscribe(self, group: str, history: History | None) -> None:
        """Subscribe to a group, and return once the server has confirmed it."""
        assert self._listener is not None
        self._listener.subscribe(group, history)

    def unsubscribe(self, group: str) -> None:
        """Unsubscribe from a group, soon."""
        if self._listener is not None:
            self._listener.unsubscribe(group)

    def replay(self, group: str, since: str | None, history: History) -> Replay:
        """Return a page of a group's stream."""
        return self._histories.replay(group, since, history)

    def ping(self) -> None:
        """Send a PING and wait for the answer."""
        self._calls.call(self._ping)

    def _ping(self) -> Any:
        return self._client.get().ping()

    @property
    def is_reachable(self) -> bool:
        """Whether the last call to the server succeeded."""
        return self._calls.health.is_good

    def close(self) -> None:
        """Stop the threads, and close the client after its last use."""
        if self._listener is not None:
            self._listener.close()
        self._histories.close()
        self._client.close()

    def _deadline(self) -> str:
        """Return the time until which to send a message, in ms of the server's clock."""
        now = monotonic() * 1000
        offset = self._clock_offset
        if offset is None:
            seconds, microseconds = self._client.get().time()
            self._clock_offset = offset = seconds * 1000 + microseconds / 1000 - monotonic() * 1000
        return f"{now + offset + self._timeout * 1000 * DEADLINE_SHARE:.0f}"
