"""What a view declares of the handshake's query and header fields, loaded by marshmallow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import jsonify, request
from marshmallow import EXCLUDE, ValidationError, fields
from werkzeug.exceptions import BadRequest

from ..messages.declared import SchemaLike, as_schema, error_messages, load_fields


def load_query(schema: SchemaLike) -> Any:
    """Load the query of the current request; a list field takes all values of its name.

    :raises werkzeug.exceptions.BadRequest: with the errors as JSON.
    """
    return _load("query", schema, request.args.getlist)


def load_headers(schema: SchemaLike) -> Any:
    """Load header fields of the current request.

    :raises werkzeug.exceptions.BadRequest: with the errors as JSON.
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
        # Others, a proxy's or a tracker's, are none of the schema's business.
        return schema.load(found, unknown=EXCLUDE)
    except ValidationError as error:
        answer = jsonify(errors={where: error_messages(error)})
        answer.status_code = 400
        raise BadRequest(response=answer) from error
