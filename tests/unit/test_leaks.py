"""A test that leaves something behind fails with its name."""

from __future__ import annotations

import os
import threading

import pytest
from support import leaks
from support.leaks import Leaks


def test_what_stays_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "SECONDS", 0)
    before = Leaks()
    before.check()
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait, name="forgotten")
    thread.start()
    descriptor = os.open("/dev/zero", os.O_RDONLY)
    try:
        with pytest.raises(AssertionError) as caught:
            before.check()
    finally:
        os.close(descriptor)
        gate.set()
        thread.join()
    assert f"descriptor {descriptor}: /dev/zero" in str(caught.value)
    assert "thread forgotten, at:" in str(caught.value)
    before.check()
