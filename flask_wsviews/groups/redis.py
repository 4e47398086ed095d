"""The broker that workers and machines share: Redis or Valkey, from 6.2 on.

Messages go out by pub/sub. A group with a history has a stream as well, and one script appends
to it and publishes, so that whoever listens hears of messages in the order of their ids.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, TypeVar
from urllib.parse import urlsplit

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ..config import Settings
from ..exceptions import BrokerUnavailable
from .base import PAGE, Broker, Delivery, History, Publication, Replay
from .brokers import without_password
from .health import Health
from .redis_listener import Listener
from .redis_presence import RedisPresence
from .redis_url import close_client, make_client
from .wire import decode, encode

T = TypeVar("T")

# A message that the server gets to after this share of the time for an answer isn't sent, because
# its publisher is about to be told so.
DEADLINE_SHARE = 0.5

# How many calls of a worker may be at the server at once; redis-py's pools have 100 connections.
MAX_CALLS = 50

# KEYS: the stream, what is set for the group. ARGV: the channel, the message, until when to send
# it, in ms of the server's clock, how many to keep, for how many ms, and the command to send by.
PUBLISH = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if now > tonumber(ARGV[3]) then
    return {'late', tostring(now)}
end
local count, age = ARGV[4], ARGV[5]
if count == '' and age == '' then
    local set = redis.call('HMGET', KEYS[2], 'count', 'age')
    count, age = set[1] or '', set[2] or ''
end
local id = ''
if count ~= '' or age ~= '' then
    local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
    local before = last[1] and last[1][1] or ''
    id = redis.call('XADD', KEYS[1], '*', 'before', before, 'message', ARGV[2])
    if count ~= '' then
        redis.call('XTRIM', KEYS[1], 'MAXLEN', count)
    end
    local life = 86400000
    if age ~= '' then
        redis.call('XTRIM', KEYS[1], 'MINID', string.format('%.0f', now - age))
        life = age
    end
    redis.call('PEXPIRE', KEYS[1], life)
    redis.call('PEXPIRE', KEYS[2], life)
end
redis.call(ARGV[6], ARGV[1], id .. '\\n' .. ARGV[2])
return {id, tostring(now)}
"""

# KEYS as above. ARGV: the id to begin after, how many at most, how many to keep, for how many ms.
# A stream without messages gets an entry without one, for a place to begin at. An entry says
# which one was before it, so that it shows whether anything between it and an id is gone.
REPLAY = """
local life = 86400000
redis.call('HSET', KEYS[2], 'count', ARGV[3], 'age', ARGV[4])
if ARGV[4] ~= '' then
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    redis.call('XTRIM', KEYS[1], 'MINID', string.format('%.0f', now - ARGV[4]))
    life = ARGV[4]
end
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local last = newest[1] and newest[1][1]
if not last then
    last = redis.call('XADD', KEYS[1], '*', 'before', '')
end
redis.call('PEXPIRE', KEYS[1], life)
redis.call('PEXPIRE', KEYS[2], life)
if ARGV[1] == '' then
    return {last, 1, 1, {}}
end
local complete = #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])
local entries = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])
if complete == 0 and entries[1] and entries[1][2][2] == ARGV[1] then
    complete = 1
end
local is_last = #entries < tonumber(ARGV[2]) and 1 or 0
if entries[1] then
    last = entries[#entries][1]
end
return {last, complete, is_last, entries}
"""


