"""The tree of exceptions, and which close codes may be sent."""

from __future__ import annotations

import pickle

import pytest

from flask_wsviews import exceptions
from flask_wsviews.exceptions import (
    CloseConnection,
    CommandError,
    ConfigError,
    ConnectionClosed,
    EngineError,
    RegistrationError,
    ServerError,
    WSViewsError,
    check_close,
)


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


@pytest.mark.parametrize("error", [ConnectionClosed(4000, "bye"), CloseConnection(4001, "enough")])
def test_they_survive_pickling(error: ConnectionClosed | CloseConnection) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (copy.code, copy.reason) == (error.code, error.reason)


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4999])
def test_codes_that_can_be_sent(code: int) -> None:
    check_close(code, "")
    assert CloseConnection(code).code == code


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
