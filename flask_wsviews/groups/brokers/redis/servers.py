"""The servers behind a broker's URL: one, or those of a cluster."""

from __future__ import annotations

from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.sentinel import MasterNotFoundError

from .client import SharedClient
from .url import why_no_master

# The share of the timeout that connecting may take, when a caller waits for the whole timeout.
CONNECT_SHARE = 0.8


class Servers:
    """Opens connections to the servers, and names the commands that a cluster has instead.

    :param client: the client that calls the servers.
    :param is_cluster: whether they are a cluster.
    """

    def __init__(self, client: SharedClient, is_cluster: bool) -> None:
        self.client = client
        self.is_cluster = is_cluster
        #: The command that publishes in a script.
        self.publish_command = "SPUBLISH" if is_cluster else "PUBLISH"
        #: The commands that subscribe to a channel and unsubscribe from it.
        self.subscribe_commands = (
            ("SSUBSCRIBE", "SUNSUBSCRIBE") if is_cluster else ("SUBSCRIBE", "UNSUBSCRIBE")
        )
        #: The subcommand of PUBSUB that counts a channel's subscribers.
        self.count_command = "SHARDNUMSUB" if is_cluster else "NUMSUB"
        #: Whether one command can subscribe to several channels. In a cluster they would all have
        #: to be in one slot.
        self.takes_many_channels = not is_cluster

    def node_of(self, channel: str) -> str:
        """Return the name of the server that has *channel*; the same for all without a cluster."""
        if not self.is_cluster:
            return ""
        return str(self.client.get().get_node_from_key(channel).name)

    def connect(self, node: str) -> Any:
        """Open a connection of redis-py to one of the servers.

        :raises redis.exceptions.RedisError: if the server can't be reached.
        """
        client = self.client.get()
        if self.is_cluster:
            client = client.get_redis_connection(client.get_node(node_name=node))
        connection = client.connection_pool.make_connection()
        # Fail before the subscriber's own timeout, so that its error can give the reason.
        for name in ("socket_connect_timeout", "socket_timeout"):
            timeout = getattr(connection, name, None)
            if timeout is not None:
                setattr(connection, name, timeout * CONNECT_SHARE)
        try:
            connection.connect()
        except MasterNotFoundError as error:
            raise RedisConnectionError(why_no_master(client, error)) from None
        return connection

    def refresh(self) -> None:
        """Ask a cluster again which servers it has."""
        if self.is_cluster:
            self.client.get().nodes_manager.initialize()
