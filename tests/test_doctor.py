"""``flask ws doctor``: whether what the WebSockets need is there."""

from __future__ import annotations

from pathlib import Path

from click.testing import Result
from flask import Flask
from redis_server import redis_server
from servers import free_port

from flask_wsviews import WebSocket


def doctor(url: str) -> Result:
    app = Flask(__name__)
    app.config.update(WSVIEWS_BROKER_URL=url, WSVIEWS_BROKER_TIMEOUT=1.0)
    WebSocket(app)
    return app.test_cli_runner().invoke(args=["ws", "doctor"])


def test_groups_in_memory() -> None:
    result = doctor("memory://")
    assert result.exit_code == 0
    assert "memory://: groups are in the memory of a single worker" in result.output


def test_a_broker_that_answers(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--requirepass", "secret") as redis:
        result = doctor(redis.url.replace("//", "//:secret@"))
        assert result.exit_code == 0
        assert f"redis://127.0.0.1:{redis.port}/0 answers" in result.output
        assert "secret" not in result.output
        wrong = doctor(redis.url.replace("//", "//:wrong@"))
        assert wrong.exit_code == 1
        assert "password" in wrong.output


def test_a_broker_that_is_away() -> None:
    result = doctor(f"redis://127.0.0.1:{free_port()}/0")
    assert result.exit_code == 1
    assert "is WSVIEWS_BROKER_URL right?" in result.output
