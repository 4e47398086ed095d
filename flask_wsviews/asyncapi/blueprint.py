"""The routes of the document and of the page that shows it."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import flask
from flask import Response, current_app, render_template, request

from .output import to_json, to_yaml

if TYPE_CHECKING:
    from .extension import AsyncAPI

NAME = "wsviews_asyncapi"

RENDERER = Path(__file__).parent / "static" / "renderer"

#: Everything comes from the application itself. The renderer compiles JSON Schemas into functions,
#: which needs ``'unsafe-eval'``. No text from clients is compiled.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'unsafe-eval'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self' {websockets}",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'self'",
    )
)


def make_blueprint(asyncapi: AsyncAPI) -> flask.Blueprint:
    """Return a blueprint that serves the page and the document."""
    blueprint = flask.Blueprint(NAME, __name__, static_folder="static", template_folder="templates")
    if asyncapi.guard is not None:
        blueprint.before_request(asyncapi.guard)

    @blueprint.get("/")
    def page() -> Response:
        title = asyncapi.options["title"] or current_app.name
        html = render_template(
            "wsviews/asyncapi.html", title=title, version=asyncapi.options["version"]
        )
        # In some browsers 'self' doesn't include WebSockets.
        websockets = f"ws://{request.host} wss://{request.host}"
        policy = CONTENT_SECURITY_POLICY.format(websockets=websockets)
        return Response(html, headers={"Content-Security-Policy": policy})

    @blueprint.get("/asyncapi.json")
    def document_json() -> Response:
        return Response(to_json(asyncapi.document(current_app)), mimetype="application/json")

    @blueprint.get("/asyncapi.yaml")
    def document_yaml() -> Response:
        return Response(to_yaml(asyncapi.document(current_app)), mimetype="application/yaml")

    @blueprint.get("/renderer.js")
    def renderer_js() -> Response:
        return _compressed("asyncapi-react.js.gz", "text/javascript")

    @blueprint.get("/renderer.css")
    def renderer_css() -> Response:
        return flask.send_from_directory(RENDERER, "asyncapi-react.css")

    return blueprint


def _compressed(name: str, mimetype: str) -> Response:
    """Serve a file that is stored compressed, since most clients accept gzip."""
    data = (RENDERER / name).read_bytes()
    response = Response(mimetype=mimetype)
    response.set_etag(hashlib.sha256(data).hexdigest())
    response.vary.add("Accept-Encoding")
    response.cache_control.no_cache = True
    if request.accept_encodings.find("gzip") >= 0:
        response.content_encoding = "gzip"
        response.data = data
    else:
        response.data = gzip.decompress(data)
    response.make_conditional(request)
    return response
