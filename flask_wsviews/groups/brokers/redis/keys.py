"""The names of keys and channels in Redis."""

from __future__ import annotations


class Keys:
    """Names the keys and the channel of a group.

    :param prefix: the ``WSVIEWS_KEY_PREFIX``, with which every name begins.
    :param is_cluster: whether the server is a cluster. There, the keys of a script have to be of
        one group.
    """

    def __init__(self, prefix: str, is_cluster: bool) -> None:
        self._prefix = prefix
        self._is_cluster = is_cluster

    def key(self, group: str, name: str) -> str:
        """Return the key of *group* that ends in *name*."""
        # A cluster chooses the server by the part in braces, so a group's keys are on one server.
        return f"{self._prefix}:{{{group}}}:{name}"

    def of_history(self, group: str) -> list[str]:
        """Return the keys of the history scripts: stream, options and base epoch."""
        base = self.key(group, "epoch") if self._is_cluster else f"{self._prefix}:epoch"
        return [self.key(group, "stream"), self.key(group, "set"), base]

    def of_presence(self, group: str) -> list[str]:
        """Return the keys of the presence scripts: leases and members."""
        return [self.key(group, "leases"), self.key(group, "members")]

    def channel(self, group: str) -> str:
        """Return the channel of *group*."""
        return self.key(group, "channel")

    def group_of(self, channel: bytes) -> str:
        """Return the group of a channel."""
        return channel.decode()[len(self._prefix) + 2 : -len("}:channel")]
