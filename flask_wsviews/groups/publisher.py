"""Publishes without Flask: from scripts, task queues and other services."""

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

    Threads can share it.

    :param broker_url: the application's ``WSVIEWS_BROKER_URL``.
    :param key_prefix: the application's ``WSVIEWS_KEY_PREFIX``.
    :param timeout: seconds that an answer of the broker may take.
    :raises ConfigError: if the URL isn't valid, or its broker doesn't reach other processes.
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

        Once a member has joined, the group's history is kept as the application has set it. Pass
        *history* here to keep messages before that.

        :param message: ``str`` for text, ``bytes`` for a binary message.
        :param exclude: ids of connections that don't get it, one or several.
        :param history: how many messages to keep.
        :param history_seconds: for how many seconds to keep them.
        :param keep: ``False`` to send the message live only, and not keep it in the history.
        :returns: the message's id, if a history keeps it.
        :raises BrokerUnavailable: if the message was not sent.
        :raises GroupError: if *group* isn't a valid name, or *exclude* contains something that
            isn't an id.
        :raises RegistrationError: if *history* or *history_seconds* isn't valid.
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

        No schema dumps *payload*: it is sent as it is.

        :param type: the message's type.
        :param payload: the other fields.
        :param exclude: as for :meth:`broadcast`.
        :param keep: as for :meth:`broadcast`.
        :param discriminator: the field that holds the type.
        :returns: the message's id, if a history keeps it.
        :raises BrokerUnavailable: if the message was not sent.
        :raises TypeError: if JSON can't represent the payload.
        :raises OutgoingMessageError: if it contains ``NaN`` or infinity, which JSON doesn't allow.
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

        :param group: the group's name.
        :param connection: the connection's id.
        :param code: the close code.
        :param reason: the close reason.
        :raises BrokerUnavailable: if the request was not sent.
        :raises GroupError: if *group* isn't a valid name, or *connection* isn't an id.
        :raises ValueError: if a close frame can't carry the code or the reason.
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
