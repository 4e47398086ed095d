"""Import path of the dispatcher: its code is in conversation/."""

from .conversation.dispatcher import Dispatcher

__all__ = [
    "Dispatcher",
]
