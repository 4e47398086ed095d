"""The broker that workers and machines share: Redis or Valkey, from 6.2 on.

Messages go out by pub/sub. A group with a history has a stream as well, and one script appends
to it and publishes, so that whoever listens hears of messages in the order of their ids.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from time import monotonic
from typing import Any, TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import (
    NoPermissionError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.sentinel import MasterNotFoundError

from ....common.urls import shown_url, without_secrets
from ....config import Settings
from ....exceptions import BrokerUnavailable
from ...presence.chores import Chores
from ..base import (
    PAGE,
    PAGE_SIZE,
    Broker,
    Delivery,
    History,
    Publication,
    Replay,
    new_epoch,
    parse_id,
)
from ..health import BrokerRefused, Health
from ..wire import decode, encode
from .client import SharedClient
from .listener import Listener
from .presence import RedisPresence
from .url import client_maker, close_client, why_no_master

T = TypeVar("T")

logger = logging.getLogger("flask_wsviews")

# A message that the server gets to after this share of the time for an answer isn't sent, because
# its publisher is about to be told so.
DEADLINE_SHARE = 0.5

# What of the time for an answer connecting may take where somebody waits for more than that.
CONNECT_SHARE = 0.8

# How many calls of a worker may be at the server at once; redis-py's pools have 100 connections.
MAX_CALLS = 50

# How long what is set for a group is kept, in ms, unless a worker with members in it renews it,
# and how often that is done, in seconds.
LEASE = 300_000
RENEWAL = 100.0
RENEWAL_RETRY = 10.0

# What the keys of a group end in.
GROUP_KEYS = ("stream", "set")

# In a cluster each group has its own ground, which is kept for so many ms.
GROUND_LIFE = 3_600_000

# KEYS of all scripts: the group's stream, what is set for it, and the ground: an epoch for the
# positions in groups that nothing was published to yet. An entry of a stream has the id of the one
# before it, so that it shows whether anything between it and an id is gone, the epoch and
# the message. The epoch of the last entry is that of the stream.
COMMON = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function field(entry, name)
    for i = 1, #entry[2], 2 do
        if entry[2][i] == name then
            return entry[2][i + 1]
        end
    end
end
local function epoch_of(entry)
    local epoch = field(entry, 'epoch') or ''
    return #epoch == 12 and string.match(epoch, '^%d+$')
end
local function newest()
    local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
    return last, last and epoch_of(last)
end
local function keep_set(life)
    if redis.call('PTTL', KEYS[2]) < tonumber(life) then
        redis.call('PEXPIRE', KEYS[2], life)
    end
end
local function trim(age)
    redis.call('XTRIM', KEYS[1], 'MINID', string.format('%.0f', now - age))
end
"""

# ARGV: the channel, the message, until when to send it, in ms of the server's clock, how many to
# keep, for how many ms, the command to send by, and an epoch in case one begins. A count of "none"
# keeps this message out of the history.
PUBLISH = (
    COMMON
    + """
if now > tonumber(ARGV[3]) then
    return {'late', tostring(now)}
end
local count, age = ARGV[4], ARGV[5]
if count == 'none' then
    count = ''
elseif count == '' and age == '' then
    local set = redis.call('HMGET', KEYS[2], 'count', 'age')
    count, age = set[1] or '', set[2] or ''
end
local id = ''
if count ~= '' or age ~= '' then
    local last, epoch = newest()
    local before = epoch and last[1]
    if not epoch then
        -- What came before may have been in a stream that has ended, or that was evicted.
        local published = redis.call('HGET', KEYS[2], 'last')
        before = published and published .. '-0' or ''
        epoch = ARGV[7]
    end
    id = redis.call(
        'XADD', KEYS[1], '*', 'before', before, 'epoch', epoch, 'message', ARGV[2]
    )
    if count ~= '' then
        redis.call('XTRIM', KEYS[1], 'MAXLEN', count)
    end
    local life = 86400000
    if age ~= '' then
        trim(age)
        life = age
    end
    redis.call('PEXPIRE', KEYS[1], life)
    redis.call('HSET', KEYS[2], 'last', string.format('%.0f', now))
    keep_set(life)
    id = epoch .. '-' .. id
end
redis.call(ARGV[6], ARGV[1], id .. '\\n' .. ARGV[2])
return {id, tostring(now)}
"""
)

