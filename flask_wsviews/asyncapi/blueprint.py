"""The routes of the document and its page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import flask
from flask import Response, current_app

from .output import to_json, to_yaml

if TYPE_CHECKING:
    from .extension import AsyncAPI

NAME = "wsviews_asyncapi"


def make_blueprint(asyncapi: AsyncAPI) -> flask.Blueprint:
    """A blueprint that serves what *asyncapi* describes."""
    blueprint = flask.Blueprint(NAME, __name__, static_folder="static")
    if asyncapi.guard is not None:
        blueprint.before_request(asyncapi.guard)

    @blueprint.get("/asyncapi.json")
    def document_json() -> Response:
        return Response(to_json(asyncapi.document(current_app)), mimetype="application/json")

    @blueprint.get("/asyncapi.yaml")
    def document_yaml() -> Response:
        return Response(to_yaml(asyncapi.document(current_app)), mimetype="application/yaml")

    return blueprint
