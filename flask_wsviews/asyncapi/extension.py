"""The extension that serves an application's AsyncAPI document, and a page that shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from flask.typing import ResponseReturnValue

from ..exceptions import ConfigError

if TYPE_CHECKING:
    from flask import Flask

#: Its key in ``app.extensions``.
EXTENSION = "wsviews_asyncapi"


class AsyncAPI:
    """Serves the AsyncAPI document of an application's WebSockets::

        AsyncAPI(app, title="Chat", version="2.0", url="/docs/ws", guard=login_required_here)

    The page at *url* has a console to try the WebSockets. The document is below it, as
    ``asyncapi.json`` and ``asyncapi.yaml``.

    :param app: the application; leave it out to call :meth:`init_app` later.
    :param title: the title of the API; by default the application's name.
    :param version: the version of the API.
    :param description: a description of the API, in Markdown.
    :param url: the URL prefix of the page and the document.
    :param guard: called without arguments before each request to them. It may ``abort()``, or
        return a response to send instead.
    :param servers: AsyncAPI's server objects by name.
    :param asyncapi_version: ``"3.0.0"`` or ``"3.1.0"``.
    :raises ConfigError: if the libraries of the extra ``asyncapi`` aren't installed.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        title: str | None = None,
        version: str = "1.0.0",
        description: str | None = None,
        url: str = "/docs/ws",
        guard: Callable[[], ResponseReturnValue | None] | None = None,
        servers: Mapping[str, Any] | None = None,
        asyncapi_version: str = "3.0.0",
    ) -> None:
        self.url = url
        self.guard = guard
        #: Arguments of ``asyncapi.document.document()``.
        self.options: dict[str, Any] = {
            "title": title,
            "version": version,
            "description": description,
            "servers": servers,
            "asyncapi_version": asyncapi_version,
        }
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Add the page and the document to an application.

        :raises ConfigError: if a library is missing, or the AsyncAPI version is unknown.
        """
        blueprint = import_part("blueprint").make_blueprint(self)
        if self.options["asyncapi_version"] not in import_part("document").VERSIONS:
            raise ConfigError(f"AsyncAPI {self.options['asyncapi_version']!r} isn't supported")
        app.extensions[EXTENSION] = self
        app.register_blueprint(blueprint, url_prefix=self.url)

    def document(self, app: Flask) -> dict[str, Any]:
        """Return the document of an application, with all rules registered so far."""
        made: dict[str, Any] = import_part("document").document(app, **self.options)
        return made


def import_part(name: str) -> Any:
    """Import a module of this package that needs the libraries of the extra ``asyncapi``.

    :raises ConfigError: if they aren't installed.
    """
    from importlib import import_module

    try:
        return import_module(f"{__package__}.{name}")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"AsyncAPI documents need {error.name}: pip install 'flask-wsviews[asyncapi]'"
        ) from error