# ARGV: epoch and rest of the id to begin after, how many at most, and how many bytes, how many to
# keep, for how many ms, an epoch in case one begins, how long to keep what is set and the ground,
# in ms, and whether to believe the id. Clients make ids up, but workers have heard theirs.
REPLAY = (
    COMMON
    + """
local from_epoch, from = ARGV[1], ARGV[2]
local life = 86400000
-- Without memory for it, replaying goes on.
redis.pcall('HSET', KEYS[2], 'count', ARGV[5], 'age', ARGV[6])
keep_set(ARGV[8])
if ARGV[6] ~= '' then
    trim(ARGV[6])
    life = tonumber(ARGV[6])
end
local last, epoch = newest()

local function begin_epoch()
    epoch = ARGV[7]
    redis.call('XADD', KEYS[1], '*', 'before', '', 'epoch', epoch)
    last = newest()
end

local function ground()
    local known = redis.call('GET', KEYS[3])
    if not known then
        known = ARGV[7]
        redis.pcall('SET', KEYS[3], known)
    end
    if ARGV[9] ~= '' then
        redis.call('PEXPIRE', KEYS[3], ARGV[9])
    end
    return known
end

local function parts(id)
    local time, number = string.match(id, '^(%d+)-(%d+)$')
    return tonumber(time), tonumber(number)
end

local function is_below(one, other)
    local time, number = parts(one)
    local its_time, its_number = parts(other)
    return time < its_time or (time == its_time and number < its_number)
end

local function is_kept(id)
    return #redis.call('XRANGE', KEYS[1], id, id) > 0
end

local function page(start, is_seen)
    local entries, size = {}, 0
    local most, room = tonumber(ARGV[3]), tonumber(ARGV[4])
    while true do
        local some = redis.call('XRANGE', KEYS[1], start, '+', 'COUNT', 10)
        for _, entry in ipairs(some) do
            if not is_seen(entry) then
                size = size + #(field(entry, 'message') or '')
                if #entries > 0 and (#entries == most or size > room) then
                    return entries, 0
                end
                entries[#entries + 1] = entry
            end
        end
        if #some < 10 then
            return entries, 1
        end
        start = '(' .. some[10][1]
    end
end

if last and not epoch then
    begin_epoch()
end
if last then
    redis.call('PEXPIRE', KEYS[1], life)
    keep_set(life)
end
local function nowhere()
    return ground() .. '-' .. string.format('%.0f-0', now)
end

if from == '' then
    return {last and epoch .. '-' .. last[1] or nowhere(), 1, 1, epoch or '', {}}
end

if not last then
    -- Nothing is left of a history that the id is of, if there was one.
    local time = parts(from)
    local published = tonumber(redis.call('HGET', KEYS[2], 'last') or -1)
    local complete = from_epoch == ground() and time <= now and now - time < life
        and published < time
    return {nowhere(), complete and 1 or 0, 1, '', {}}
end

local entries, is_last = {}, 1
if from_epoch ~= epoch then
    entries, is_last = page('-', function(entry)
        return epoch_of(entry) == from_epoch and not is_below(from, entry[1])
    end)
elseif is_below(from, last[1]) then
    entries, is_last = page('(' .. from, function()
        return false
    end)
end
local first = entries[1]
local before = first and field(first, 'before')
local complete = false
local is_rolled_back = false
if from_epoch == epoch then
    if not first then
        complete = from == last[1]
        is_rolled_back = not complete
    elseif before == '' then
        complete = true
    elseif before then
        complete = not is_below(from, before)
        is_rolled_back = is_below(before, from) and not is_kept(from)
    else
        complete = is_kept(from)
    end
elseif before and from_epoch == ground() then
    local time = parts(from)
    local began = parts(first[1])
    local is_first = before == '' or parts(before) < time
    complete = is_first and time <= began and began - time < life
end
local place = first and entries[#entries] or last
if ARGV[10] ~= '' and is_rolled_back then
    -- The server has lost the messages up to there, and gives out ids below it again.
    complete = false
    begin_epoch()
    if is_last == 1 then
        place = last
    end
end
local position = (epoch_of(place) or epoch) .. '-' .. place[1]
return {position, complete and 1 or 0, is_last, epoch, entries}
"""
)

# ARGV: how many to keep, for how many ms, and how long to keep that, in ms.
RENEW = (
    COMMON
    + """
redis.call('HSET', KEYS[2], 'count', ARGV[1], 'age', ARGV[2])
keep_set(ARGV[3])
"""
)

