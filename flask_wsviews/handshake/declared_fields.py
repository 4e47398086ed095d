"""Load the handshake's query and headers by a view's ``query_schema`` and ``headers_schema``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import jsonify, request
from marshmallow import EXCLUDE, ValidationError, fields
from werkzeug.exceptions import BadRequest

from ..messages.schemas import SchemaLike, as_schema, error_messages, load_fields


def load_query(schema: SchemaLike) -> Any:
    """Load the query of the current request. A list field gets all values of its name.

    :raises werkzeug.exceptions.BadRequest: if they are invalid. Its body has the errors as JSON.
    """
    return _load("query", schema, request.args.getlist)


def load_headers(schema: SchemaLike) -> Any:
    """Load the headers of the current request. A list field gets all values of its name.

    :raises werkzeug.exceptions.BadRequest: if they are invalid. Its body has the errors as JSON.
    """
    return _load("headers", schema, request.headers.getlist)


def _load(where: str, declared: SchemaLike, values: Callable[[str], list[str]]) -> Any:
    schema = as_schema(where, declared)
    assert schema is not None
    found = {}
    for key, field in load_fields(schema).items():
        given = values(key)
        if given:
            found[key] = given if isinstance(field, fields.List) else given[0]
    try:
        # Proxies and trackers add fields that no schema declares.
        return schema.load(found, unknown=EXCLUDE)
    except ValidationError as error:
        answer = jsonify(errors={where: error_messages(error)})
        answer.status_code = 400
        raise BadRequest(response=answer) from error
