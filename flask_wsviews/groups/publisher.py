"""Publishing from where there is no Flask: scripts, task queues, other services."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from ..close_codes import POLICY_VIOLATION
from ..common.json_text import dump_text
from ..common.urls import shown_url
from ..config import Settings
from ..exceptions import ConfigError
from ..typing import Sendable
from .brokers import make_broker
from .declared import history_of
from .publications import make_disconnection, make_publication


class Publisher:
    """Sends messages to groups. It needs neither Flask nor a server, only the broker's URL::

        with Publisher("redis://localhost/0") as publisher:
            publisher.broadcast("orders", "one more")

    It may be shared by threads.

    :param broker_url: as ``WSVIEWS_BROKER_URL``.
    :param key_prefix: as ``WSVIEWS_KEY_PREFIX``.
    :param timeout: seconds that an answer of the broker may take.
    :raises ConfigError: if there is no such broker, or it is the memory of another process.
    """

    def __init__(
        self, broker_url: str, *, key_prefix: str = "wsviews", timeout: float = 2.0
    ) -> None:
        settings = Settings.from_mapping(
            {
                "WSVIEWS_BROKER_URL": broker_url,
                "WSVIEWS_KEY_PREFIX": key_prefix,
                "WSVIEWS_BROKER_TIMEOUT": timeout,
            }
        )
        self._broker = make_broker(settings)
        if not self._broker.is_shared:
            raise ConfigError(
                f"a Publisher can't use {shown_url(broker_url)!r}, which only reaches its own "
                "process: use redis://"
            )

    def broadcast(
        self,
        group: str,
        message: Sendable,
        *,
        exclude: Any = None,
        history: int | None = None,
        history_seconds: float | None = None,
        keep: bool = True,
    ) -> str | None:
        """Send a message to all members of a group, in all workers.

        A group that a member has joined keeps its history as the application has set it. Say it
        here if messages shall be kept before anybody has joined.

        :param message: ``str`` for text, ``bytes`` for a binary message.
        :param exclude: ids of connections that don't get it, one or several.
        :param keep: ``False`` to send it live only, and keep it out of the history.
        :returns: the message's id, if the group has a history that keeps it.
        :raises BrokerUnavailable: if it was not sent.
        :raises GroupError: if *group* isn't a name, or *exclude* has something else than ids.
        :raises RegistrationError: if a history can't be kept like that.
        """
        kept = history_of(history, history_seconds)
        return self._broker.publish(make_publication(group, message, exclude, False, kept, keep))

    def send_message(
        self,
        group: str,
        type: str,
        payload: Mapping[str, Any],
        *,
        exclude: Any = None,
        keep: bool = True,
        discriminator: str = "type",
    ) -> str | None:
        """Send a JSON object with a type, as :meth:`WebSocket.send_message` does.

        There is no view here whose schemas would dump it: *payload* goes out as it is.

        :param payload: what is sent beside the type.
        :param exclude: as for :meth:`broadcast`.
        :param keep: as for :meth:`broadcast`.
        :param discriminator: the field that tells the type.
        :returns: the message's id, if the group has a history that keeps it.
        :raises BrokerUnavailable: if it was not sent.
        :raises TypeError: if JSON can't express it.
        :raises OutgoingMessageError: if it has ``NaN`` or an infinite number, which JSON has not.
        """
        text = dump_text(json.dumps, {discriminator: type, **payload})
        return self._broker.publish(make_publication(group, text, exclude, True, None, keep))

    def disconnect(
        self,
        *,
        group: str | None = None,
        connection: str | None = None,
        code: int = POLICY_VIOLATION,
        reason: str = "",
    ) -> None:
        """Close all members of a group or one connection, as :meth:`WebSocket.disconnect` does.

        :param connection: the connection's id.
        :raises BrokerUnavailable: if that was not sent.
        :raises GroupError: if *group* isn't a name, or *connection* isn't an id.
        :raises ValueError: if code or reason can't go into a close frame.
        :raises TypeError: unless either a group or a connection is given.
        """
        self._broker.publish(make_disconnection(group, connection, code, reason))

    def close(self) -> None:
        """Close the connections to the broker."""
        self._broker.close()

    def __enter__(self) -> Publisher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