# ARGV: the channel and how to count who listens to it. What is set goes with the last of them,
# unless something was published. Where that can't be asked it goes at its time.
RELEASE = """
if redis.call('EXISTS', KEYS[1]) == 1 or redis.call('HEXISTS', KEYS[2], 'last') == 1 then
    return
end
local listeners = redis.pcall('PUBSUB', ARGV[2], ARGV[1])
if listeners[2] == 0 then
    redis.call('DEL', KEYS[2])
end
"""


class RedisBroker(Broker):
    """Carries messages through a Redis server, its sentinels or a cluster.

    :param settings: URL, key prefix and timeout.
    :raises ConfigError: if the URL can't be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        url = settings.broker_url
        clean = partial(without_secrets, url=url)
        self._is_cluster = url.partition("://")[0].lower().endswith("+cluster")
        make_client = client_maker(url, settings.broker_timeout)
        # Made when it is needed: that of a cluster connects, and gevent may patch until then.
        self._shared = SharedClient(make_client)
        self._ground = f"{settings.key_prefix}:epoch"
        self._health = Health(f"the broker {shown_url(url)}", clean)
        # Out of memory it still publishes, but keeps nothing.
        self._keeping = Health(f"what is kept in {shown_url(url)}", clean)
        self._permissions = Health(f"the permission of the user of {shown_url(url)}", clean)
        self._lock = threading.Lock()
        # Where hundreds of handlers call at once, most of them wait here: redis-py's pool would
        # refuse them, which is no failure of the server's.
        self._turns = threading.Semaphore(MAX_CALLS)
        self._clock_offset: float | None = None
        self._listener: Listener | None = None
        self._chores = Chores("wsviews-redis-groups", self._renew, RENEWAL)
        self.presence = RedisPresence(self)
        if not self._is_cluster:
            # Nothing is connected to; a URL that can't be used is found out.
            close_client(make_client())

    def start(self, deliver: Callable[[Delivery], None]) -> None:
        """See :meth:`Broker.start`."""
        self._listener = Listener(self, deliver, self._health, self._settings.broker_timeout)

    def publish(self, publication: Publication) -> str | None:
        """See :meth:`Broker.publish`."""
        group = publication.group
        message = encode(publication)
        history = publication.history if publication.keep else None
        limits = _limits(history) if publication.keep else ("none", "")

        def send() -> tuple[bytes, bytes]:
            answer: tuple[bytes, bytes] = self._shared.script(PUBLISH)(
                keys=self._keys(group),
                args=[
                    self.channel(group),
                    message,
                    self._deadline(),
                    *limits,
                    "SPUBLISH" if self._is_cluster else "PUBLISH",
                    new_epoch(),
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
        return _replay(group, self._call(ask, keeps=False))

    def _ask_for_page(
        self, group: str, since: str | None, history: History, *, is_believed: bool = False
    ) -> Any:
        epoch, rest = ("", "") if since is None else _split(since)
        return self._shared.script(REPLAY)(
            keys=self._keys(group),
            args=[
                epoch,
                rest,
                PAGE,
                PAGE_SIZE,
                *_limits(history),
                new_epoch(),
                LEASE,
                GROUND_LIFE if self._is_cluster else "",
                "1" if is_believed else "",
            ],
        )

    @property
    def is_reachable(self) -> bool:
        """Whether the last attempt to reach it succeeded."""
        return self._health.is_good

    def close(self) -> None:
        """See :meth:`Broker.close`."""
        if self._listener is not None:
            self._listener.close()
        self._chores.close(0)
        self._shared.close()

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
        return self._call(
            lambda: self._shared.script(script)(keys=keys, args=arguments), keeps=keeps
        )

    # -- for the listener -------------------------------------------------------------------------

    def client_in_use(self) -> AbstractContextManager[None]:
        """Keep the client open while the listener's thread runs."""
        return self._shared.in_use()

    def catch_up(self, group: str, since: str | None, history: History) -> Replay:
        """As :meth:`replay`, but ahead of all who wait for the server: they wait for this, too.

        :param since: an id that was heard.
        """
        ask = partial(self._ask_for_page, group, since, history, is_believed=True)
        return _replay(group, self._attempt(ask, keeps=False))

    def subscribed(self) -> None:
        """See that what is set for groups is renewed from now on."""
        self._chores.do(_nothing)

    def unsubscribed(self, group: str) -> None:
        """Let go of what is set for a group that this worker has no members in."""
        self._chores.do(partial(self._release, group))

    def _renew(self) -> float:
        """Keep what is set for the groups that have members here."""
        assert self._listener is not None
        try:
            for group, history in self._listener.histories():
                arguments = (*_limits(history), str(LEASE))
                self.run(RENEW, group, GROUP_KEYS, arguments, keeps=False)
        except BrokerUnavailable:
            return RENEWAL_RETRY
        return RENEWAL

    def _release(self, group: str) -> None:
        counting = "SHARDNUMSUB" if self._is_cluster else "NUMSUB"
        with contextlib.suppress(BrokerUnavailable):
            self.run(RELEASE, group, GROUP_KEYS, (self.channel(group), counting), keeps=False)

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
        # Who waits for a subscription is told why it fails, so that has to be known before.
        for name in ("socket_connect_timeout", "socket_timeout"):
            timeout = getattr(connection, name, None)
            if timeout is not None:
                setattr(connection, name, timeout * CONNECT_SHARE)
        try:
            connection.connect()
        except MasterNotFoundError as error:
            raise RedisConnectionError(why_no_master(client, error)) from None
        return connection

    def look_again(self) -> None:
        """Find out anew which servers of a cluster there are."""
        if self._is_cluster:
            self._client.nodes_manager.initialize()

    # -- at work ----------------------------------------------------------------------------------

    @property
    def _client(self) -> Any:
        return self._shared.get()

    def _keys(self, group: str) -> list[str]:
        ground = self._key(group, "epoch") if self._is_cluster else self._ground
        return [*(self._key(group, name) for name in GROUP_KEYS), ground]

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
        with self._shared.in_use():
            return self._attempt_in_use(function, keeps=keeps)

    def _attempt_in_use(self, function: Callable[[], T], *, keeps: bool) -> T:
        try:
            result = function()
        except MasterNotFoundError as error:
            reason = why_no_master(self._client, error)
            raise self._health.failed(RedisConnectionError(reason)) from None
        except (RedisConnectionError, RedisTimeoutError, OSError) as error:
            # Only where the connection broke before the answer is that unknown: what the server
            # gets to late it leaves.
            is_open = str(error).startswith(("Connection closed", "Error while reading"))
            outcome = "it may have been sent" if is_open else "nothing was sent"
            raise self._health.failed(error, outcome) from None
        except ResponseError as error:
            self._health.succeeded()
            if _is_forbidden(error):
                raise BrokerRefused(str(self._permissions.failed(error))) from None
            raise BrokerRefused(str(self._keeping.failed(error))) from None
        except (RedisError, RedisClusterException) as error:
            raise self._health.failed(error) from None
        self._health.succeeded()
        self._permissions.succeeded()
        if keeps:
            self._keeping.succeeded()
        return result


