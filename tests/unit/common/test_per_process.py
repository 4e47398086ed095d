"""Objects that each process makes for itself."""

from __future__ import annotations

import os

import pytest

from flask_wsviews.common.per_process import PerProcess


def test_made_once_until_it_is_taken() -> None:
    one = PerProcess(object)
    assert one.peek() is None
    made = one.get()
    assert one.get() is one.peek() is made
    assert one.take() is made
    assert one.peek() is None
    assert one.take() is None
    assert one.get() is not made


def test_another_process_makes_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    one = PerProcess(object)
    made = one.get()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    other = one.get()
    assert other is not made
    assert one.get() is other


def test_what_a_fork_has_copied_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    one = PerProcess(object)
    one.get()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert one.peek() is None
    assert one.take() is None


def test_it_is_made_again_after_a_failure() -> None:
    outcomes = iter([OSError("no descriptor"), "made"])

    def make() -> str:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    one = PerProcess(make)
    with pytest.raises(OSError, match="no descriptor"):
        one.get()
    assert one.get() == "made"