class RedisBroker(Broker):
    """Carries messages through a Redis server, its sentinels or a cluster.

    :param settings: URL, key prefix and timeout.
    :raises ConfigError: if the URL can't be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._is_cluster = urlsplit(settings.broker_url).scheme.endswith("+cluster")
        self._health = Health(f"the broker {without_password(settings.broker_url)}")
        # Out of memory it still publishes, but keeps nothing.
        self._keeping = Health(f"what is kept in {without_password(settings.broker_url)}")
        self._lock = threading.Lock()
        # Where hundreds of handlers call at once, most of them wait here: redis-py's pool would
        # refuse them, which is no failure of the server's.
        self._turns = threading.Semaphore(MAX_CALLS)
        self._made_client: Any = None
        self._scripts: dict[str, Any] = {}
        self._clock_offset: float | None = None
        self._listener: Listener | None = None
        self.presence = RedisPresence(self)
        if not self._is_cluster:
            # Nothing is connected to; a URL that can't be used is found out.
            close_client(make_client(settings.broker_url, settings.broker_timeout))

    def start(self, deliver: Callable[[Delivery], None]) -> None:
        """See :meth:`Broker.start`."""
        self._listener = Listener(self, deliver, self._health, self._settings.broker_timeout)

    def publish(self, publication: Publication) -> str | None:
        """See :meth:`Broker.publish`."""
        group = publication.group
        message = encode(publication)
        history = publication.history

        def send() -> tuple[bytes, bytes]:
            answer: tuple[bytes, bytes] = self._script(PUBLISH)(
                keys=self._keys(group),
                args=[
                    self.channel(group),
                    message,
                    self._deadline(),
                    *_limits(history),
                    "SPUBLISH" if self._is_cluster else "PUBLISH",
                ],
            )
            self._clock_offset = float(answer[1]) - monotonic() * 1000
            return answer

        answer = self._call(send, keeps=history is not None)
        if answer[0] == b"late":
            # Its clock is another one than it was: after a failover, for instance.
            answer = self._call(send, keeps=history is not None)
        if answer[0] == b"late":
            raise self._health.error()
        return answer[0].decode() or None

    def ping(self) -> None:
        """See :meth:`Broker.ping`."""
        self._call(lambda: self._client.ping(), keeps=False)

    def subscribe(self, group: str, history: History | None) -> None:
        """See :meth:`Broker.subscribe`."""
        assert self._listener is not None
        self._listener.subscribe(group, history)

    def unsubscribe(self, group: str) -> None:
        """See :meth:`Broker.unsubscribe`."""
        if self._listener is not None:
            self._listener.unsubscribe(group)

    def replay(self, group: str, since: str | None, history: History) -> Replay:
        """See :meth:`Broker.replay`."""
        ask = partial(self._ask_for_page, group, since, history)
        return self._replay(group, self._call(ask, keeps=True))

    def _ask_for_page(self, group: str, since: str | None, history: History) -> Any:
        return self._script(REPLAY)(
            keys=self._keys(group), args=[since or "", PAGE, *_limits(history)]
        )

    def _replay(self, group: str, page: Any) -> Replay:
        last, complete, is_last, entries = page
        deliveries = [
            decode(group, entry, fields[3]) for entry, fields in entries if len(fields) > 2
        ]
        replay = Replay(last.decode(), deliveries, bool(complete), bool(is_last))
        if replay.is_last and self._listener is not None:
            self._listener.note_position(group, replay.position)
        return replay

    @property
    def is_reachable(self) -> bool:
        """Whether the last attempt to reach it succeeded."""
        return self._health.is_good

    def close(self) -> None:
        """See :meth:`Broker.close`."""
        if self._listener is not None:
            self._listener.close()
        with self._lock:
            client, self._made_client = self._made_client, None
            self._scripts.clear()
        if client is not None:
            close_client(client)

    # -- for presence -----------------------------------------------------------------------------

    def run(
        self,
        script: str,
        group: str,
        names: tuple[str, ...],
        arguments: tuple[str, ...],
        *,
        keeps: bool,
    ) -> Any:
        """Run a script on keys of a group.

        :param names: what the keys end in.
        :param keeps: whether it needs memory of the server.
        :raises BrokerUnavailable: if it can't be run.
        """
        keys = [self._key(group, name) for name in names]
        return self._call(lambda: self._script(script)(keys=keys, args=arguments), keeps=keeps)

    # -- for the listener -------------------------------------------------------------------------

    def catch_up(self, group: str, since: str | None, history: History) -> Replay:
        """As :meth:`replay`, but ahead of all who wait for the server: they wait for this, too."""
        ask = partial(self._ask_for_page, group, since, history)
        return self._replay(group, self._attempt(ask, keeps=True))

    def channel(self, group: str) -> str:
        """The channel of a group."""
        return self._key(group, "channel")

    def group_of(self, channel: bytes) -> str:
        """The group of a channel."""
        return channel.decode()[len(self._settings.key_prefix) + 2 : -len("}:channel")]

    @property
    def subscribe_commands(self) -> tuple[str, str]:
        """By what a channel is subscribed to, and not any more."""
        return ("SSUBSCRIBE", "SUNSUBSCRIBE") if self._is_cluster else ("SUBSCRIBE", "UNSUBSCRIBE")

    @property
    def takes_many_channels(self) -> bool:
        """Whether one command subscribes to many; in a cluster they would have to share a slot."""
        return not self._is_cluster

    def node_of(self, group: str) -> str:
        """The name of the server that a group's channel is on; all the same without a cluster."""
        if not self._is_cluster:
            return ""
        return str(self._client.get_node_from_key(self.channel(group)).name)

    def connect(self, node: str) -> Any:
        """A new connection of redis-py to one of the servers.

        :raises redis.exceptions.RedisError: if it can't be reached.
        """
        client = self._client
        if self._is_cluster:
            client = client.get_redis_connection(client.get_node(node_name=node))
        connection = client.connection_pool.make_connection()
        connection.connect()
        return connection

    def look_again(self) -> None:
        """Find out anew which servers of a cluster there are."""
        if self._is_cluster:
            self._client.nodes_manager.initialize()

    # -- at work ----------------------------------------------------------------------------------

    @property
    def _client(self) -> Any:
        # Made when it is needed: that of a cluster connects, and gevent may patch until then.
        with self._lock:
            if self._made_client is None:
                settings = self._settings
                self._made_client = make_client(settings.broker_url, settings.broker_timeout)
            return self._made_client

    def _script(self, source: str) -> Any:
        client = self._client
        script = self._scripts.get(source)
        if script is None:
            script = self._scripts[source] = client.register_script(source)
        return script

    def _keys(self, group: str) -> list[str]:
        return [self._key(group, "stream"), self._key(group, "set")]

    def _key(self, group: str, name: str) -> str:
        # In braces is what a cluster chooses the server by: it is the same one for all of a group.
        return f"{self._settings.key_prefix}:{{{group}}}:{name}"

    def _deadline(self) -> str:
        """Until when to send a message, in milliseconds of the server's clock."""
        now = monotonic() * 1000
        offset = self._clock_offset
        if offset is None:
            seconds, microseconds = self._client.time()
            self._clock_offset = offset = seconds * 1000 + microseconds / 1000 - monotonic() * 1000
        share = self._settings.broker_timeout * 1000 * DEADLINE_SHARE
        return f"{now + offset + share:.0f}"

    def _call(self, function: Callable[[], T], *, keeps: bool) -> T:
        timeout = self._settings.broker_timeout
        if not self._turns.acquire(timeout=timeout):
            raise BrokerUnavailable(
                f"{MAX_CALLS} calls of this worker are at the broker already, and none of them "
                f"has ended within {timeout:g} s"
            )
        try:
            self._health.begin()
            return self._attempt(function, keeps=keeps)
        finally:
            self._turns.release()

    def _attempt(self, function: Callable[[], T], *, keeps: bool) -> T:
        try:
            result = function()
        except (RedisConnectionError, RedisTimeoutError, OSError) as error:
            # Only where the connection broke before the answer is that unknown: what the server
            # gets to late it leaves.
            is_open = str(error).startswith(("Connection closed", "Error while reading"))
            outcome = "it may have been sent" if is_open else "nothing was sent"
            raise self._health.failed(error, outcome) from None
        except ResponseError as error:
            self._health.succeeded()
            raise self._keeping.failed(error) from None
        except (RedisError, RedisClusterException) as error:
            raise self._health.failed(error) from None
        self._health.succeeded()
        if keeps:
            self._keeping.succeeded()
        return result


def _limits(history: History | None) -> tuple[str, str]:
    if history is None:
        return "", ""
    count = "" if history.messages is None else str(history.messages)
    age = "" if history.seconds is None else f"{history.seconds * 1000:.0f}"
    return count, age