def _is_forbidden(error: ResponseError) -> bool:
    """Whether the user lacks a permission, for the command or for one within a script."""
    text = str(error)
    # Redis 6.2 and 7 word it differently where a script is refused a command, a key or a channel.
    within = "The user executing the script", "ACL failure", "NOPERM"
    return isinstance(error, NoPermissionError) or any(each in text for each in within)


def _limits(history: History | None) -> tuple[str, str]:
    if history is None:
        return "", ""
    count = "" if history.messages is None else str(history.messages)
    age = "" if history.seconds is None else f"{history.seconds * 1000:.0f}"
    return count, age


def _split(message_id: str) -> tuple[str, str]:
    epoch, (milliseconds, number) = parse_id(message_id)
    return epoch, f"{milliseconds}-{number}"


def _replay(group: str, page: Any) -> Replay:
    position, complete, is_last, current, entries = page
    deliveries = []
    for entry, fields in entries:
        found = dict(zip(fields[::2], fields[1::2], strict=False))
        if b"message" not in found:
            continue
        try:
            message_id = b"%b-%b" % (found.get(b"epoch", current), entry)
            deliveries.append(decode(group, message_id.decode(), found[b"message"]))
        except ValueError:
            logger.error("something that isn't a message is kept for the group %r", group)
    return Replay(position.decode(), deliveries, bool(complete), bool(is_last))


def _nothing() -> None:
    """Wake the thread that renews, if it hasn't begun."""
