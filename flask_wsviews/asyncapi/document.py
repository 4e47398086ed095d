"""The AsyncAPI document of an application, made from its URL map and its views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..app_state import EXTENSION
from .channel import ChannelWriter
from .components import JSON, Components
from .text import slug, unused

if TYPE_CHECKING:
    from flask import Flask

#: The supported versions of AsyncAPI.
VERSIONS = ("3.0.0", "3.1.0")


def document(
    app: Flask,
    *,
    title: str | None = None,
    version: str = "1.0.0",
    description: str | None = None,
    servers: Mapping[str, Any] | None = None,
    asyncapi_version: str = "3.0.0",
) -> dict[str, Any]:
    """Describe the WebSockets of an application as an AsyncAPI document.

    :param app: an application with a :class:`~flask_wsviews.WebSocket`.
    :param title: the title of the API; by default the application's name.
    :param version: the version of the API.
    :param description: a description of the API, in Markdown.
    :param servers: AsyncAPI's server objects by name; none by default.
    :param asyncapi_version: ``"3.0.0"`` or ``"3.1.0"``.
    :raises ValueError: for another AsyncAPI version.
    :raises LookupError: if the application has no WebSocket extension.
    """
    if asyncapi_version not in VERSIONS:
        raise ValueError(f"AsyncAPI {asyncapi_version} isn't one of {', '.join(VERSIONS)}")
    if EXTENSION not in app.extensions:
        raise LookupError(f"no WebSocket(app) is set up for {app.name!r}")
    info = {"title": title or app.name, "version": version}
    if description:
        info["description"] = description
    made: dict[str, Any] = {
        "asyncapi": asyncapi_version,
        "info": info,
        "defaultContentType": JSON,
    }
    if servers:
        made["servers"] = dict(servers)
    components = Components()
    channels: dict[str, Any] = {}
    for rule in app.url_map.iter_rules():
        if rule.websocket:
            name = unused(slug(rule.endpoint), channels)
            view = app.view_functions[rule.endpoint]
            channels[name] = ChannelWriter(app, components, name, view).write(rule)
    return {
        **made,
        "channels": components.schemas.named(channels),
        "operations": components.operations,
        "components": components.write(),
    }
