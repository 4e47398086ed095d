"""What engines check before the first connection; their work is tested on real servers."""

from __future__ import annotations

import stat
import sys
from types import SimpleNamespace

import pytest
from flask import Flask

from flask_wsviews import EngineError, WebSocket
from flask_wsviews.engines import make_engine
from flask_wsviews.uwsgi_command import wheel_interpreter


def test_a_uwsgi_without_threads_is_refused_at_the_start(monkeypatch):
    # A release this old can't be had here: from 2.0.31 on, threads can't be switched off.
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(has_threads=0, loop=None))
    with pytest.raises(EngineError, match="add --enable-threads"):
        WebSocket(Flask(__name__))


def test_a_uwsgi_with_threads_is_accepted(monkeypatch):
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(has_threads=1, loop=None))
    assert WebSocket(Flask(__name__)).engine.name == "blocking"


def test_an_engine_that_does_not_exist_is_named_with_those_that_do():
    with pytest.raises(EngineError, match="no engine 'twisted'; known are blocking, gevent"):
        make_engine("twisted")


@pytest.mark.parametrize(
    ("first_bytes", "is_wheel"), [(b"#!/usr/bin/python", True), (b"\x7fELF", False)]
)
def test_the_script_of_a_wheel_is_run_again_by_its_own_python(tmp_path, first_bytes, is_wheel):
    binary, python = tmp_path / "uwsgi", tmp_path / "python"
    binary.write_bytes(first_bytes)
    python.touch(stat.S_IRWXU)
    assert wheel_interpreter(str(binary)) == (str(python) if is_wheel else None)
