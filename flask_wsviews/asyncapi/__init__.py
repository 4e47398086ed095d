"""AsyncAPI documents of an application's WebSockets, and a page that shows them."""

from .extension import AsyncAPI

__all__ = ["AsyncAPI"]
