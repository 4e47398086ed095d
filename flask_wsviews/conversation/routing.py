"""From a message to the hook or handler that gets it, and to its reply."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import TYPE_CHECKING, Any

from ..common.steps import Step, Steps, hook_of
from ..exceptions import InvalidMessage
from ..views import WebSocketView

if TYPE_CHECKING:
    from ..clients.base import BaseClient
    from ..messages.protocol import Loaded
    from ..typing import Message


def take(view: WebSocketView, client: BaseClient[Any], message: Message) -> Steps:
    """Return the calls for one message: load it, call its handler, send the reply."""
    return Steps("on_message", partial(_take, view, client, message))


def _take(
    view: WebSocketView, client: BaseClient[Any], message: Message
) -> Generator[Step, Any, None]:
    loaded: Loaded | None = None
    try:
        loaded = type(view).protocol.take(message, client.app.json.loads)
        handler = loaded.handler
        if handler is None:
            yield partial(hook_of(view, "on_message"), client, loaded.data)
            return
        answer = yield partial(hook_of(view, handler.name), client, loaded.data)
        if answer is not None:
            yield partial(client._send_reply, handler, answer, loaded.ref)
    except InvalidMessage as error:
        if error.ref is None and loaded is not None:
            error.ref = loaded.ref
        on_invalid = hook_of(view, "on_invalid")
        # The default only sends, so on asyncio it needs no thread.
        is_default = getattr(on_invalid, "__func__", None) is WebSocketView.on_invalid
        yield partial(client.send_error if is_default else partial(on_invalid, client), error)
