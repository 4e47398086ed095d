"""The tree of exceptions, and which close codes may be sent."""

from __future__ import annotations

import pickle
import re
from copy import copy, deepcopy
from typing import Any

import pytest
from flask import Response
from werkzeug.exceptions import HTTPException

from flask_wsviews import exceptions
from flask_wsviews.exceptions import (
    CloseConnection,
    CommandError,
    ConfigError,
    ConnectionClosed,
    EngineError,
    GroupError,
    GroupRefused,
    InvalidMessage,
    RegistrationError,
    ServerError,
    WSViewsError,
    check_close,
)
from flask_wsviews.testing import HandshakeRejected


@pytest.mark.parametrize(
    ("error", "base"),
    [
        (ConfigError, ValueError),
        (RegistrationError, TypeError),
        (EngineError, RuntimeError),
        (ServerError, RuntimeError),
        (CommandError, RuntimeError),
        (ConnectionClosed, ConnectionError),
        (ConnectionClosed, OSError),
        (CloseConnection, Exception),
    ],
)
def test_the_tree(error: type[Exception], base: type[Exception]) -> None:
    assert issubclass(error, WSViewsError)
    assert issubclass(error, base)
    assert error.__name__ in (exceptions.__doc__ or "")


def test_closing_is_not_having_been_closed() -> None:
    assert not issubclass(CloseConnection, OSError)
    assert not issubclass(ConnectionClosed, CloseConnection)


@pytest.mark.parametrize(
    ("error", "code", "reason", "message"),
    [
        (ConnectionClosed(), 1006, "", "the WebSocket is closed with code 1006"),
        (ConnectionClosed(4000), 4000, "", "the WebSocket is closed with code 4000"),
        (
            ConnectionClosed(1001, "bye"),
            1001,
            "bye",
            "the WebSocket is closed with code 1001 (bye)",
        ),
    ],
)
def test_connection_closed(error: ConnectionClosed, code: int, reason: str, message: str) -> None:
    assert (error.code, error.reason) == (code, reason)
    assert str(error) == message


def test_close_connection() -> None:
    error = CloseConnection()
    assert (error.code, error.reason) == (1000, "")
    error = CloseConnection(4001, "enough")
    assert (error.code, error.reason) == (4001, "enough")


def all_of(base: type[Exception]) -> list[type[Exception]]:
    found = [base]
    for each in base.__subclasses__():
        found += [one for one in all_of(each) if one not in found]
    return [each for each in found if each.__module__.startswith("flask_wsviews")]


EVERY = [*all_of(WSViewsError), *all_of(HTTPException), HandshakeRejected]

ARGUMENTS: dict[type[Exception], tuple[Any, ...]] = {
    InvalidMessage: ({"text": ["Missing."]}, "unknown_type", 5, "{}"),
    ConnectionClosed: (4000, "bye"),
    CloseConnection: (4001, "enough"),
    GroupRefused: ("room:7",),
    HandshakeRejected: (Response("no", 403),),
}


@pytest.mark.parametrize("error", EVERY, ids=lambda error: error.__name__)
@pytest.mark.parametrize(
    "twice",
    [lambda e: pickle.loads(pickle.dumps(e)), copy, deepcopy],
    ids=["pickle", "copy", "deep"],
)
def test_they_survive_pickling_and_copying(error: type[Exception], twice: Any) -> None:
    if error is HandshakeRejected and twice is not copy:
        pytest.skip("its response is what Flask's test client has made")
    original = error(*ARGUMENTS.get(error, ("what is wrong",)))
    original.note = "kept"  # type: ignore[attr-defined]
    again = twice(original)
    assert type(again) is error
    assert (str(again), again.args, vars(again)) == (
        str(original),
        original.args,
        vars(original),
    )


def test_a_group_error_keeps_its_code() -> None:
    assert pickle.loads(pickle.dumps(GroupError("no", code=1008))).code == 1008


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4999])
def test_codes_that_can_be_sent(code: int) -> None:
    check_close(code, "")
    assert CloseConnection(code).code == code


@pytest.mark.parametrize("code", ["1000", 4000.0, 4000.5, True, None, [4000]], ids=repr)
def test_what_is_no_code(code: Any) -> None:
    """As a client's JSON may have it."""
    with pytest.raises(ValueError, match=f"^{re.escape(repr(code))} can't be sent"):
        check_close(code, "")


@pytest.mark.parametrize("code", [-1, 0, 999, 1004, 1005, 1006, 1015, 1999, 2999, 5000, 70000])
def test_codes_that_can_not_be_sent(code: int) -> None:
    with pytest.raises(ValueError, match=f"^{code} can't be sent"):
        CloseConnection(code)


def test_the_longest_reason() -> None:
    check_close(1000, "x" * 123)
    check_close(1000, "é" * 61)
    for reason in ("x" * 124, "é" * 62):
        with pytest.raises(ValueError, match="123 bytes"):
            CloseConnection(1000, reason)
