"""A function route: one function that owns the conversation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..common.steps import is_coroutine_function
from ..messages.protocol import MessageProtocol
from ..views import WebSocketView


class FunctionView(WebSocketView):
    """The view of a function route, which calls the function once per connection.

    :param function: called as ``function(ws, **view_args)``.
    :param protocol: the messages that ``ws.receive()`` loads and ``ws.send_message()`` dumps.
    :param options: the options of the view, by name.
    """

    _wsviews_owns_conversation = True

    def __init__(
        self, function: Callable[..., Any], protocol: MessageProtocol | None = None, **options: Any
    ) -> None:
        self.function = function
        if protocol is not None:
            options["protocol"] = protocol
        for name, value in options.items():
            setattr(self, name, value)

    def _wsviews_declared(self) -> WebSocketView | type[WebSocketView]:
        """Return the object that has the options as attributes: the instance."""
        return self

    def _wsviews_is_async(self) -> bool:
        return is_coroutine_function(self.function)
