"""Import path of the dispatcher's old name: its code is in conversation/."""

from .conversation.conversation import Conversation as Dispatcher

__all__ = [
    "Dispatcher",
]
